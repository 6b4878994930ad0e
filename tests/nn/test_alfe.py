"""The encoder of one spectrum and its descriptor head."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rrl_register.nn.encoder import ALFE, MGLA, DescriptorHead

torch.set_num_threads(1)

CHANNELS = (16, 32, 64, 128, 256)
SIZES = (64, 32, 16, 8, 4)


@pytest.fixture(scope="module")
def encoder() -> ALFE:
    torch.manual_seed(3)
    return ALFE().eval()


@pytest.fixture(scope="module")
def patches() -> Tensor:
    return torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("attention", [True, False])
def test_each_stage_doubles_the_channels_and_halves_the_side(attention: bool, patches: Tensor) -> None:
    shapes = [tuple(stage.shape) for stage in ALFE(attention).eval()(patches)]
    assert shapes == [(2, c, s, s) for c, s in zip(CHANNELS, SIZES, strict=True)]


def test_without_attention_no_attention_is_left() -> None:
    assert not any(isinstance(module, MGLA) for module in ALFE(attention=False).modules())
    assert sum(isinstance(module, MGLA) for module in ALFE().modules()) == 5


def test_a_stage_is_convolution_norm_leaky_relu_pooling_and_attention(encoder: ALFE, patches: Tensor) -> None:
    expected = patches
    for index, stage in enumerate(encoder(patches)):
        conv, norm, _ = encoder.convs[index]
        expected = functional.conv2d(expected, conv.weight, padding=1)
        expected = functional.batch_norm(expected, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        expected = torch.where(expected > 0, expected, 0.1 * expected)
        if index > 0:
            expected = functional.max_pool2d(expected, 2)
        expected = encoder.attentions[index](expected)
        assert torch.allclose(stage, expected, atol=1e-5)


def test_convolutions_start_he_normal(encoder: ALFE) -> None:
    last = encoder.convs[-1][0]
    assert isinstance(last, nn.Conv2d)
    deviation = math.sqrt(2 / (1 + 0.1**2) / (128 * 9))
    assert math.isclose(float(last.weight.detach().std()), deviation, rel_tol=0.02)


@torch.no_grad()
def test_descriptors_have_unit_length_whatever_the_contrast(encoder: ALFE, patches: Tensor) -> None:
    head = DescriptorHead().eval()
    last = encoder(patches)[-1]
    descriptors = head(torch.cat([last, 1000 * last]))
    assert descriptors.shape == (4, 128)
    assert torch.allclose(descriptors.norm(dim=1), torch.ones(4), atol=1e-5)
    assert float(descriptors[0] @ descriptors[1]) < 0.999


def test_descriptors_stay_in_single_precision_under_autocast(encoder: ALFE, patches: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        descriptors = DescriptorHead().eval()(encoder(patches)[-1])
    assert descriptors.dtype == torch.float32
    assert torch.allclose(descriptors.norm(dim=1), torch.ones(2), atol=1e-5)

"""The attention module against the paper's recipe, written out plainly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rrl_register.nn.encoder import MGLA, mgla_kernel_size

torch.set_num_threads(1)


@pytest.fixture
def feature_map() -> Tensor:
    """Height and width differ, so that a mix-up of the two shows; values large enough for uneven softmax weights."""
    return 3 * torch.randn(2, 32, 16, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def module() -> MGLA:
    torch.manual_seed(2)
    return MGLA(channels=32, size=16)


def plain_gate(x: Tensor, dimension: int, kernel: Tensor) -> Tensor:
    along = x.permute(0, dimension, *(d for d in (1, 2, 3) if d != dimension))
    weights = torch.softmax(along.mean(1).flatten(1), 1).reshape(len(x), *along.shape[2:])
    summed = torch.einsum("ndab,nab->nd", along, weights)
    padded = functional.pad(summed, (kernel.shape[-1] // 2,) * 2)
    local = torch.stack([(window * kernel[0, 0]).sum(-1) for window in padded.unfold(1, kernel.shape[-1], 1)])
    return torch.sigmoid(local)


# (log2 d + 1) / 2 is 1.5, 2, 2.5, 3, 3.5, 4, 4.5; cut to 1, 2, 2, 3, 3, 4, 4; even ones plus 1.
@pytest.mark.parametrize(("length", "kernel"), [(4, 1), (8, 3), (16, 3), (32, 3), (64, 3), (128, 5), (256, 5)])
def test_kernel_sizes_are_those_of_the_formula(length: int, kernel: int) -> None:
    assert mgla_kernel_size(length) == kernel


@pytest.mark.parametrize("index", [0, 1, 2], ids=["channel", "height", "width"])
def test_gates_are_those_of_the_plain_recipe(module: MGLA, feature_map: Tensor, index: int) -> None:
    local = (module.local_channel, module.local_height, module.local_width)[index]
    expected = plain_gate(feature_map, index + 1, local.weight)
    assert torch.allclose(module.gates(feature_map)[index], expected, atol=1e-6)


def test_the_output_is_the_map_times_its_three_gates(module: MGLA, feature_map: Tensor) -> None:
    channel, height, width = module.gates(feature_map)
    expected = torch.einsum("nchw,nc,nh,nw->nchw", feature_map, channel, height, width)
    assert torch.allclose(module(feature_map), expected, atol=1e-6)


def test_the_layout_in_memory_does_not_matter(module: MGLA, feature_map: Tensor) -> None:
    channels_last = feature_map.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(module(channels_last), module(feature_map), atol=1e-6)


def test_maps_of_a_batch_do_not_see_each_other(module: MGLA, feature_map: Tensor) -> None:
    assert torch.allclose(module(feature_map)[:1], module(feature_map[:1]), atol=1e-6)


def test_a_module_has_only_its_three_kernels() -> None:
    assert sum(p.numel() for p in MGLA(256, 4).parameters()) == 5 + 1 + 1
    assert sum(p.numel() for p in MGLA(16, 64).parameters()) == 3 + 3 + 3

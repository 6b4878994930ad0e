"""The reconstruction branch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rrl_register.nn.encoder import MGLA, Decoder
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import RRLNet

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    torch.manual_seed(11)
    return Decoder().eval()


def test_four_stages_halve_the_channels_and_double_the_side(decoder: Decoder) -> None:
    x = torch.randn(2, 256, 4, 4, generator=torch.Generator().manual_seed(12))
    shapes = []
    for stage in decoder.stages:
        assert isinstance(stage, nn.Sequential)
        assert isinstance(stage[-1], MGLA)
        x = stage(x)
        shapes.append(tuple(x.shape))
    assert shapes == [(2, 128, 8, 8), (2, 64, 16, 16), (2, 32, 32, 32), (2, 16, 64, 64)]


def test_the_picture_is_one_patch_between_black_and_white() -> None:
    torch.manual_seed(13)
    decoder = Decoder()
    convolution = decoder.output[0]
    assert isinstance(convolution, nn.Conv2d)
    nn.init.normal_(convolution.weight, std=20)
    with torch.no_grad():
        picture = decoder(torch.randn(2, 256, 4, 4))
    assert picture.shape == (2, 1, 64, 64)
    assert 0 <= float(picture.min()) < 0.01
    assert 0.99 < float(picture.max()) <= 1


def test_the_reconstruction_teaches_its_own_encoder_and_no_other() -> None:
    torch.manual_seed(14)
    net = RRLNet()
    patches = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(15))
    net.reconstruct(net.encode(patches, Spectrum.OTHER)).sum().backward()
    own, foreign = net.branch(Spectrum.OTHER).encoder, net.branch(Spectrum.VISIBLE).encoder
    assert all(p.grad is not None and p.grad.any() for p in own.parameters())
    assert all(p.grad is None for p in foreign.parameters())

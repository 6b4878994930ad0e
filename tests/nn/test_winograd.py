"""Convolutions by Winograd's filtering are the convolutions that they stand in for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rrl_register.nn import winograd as subject
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.winograd import WinogradConv, quicken_convolutions

torch.set_num_threads(1)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def convolution(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


@torch.no_grad()
@pytest.mark.parametrize("size", [(4, 4), (8, 8), (16, 16), (8, 12), (5, 7), (1, 1)])
def test_outputs_are_those_of_the_convolution(size: tuple[int, int]) -> None:
    conv, x = convolution(12, 20), normal(2, 3, 12, *size)
    found = WinogradConv(conv)(x)
    assert found.shape == (3, 20, *size)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, conv(x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_neither_bias_nor_layout_matter() -> None:
    conv, x = convolution(12, 20, bias=False), normal(3, 2, 12, 8, 8)
    found = WinogradConv(conv)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, conv(x), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("tiles", [1, 9, 10_000])
def test_chunks_do_not_show(tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    conv, x = convolution(6, 6), normal(4, 7, 6, 8, 8)
    monkeypatch.setattr(subject, "TILES_PER_CHUNK", tiles)
    torch.testing.assert_close(WinogradConv(conv)(x), conv(x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_no_patches_give_none() -> None:
    assert WinogradConv(convolution(6, 6))(torch.empty(0, 6, 8, 8)).shape == (0, 6, 8, 8)


@torch.no_grad()
def test_an_impulse_gives_the_kernel() -> None:
    conv = convolution(1, 1, bias=False)
    impulse = torch.zeros(1, 1, 7, 7)
    impulse[0, 0, 3, 3] = 1
    found = WinogradConv(conv)(impulse)[0, 0]
    torch.testing.assert_close(found[2:5, 2:5], conv.weight[0, 0].flip(0, 1), rtol=0, atol=1e-6)
    found[2:5, 2:5] = 0
    assert float(found.abs().max()) < 1e-6


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2),
    ],
    ids=["kernel", "padding", "stride", "groups", "dilation"],
)
def test_other_convolutions_are_refused_and_left_alone(conv: nn.Conv2d, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="kernel 3 x 3, padding 1, stride 1"):
        WinogradConv(conv)
    monkeypatch.setattr(subject, "FEWEST_CHANNELS", 1)
    assert quicken_convolutions(nn.Sequential(conv))[0] is conv


def test_wide_convolutions_alone_are_replaced(make_network: Callable[..., RRLNet]) -> None:
    net = quicken_convolutions(make_network())
    left = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert sum(isinstance(m, WinogradConv) for m in net.modules()) == 2 * 2 + 2 * 4
    assert all(min(m.in_channels, m.out_channels) < subject.FEWEST_CHANNELS for m in left)

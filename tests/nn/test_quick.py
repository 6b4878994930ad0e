"""The quick forms of the network's layers give the numbers of the layers that they stand in for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rrl_register.nn import quick as subject
from rrl_register.nn.encoder_choice import Spectrum
from rrl_register.nn.folding import fold_batch_norms
from rrl_register.nn.mgla import MGLA
from rrl_register.nn.quick import QuickMGLA, quicken
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.winograd import WinogradConv

torch.set_num_threads(1)


@pytest.fixture
def feature_map() -> Tensor:
    """Height and width differ, so that a mix-up of the two shows; values large enough for uneven softmax weights."""
    return 3 * torch.randn(5, 32, 16, 12, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("values", [1, 2 * 32 * 16 * 12, 2**30])
def test_attention_is_the_same_in_any_chunks(
    feature_map: Tensor, layout: torch.memory_format, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(2)
    attention = MGLA(channels=32, size=16)
    monkeypatch.setattr(subject, "VALUES_PER_CHUNK", values)
    found = QuickMGLA(attention)(feature_map.to(memory_format=layout))
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, attention(feature_map), rtol=0, atol=1e-5)


@torch.no_grad()
def test_no_patches_give_none() -> None:
    assert QuickMGLA(MGLA(4, 8))(torch.empty(0, 4, 8, 8)).shape == (0, 4, 8, 8)


@torch.no_grad()
def test_a_quickened_network_says_the_same(make_network: Callable[..., RRLNet]) -> None:
    net = make_network()
    patches = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(5))

    def answers() -> tuple[Tensor, Tensor]:
        visible, other = net.encode(patches, Spectrum.VISIBLE), net.encode(1 - patches, Spectrum.OTHER)
        return visible.descriptors, net.score(visible, other)

    before = answers()
    assert quicken(fold_batch_norms(net)) is net
    assert sum(isinstance(module, QuickMGLA) for module in net.modules()) == 10
    assert any(isinstance(module, WinogradConv) for module in net.modules())
    after = answers()
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=1e-4)

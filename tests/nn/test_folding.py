"""Folded batch norms give the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.runtime import fold_batch_norms


def test_folding_keeps_descriptors_and_scores(make_network: Callable[..., RRLNet]) -> None:
    net = make_network().eval()
    patches = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = net.encode(patches, Spectrum.VISIBLE), net.encode(patches, Spectrum.OTHER)
        scores = net.score(*before)
        fold_batch_norms(net)
        after = net.encode(patches, Spectrum.VISIBLE), net.encode(patches, Spectrum.OTHER)
        torch.testing.assert_close(after[0].descriptors, before[0].descriptors, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(net.score(*after), scores, rtol=1e-3, atol=1e-4)


def test_every_batch_norm_is_gone() -> None:
    net = RRLNet(training_heads=False).eval()
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    fold_batch_norms(net)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())

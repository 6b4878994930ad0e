"""What two patches have in common, and what each has alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rrl_register.nn.architecture import InteractionKind
from rrl_register.nn.relation import FeatureGate, Gated, Plain, feature_gate, interact, private

torch.set_num_threads(1)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def pair() -> tuple[Gated, Gated]:
    def one(seed: int) -> Gated:
        return Gated(normal(seed, 2, 8, 4, 4), torch.sigmoid(normal(seed + 1, 2, 8, 4, 4)))

    return one(1), one(3)


def test_common_and_private_features_follow_the_formula(pair: tuple[Gated, Gated]) -> None:
    (f_a, g_a), (f_b, g_b) = [(p.feature.numpy(), p.gate.numpy()) for p in pair]
    found = interact(*pair)
    assert np.allclose(found.common_fixed, f_a * g_b)
    assert np.allclose(found.common_moving, f_b * g_a)
    assert np.allclose(found.private_fixed, np.abs(f_a * g_b - f_a), atol=1e-6)
    assert np.allclose(found.private_moving, np.abs(f_b * g_a - f_b), atol=1e-6)


def test_what_the_other_lets_through_entirely_is_not_private(pair: tuple[Gated, Gated]) -> None:
    fixed, moving = pair
    found = interact(fixed, moving._replace(gate=torch.ones_like(moving.gate)))
    assert torch.equal(found.common_fixed, fixed.feature)
    assert not found.private_fixed.any()
    assert found.private_moving.any()


def test_feature_and_gate_are_pointwise_convolution_norm_and_activation() -> None:
    torch.manual_seed(5)
    module = FeatureGate(8).eval()
    for norm in (module.feature[1], module.gate[1]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    stage = normal(6, 2, 8, 4, 4)

    def normalised(branch: torch.nn.Sequential) -> Tensor:
        conv, norm = branch[0], branch[1]
        mixed = torch.einsum("oi,nihw->nohw", conv.weight[:, :, 0, 0], stage)
        mean, variance = (v[:, None, None] for v in (norm.running_mean, norm.running_var))
        return (mixed - mean) / torch.sqrt(variance + norm.eps)

    feature, gate = module(stage)
    expected = normalised(module.feature)
    assert torch.allclose(feature, torch.where(expected > 0, expected, 0.1 * expected), atol=1e-5)
    assert torch.allclose(gate, 1 / (1 + torch.exp(-normalised(module.gate))), atol=1e-5)


def test_the_difference_takes_features_for_common_and_what_one_has_more_of_for_private() -> None:
    a, b = normal(7, 2, 8, 4, 4), normal(8, 2, 8, 4, 4)
    found = interact(Plain(a), Plain(b))
    assert torch.equal(found.common_fixed, a)
    assert torch.equal(found.common_moving, b)
    assert np.allclose(found.private_fixed, np.maximum(a.numpy() - b.numpy(), 0))
    assert np.allclose(found.private_moving, np.maximum(b.numpy() - a.numpy(), 0))


def test_private_features_alone_are_those_of_the_interaction(pair: tuple[Gated, Gated]) -> None:
    plain = Plain(pair[0].feature), Plain(pair[1].feature)
    for fixed, moving in (pair, plain):
        whole, alone = interact(fixed, moving), private(fixed, moving)
        assert torch.equal(alone.private_fixed, whole.private_fixed)
        assert torch.equal(alone.private_moving, whole.private_moving)


def test_the_difference_has_nothing_to_learn() -> None:
    gate = feature_gate(InteractionKind.DIFFERENCE, 8)
    assert not gate.state_dict()
    stage = normal(9, 2, 8, 4, 4)
    assert gate(stage) == Plain(stage)
    assert isinstance(feature_gate(InteractionKind.FIL, 8), FeatureGate)


@pytest.mark.parametrize("index", [torch.tensor([1, 1, 0]), slice(1, 2)])
def test_patches_are_gathered_in_the_order_asked_for(pair: tuple[Gated, Gated], index: Tensor | slice) -> None:
    whole = pair[0]
    assert torch.equal(whole.gather(index).feature, whole.feature[index])
    assert torch.equal(whole.gather(index).gate, whole.gate[index])
    assert torch.equal(Plain(whole.feature).gather(index).feature, whole.feature[index])

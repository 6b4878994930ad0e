"""Losses of training, each against its formula written out."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from torch import Tensor

from rrl_register.errors import UsageError
from rrl_register.nn.relation import HeadLogits
from rrl_register.training.steps import Reconstruction, descriptor_loss, hard_negatives, match_loss, reconstruction_loss

torch.set_num_threads(1)


def unit(seed: int, n: int = 5) -> Tensor:
    vectors = torch.randn(n, 16, generator=torch.Generator().manual_seed(seed))
    return vectors / vectors.norm(dim=1, keepdim=True)


def nothing_ignored(n: int = 5) -> Tensor:
    return torch.eye(n, dtype=torch.bool)


def plain_descriptor_loss(visible: Tensor, other: Tensor, near: Tensor, ignore: Tensor, temperature: float) -> float:
    def surprise(right: float, wrong: list[float]) -> float:
        return math.log(sum(math.exp((s - right) / temperature) for s in [right, *wrong]))

    n = len(visible)
    similarity = (visible @ other.T).tolist()
    total = 0.0
    for i in range(n):
        negatives = [j for j in range(n) if j != i and not ignore[i, j]]
        total += surprise(similarity[i][i], [similarity[i][j] for j in negatives] + [float(visible[i] @ near[i])])
        negatives = [j for j in range(n) if j != i and not ignore[j, i]]
        total += surprise(similarity[i][i], [similarity[j][i] for j in negatives])
    return total / (2 * n)


def test_the_descriptor_loss_is_a_softmax_both_ways_with_near_misses() -> None:
    ignore = nothing_ignored()
    ignore[0, 2] = ignore[3, 1] = True
    found = descriptor_loss(unit(1), unit(2), unit(3), ignore, 0.1)
    assert float(found) == pytest.approx(plain_descriptor_loss(unit(1), unit(2), unit(3), ignore, 0.1), rel=1e-5)


def test_right_descriptors_cost_less_than_wrong_ones_and_near_misses_cost() -> None:
    visible, away = unit(1), torch.zeros(5, 16)
    right = descriptor_loss(visible, visible, away, nothing_ignored(), 0.06)
    assert right < 0.1
    assert descriptor_loss(visible, visible.roll(1, 0), away, nothing_ignored(), 0.06) > 1
    assert descriptor_loss(visible, visible, visible, nothing_ignored(), 0.06) > right + 0.3


def test_hard_negatives_are_drawn_from_the_most_similar_wrong_ones() -> None:
    visible, other = unit(1, 8), unit(2, 8)
    generator = torch.Generator().manual_seed(4)
    drawn = torch.stack([hard_negatives(visible, other, nothing_ignored(8), 3, generator) for _ in range(60)])
    similarity = (visible @ other.T).masked_fill(nothing_ignored(8), -9)
    for i in range(8):
        assert set(drawn[:, i].tolist()) == set(similarity[i].argsort(descending=True)[:3].tolist())


@pytest.mark.parametrize("top", [1, 3, 8])
def test_no_patch_is_a_negative_of_its_own_place(top: int) -> None:
    """Neither the match itself nor what lies too close to it, even where hardly anything else is left."""
    ignore = nothing_ignored(6)
    ignore[:5, :5] = True
    generator = torch.Generator().manual_seed(5)
    for _ in range(40):
        drawn = hard_negatives(unit(1, 6), unit(2, 6), ignore, top, generator)
        assert not ignore[torch.arange(6), drawn].any()


def test_the_match_loss_adds_weighted_heads() -> None:
    logits, labels = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0])
    heads = HeadLogits([torch.tensor([0.0, 0.0])], [torch.tensor([-3.0, 3.0]), torch.tensor([1.0, -1.0])])

    def entropy(right: float) -> float:
        return math.log(1 + math.exp(-right))

    plain = (entropy(2) + entropy(1)) / 2
    modules = entropy(-3) + entropy(1)
    found = float(match_loss(logits, heads, labels, stage_weight=0.3, module_weight=0.2))
    assert found == pytest.approx(plain + 0.3 * entropy(0) + 0.2 * modules, rel=1e-5)
    assert float(match_loss(logits, heads, labels, 0, 0)) == pytest.approx(plain, rel=1e-5)


def test_without_near_misses_only_the_batch_is_told_apart() -> None:
    ignore = nothing_ignored()
    nothing_alike = torch.full((5, 16), -1e3)
    found = descriptor_loss(unit(1), unit(2), None, ignore, 0.1)
    assert float(found) == pytest.approx(
        float(descriptor_loss(unit(1), unit(2), nothing_alike * unit(1).sign(), ignore, 0.1)), rel=1e-5
    )


@pytest.mark.parametrize("kind", Reconstruction)
def test_reconstruction_is_free_for_the_patch_itself(kind: Reconstruction) -> None:
    if kind is Reconstruction.SSIM:
        pytest.importorskip("kornia")
    patches = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(6))
    assert float(reconstruction_loss(patches, patches, kind)) == pytest.approx(0, abs=1e-6)


def test_structure_that_is_lost_costs_by_ssim_what_pixels_hardly_notice() -> None:
    pytest.importorskip("kornia")
    stripes = 0.5 + 0.1 * (torch.arange(64.0) % 8 - 3.5).sign().expand(1, 1, 64, 64)
    flat = torch.full_like(stripes, 0.5)
    pixels = float(reconstruction_loss(flat, stripes, Reconstruction.PIXEL))
    assert pixels == pytest.approx(0.01, rel=1e-4)
    assert float(reconstruction_loss(flat, stripes, Reconstruction.SSIM)) > 50 * pixels


def test_ssim_without_kornia_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia.losses", None)
    patches = torch.rand(2, 1, 64, 64)
    with pytest.raises(UsageError, match="pip install"):
        reconstruction_loss(patches, patches, Reconstruction.SSIM)


def test_a_wrong_brightness_costs_its_square_and_no_gradient() -> None:
    patches = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(6)) / 2
    assert float(reconstruction_loss(patches + 0.5, patches)) == pytest.approx(0.1 * 0.25, rel=1e-3)


def test_a_missing_slope_costs_at_three_scales() -> None:
    """A slope of 0.01 per px is one of 0.01, 0.02 and 0.04 per px of the three scales."""
    slope = (0.01 * torch.arange(64.0)).expand(1, 1, 64, 64)
    found = float(reconstruction_loss(torch.zeros(1, 1, 64, 64), slope, pixel_weight=0))
    assert found == pytest.approx(0.01 + 0.02 + 0.04, rel=1e-4)
    assert float(reconstruction_loss(torch.zeros(1, 1, 64, 64), slope.mT, pixel_weight=0)) == pytest.approx(found)

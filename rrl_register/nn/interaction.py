"""What two patches have in common and what each has alone: FIL, feature interaction learning (arXiv 2403.11751).

Beside it the plain difference that FIL is measured against. Of both, the half that depends on one patch alone is a
module, whose answer is kept for all pairs of the patch; ``interact`` is the half that is left for a pair.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from rrl_register.nn.architecture import InteractionKind
from rrl_register.nn.blocks import conv_block


class Gated(NamedTuple):
    """What FIL needs of one patch at one stage: ``feature`` and ``gate``, both ``(N, C, H, W)``."""

    feature: Tensor
    gate: Tensor

    def picked(self, index: Tensor | slice) -> Gated:
        """Some of the patches, in the order of ``index``."""
        return Gated(self.feature[index], self.gate[index])


class Plain(NamedTuple):
    """What the difference needs of one patch at one stage: the stage output ``feature``, ``(N, C, H, W)``."""

    feature: Tensor

    def picked(self, index: Tensor | slice) -> Plain:
        """Some of the patches, in the order of ``index``."""
        return Plain(self.feature[index])


class Interaction(NamedTuple):
    """What a pair has in common and what each has alone, all ``(N, C, H, W)``."""

    common_fixed: Tensor
    common_moving: Tensor
    private_fixed: Tensor
    private_moving: Tensor


class Private(NamedTuple):
    """What each patch of a pair has alone, ``(N, C, H, W)``: all that is needed to score the pair."""

    private_fixed: Tensor
    private_moving: Tensor


class FeatureGate(nn.Module):
    """FIL's half that depends on one patch alone, so that it is computed once per keypoint and cached."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.feature = conv_block(channels, channels, kernel=1)
        self.gate = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.Sigmoid())

    def forward(self, stage: Tensor) -> Gated:
        """Turns a stage output ``(N, C, H, W)`` into its feature and its gate."""
        return Gated(self.feature(stage), self.gate(stage))


class NoGate(nn.Module):
    """The difference's half that depends on one patch alone: nothing is computed, and nothing learnt."""

    def forward(self, stage: Tensor) -> Plain:
        """Takes a stage output ``(N, C, H, W)`` for its feature."""
        return Plain(stage)


def feature_gate(kind: InteractionKind, channels: int) -> FeatureGate | NoGate:
    """The half of an interaction that depends on one patch alone, for one stage."""
    return FeatureGate(channels) if kind is InteractionKind.FIL else NoGate()


def interact(fixed: Gated | Plain, moving: Gated | Plain) -> Interaction:
    """What is common and what is private, by FIL where there are gates, else by the difference.

    FIL: common features f_a g_b and f_b g_a; private features |f_a g_b - f_a| and |f_b g_a - f_b|. Difference: the
    features themselves are taken for common; private features max(f_a - f_b, 0) and max(f_b - f_a, 0).

    Args:
        fixed: One patch of each pair.
        moving: The other, of the same network.
    """
    if isinstance(fixed, Plain) or isinstance(moving, Plain):
        difference = fixed.feature - moving.feature
        return Interaction(
            fixed.feature, moving.feature, functional.relu(difference), functional.relu(difference.neg())
        )
    common_fixed = fixed.feature * moving.gate
    common_moving = moving.feature * fixed.gate
    return Interaction(
        common_fixed,
        common_moving,
        (common_fixed - fixed.feature).abs(),
        (common_moving - moving.feature).abs(),
    )


def private(fixed: Gated | Plain, moving: Gated | Plain) -> Private:
    """The private features of ``interact`` without the common ones, which training alone looks at.

    Args:
        fixed: One patch of each pair.
        moving: The other, of the same network.
    """
    if isinstance(fixed, Plain) or isinstance(moving, Plain):
        difference = fixed.feature - moving.feature
        return Private(functional.relu(difference), functional.relu(difference.neg()))
    return Private(_kept_back(fixed.feature, moving.gate), _kept_back(moving.feature, fixed.gate))


def _kept_back(feature: Tensor, gate: Tensor) -> Tensor:
    """What a gate does not let through of a feature; one map in memory at a time."""
    return (feature * gate).sub_(feature).abs_()

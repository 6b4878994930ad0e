"""Common and private features of two patches: FIL, feature interaction learning (arXiv 2403.11751).

The plain difference is its baseline. In both, a module computes the half that depends on one patch alone, once for all
pairs of the patch; ``interact`` computes the half that depends on the pair.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from rrl_register.nn.architecture import InteractionKind
from rrl_register.nn.blocks import conv_block


class Gated(NamedTuple):
    """Input of FIL for one patch at one stage: ``feature`` and ``gate``, both ``(N, C, H, W)``."""

    feature: Tensor
    gate: Tensor

    def gather(self, index: Tensor | slice) -> Gated:
        """Select patches, in the order of ``index``."""
        return Gated(self.feature[index], self.gate[index])


class Plain(NamedTuple):
    """Input of the difference for one patch at one stage: its output ``feature``, ``(N, C, H, W)``."""

    feature: Tensor

    def gather(self, index: Tensor | slice) -> Plain:
        """Select patches, in the order of ``index``."""
        return Plain(self.feature[index])


class Interaction(NamedTuple):
    """Common and private features of pairs, all ``(N, C, H, W)``."""

    common_fixed: Tensor
    common_moving: Tensor
    private_fixed: Tensor
    private_moving: Tensor


class Private(NamedTuple):
    """Private features of pairs, ``(N, C, H, W)``: all that scoring needs."""

    private_fixed: Tensor
    private_moving: Tensor


class FeatureGate(nn.Module):
    """FIL's half that depends on one patch alone: computed once per keypoint."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.feature = conv_block(channels, channels, kernel=1)
        self.gate = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.Sigmoid())

    def forward(self, stage: Tensor) -> Gated:
        """Return feature and gate of a stage output ``(N, C, H, W)``."""
        return Gated(self.feature(stage), self.gate(stage))


class NoGate(nn.Module):
    """The difference's half that depends on one patch alone: the stage output itself."""

    def forward(self, stage: Tensor) -> Plain:
        """Return a stage output ``(N, C, H, W)`` as the feature."""
        return Plain(stage)


def feature_gate(kind: InteractionKind, channels: int) -> FeatureGate | NoGate:
    """Return the half of an interaction that depends on one patch alone, for one stage."""
    return FeatureGate(channels) if kind is InteractionKind.FIL else NoGate()


def interact(fixed: Gated | Plain, moving: Gated | Plain) -> Interaction:
    """Return common and private features, by FIL if there are gates, else by the difference.

    FIL: common features f_a g_b and f_b g_a; private features |f_a g_b - f_a| and |f_b g_a - f_b|. Difference: common
    features f_a and f_b; private features max(f_a - f_b, 0) and max(f_b - f_a, 0).

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
    """Return the private features of ``interact`` alone; only training needs the common ones.

    Args:
        fixed: One patch of each pair.
        moving: The other, of the same network.
    """
    if isinstance(fixed, Plain) or isinstance(moving, Plain):
        difference = fixed.feature - moving.feature
        return Private(functional.relu(difference), functional.relu(difference.neg()))
    # In place: one map in memory at a time.
    return Private(
        (fixed.feature * moving.gate).sub_(fixed.feature).abs_(),
        (moving.feature * fixed.gate).sub_(moving.feature).abs_(),
    )

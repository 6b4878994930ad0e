"""FIL, feature interaction learning: what two patches have in common and what each has alone (arXiv 2403.11751)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from rrl_register.nn.blocks import conv_block


class Gated(NamedTuple):
    """What FIL needs of one patch at one stage: ``feature`` and ``gate``, both ``(N, C, H, W)``."""

    feature: Tensor
    gate: Tensor


class Interaction(NamedTuple):
    """What a pair has in common and what each has alone, all ``(N, C, H, W)``."""

    common_fixed: Tensor
    common_moving: Tensor
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


def interact(fixed: Gated, moving: Gated) -> Interaction:
    """Common features f_a g_b and f_b g_a; private features |f_a g_b - f_a| and |f_b g_a - f_b|."""
    common_fixed = fixed.feature * moving.gate
    common_moving = moving.feature * fixed.gate
    return Interaction(
        common_fixed,
        common_moving,
        (common_fixed - fixed.feature).abs(),
        (common_moving - moving.feature).abs(),
    )

"""The relation part: feature interaction (FIL), aggregation over the stages, and the metric network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rrl_register.nn.architecture import InteractionKind
from rrl_register.nn.encoder import STAGE_CHANNELS, conv_block, dense_head

HEAD_STAGES = (2, 3, 4)
"""Stages (0-based) with MLPP heads: the third to the fifth, whose stage head is the metric network itself."""


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
        common_fixed, common_moving, (common_fixed - fixed.feature).abs(), (common_moving - moving.feature).abs()
    )


def private(fixed: Gated | Plain, moving: Gated | Plain) -> Private:
    """Return the private features of ``interact`` alone; only training needs the common ones."""
    if isinstance(fixed, Plain) or isinstance(moving, Plain):
        difference = fixed.feature - moving.feature
        return Private(functional.relu(difference), functional.relu(difference.neg()))
    # In place: one map in memory at a time.
    return Private(
        (fixed.feature * moving.gate).sub_(fixed.feature).abs_(),
        (moving.feature * fixed.gate).sub_(moving.feature).abs_(),
    )


class Aggregation(nn.Module):
    """Aggregate the private features of all stages, from fine to coarse.

    Stage 1 sees both private maps; every later stage the max-pooled result before it as well.

    Args:
        channels: Channels of the five stages of an encoder.
    """

    def __init__(self, channels: Sequence[int] = STAGE_CHANNELS) -> None:
        super().__init__()
        carried = (0, *(2 * c for c in channels[:-1]))
        self.blocks = nn.ModuleList(
            nn.Sequential(conv_block(before + 2 * c, 2 * c), conv_block(2 * c, 2 * c))
            for before, c in zip(carried, channels, strict=True)
        )

    def forward(self, interactions: Iterable[Interaction | Private]) -> Iterator[Tensor]:
        """Yield the aggregated maps of the five stages, from ``(N, 32, 64, 64)`` to ``(N, 512, 4, 4)`` in the paper.

        They come one at a time: a caller that needs the last alone holds no others.
        """
        carried: list[Tensor] = []
        for block, pair in zip(self.blocks, interactions, strict=True):
            aggregated = block(torch.cat([*carried, pair.private_fixed, pair.private_moving], 1))
            carried = [functional.max_pool2d(aggregated, 2)]
            yield aggregated


class HeadLogits(NamedTuple):
    """Logits of the MLPP heads, each ``(N,)``."""

    stages: list[Tensor]
    modules: list[Tensor]


class MLPPHeads(nn.Module):
    """Extra metric heads of multi-loss post-pruning, present in training only.

    Stage heads sit on the aggregated features of stages 3 and 4 (stage 5's is the metric network), module heads on the
    sum of the common features of stages 3 to 5.

    Args:
        channels: Channels of the five stages of an encoder.
    """

    def __init__(self, channels: Sequence[int] = STAGE_CHANNELS) -> None:
        super().__init__()
        self.stages = nn.ModuleList(dense_head(2 * channels[s]) for s in HEAD_STAGES[:-1])
        self.modules_ = nn.ModuleList(
            nn.Sequential(conv_block(c, c), conv_block(c, c), dense_head(c)) for c in (channels[s] for s in HEAD_STAGES)
        )

    def forward(self, aggregated: Sequence[Tensor], interactions: Sequence[Interaction]) -> HeadLogits:
        """Score pairs from their earlier stages and from their common features."""
        stages = [head(aggregated[s])[:, 0] for s, head in zip(HEAD_STAGES[:-1], self.stages, strict=True)]
        modules = [
            head(interactions[s].common_fixed + interactions[s].common_moving)[:, 0]
            for s, head in zip(HEAD_STAGES, self.modules_, strict=True)
        ]
        return HeadLogits(stages, modules)

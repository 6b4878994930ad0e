"""Feature aggregation and the metric network, with the MLPP heads that training attaches (arXiv 2403.11751)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rrl_register.nn.blocks import STAGE_CHANNELS, conv_block, dense_head
from rrl_register.nn.interaction import Interaction, Private

HEAD_STAGES = (2, 3, 4)
"""Stages (0-based) with MLPP heads: the third to the fifth, whose stage head is the metric network itself."""


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

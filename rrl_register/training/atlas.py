"""All images in one buffer on the device that trains; one gather cuts a batch of patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

from rrl_register.nn.encoder import PATCH_SIZE

LEVELS = 3
"""Each image is kept at full, half and quarter resolution."""
LARGEST_STEP = 1.4
"""Largest step of a patch, px of a level; beyond it the next level is taken, so that no pixel is skipped."""
_AT_ONCE = 2048
"""Images of a stack reduced together: their floats need eight times the memory of their bytes."""


@dataclass(frozen=True)
class Atlas:
    """Images of any size and number of planes, each at several resolutions.

    Attributes:
        buffer: ``(bytes,)`` uint8: of each level the images in turn, of each image its planes, of each plane its rows.
        offset: ``(LEVELS, I)`` int64, first byte of an image.
        size: ``(LEVELS, I, 2)`` float32, width and height.
    """

    buffer: Tensor
    offset: Tensor
    size: Tensor

    @classmethod
    def of(cls, stacks: Sequence[Tensor], device: torch.device) -> Atlas:
        """Lay out stacks of images ``(S, C, H, W)``, uint8, numbered across all stacks."""
        parts, lengths, sizes = [], [], []
        for level in range(LEVELS):
            for stack in stacks:
                reduced = _reduced(stack, 2**level)
                parts.append(reduced.flatten().to(device))
                lengths += [reduced[0].numel()] * len(reduced)
                sizes += [(reduced.shape[3], reduced.shape[2])] * len(reduced)
        offsets = torch.tensor([0, *accumulate(lengths)][:-1], dtype=torch.int64)
        return cls(
            torch.cat(parts) if parts else torch.empty(0, dtype=torch.uint8, device=device),
            offsets.reshape(LEVELS, -1).to(device),
            torch.tensor(sizes, dtype=torch.float32).reshape(LEVELS, -1, 2).to(device),
        )

    def cut(self, image: Tensor, planes: Sequence[int], centres: Tensor, matrix: Tensor) -> Tensor:
        """Cut patches ``(N, P, 64, 64)`` in [0, 1], bilinear, edges repeated, each from the level of its step.

        Args:
            image: ``(N,)`` int64, image of each patch.
            planes: P planes of it.
            centres: ``(N, 2)``, (x, y), full-resolution px.
            matrix: ``(N, 2, 2)``, patch px -> full-resolution px.
        """
        step = torch.linalg.vector_norm(matrix[:, :, 0], dim=1)
        level = (torch.log2(step / LARGEST_STEP).floor() + 1).clamp(0, LEVELS - 1).long()
        size = self.size[level, image]
        ratio = size / self.size[0, image]
        axis = torch.arange(PATCH_SIZE, device=image.device) - (PATCH_SIZE - 1) / 2
        along, below = (matrix * ratio[:, :, None])[..., None, None].unbind(2)
        places = ((centres + 0.5) * ratio - 0.5)[:, :, None, None] + along * axis + below * axis[:, None]
        x, y = places.unbind(1)
        (left, right, across), (top, bottom, down) = _neighbours(x, size[:, 0]), _neighbours(y, size[:, 1])
        width = size[:, 0, None, None].long()
        area = (size[:, 0] * size[:, 1]).long()[:, None]
        plane = torch.tensor(planes, device=image.device)
        start = (self.offset[level, image][:, None] + plane * area)[:, :, None, None]

        def gathered(row: Tensor, column: Tensor) -> Tensor:
            """Return values at whole pixels, (N, K, H, W) float32."""
            index = start + (row * width + column)[:, None]
            return self.buffer.index_select(0, index.flatten()).reshape(index.shape).float()

        across, down = across[:, None], down[:, None]
        upper = torch.lerp(gathered(top, left), gathered(top, right), across)
        lower = torch.lerp(gathered(bottom, left), gathered(bottom, right), across)
        return torch.lerp(upper, lower, down) / 255


def _reduced(stack: Tensor, factor: int) -> Tensor:
    """Average images down, uint8; a side that is no multiple of the factor keeps its extent."""
    if factor == 1:
        return stack
    shape = (max(1, stack.shape[2] // factor), max(1, stack.shape[3] // factor))
    parts = (stack[start : start + _AT_ONCE] for start in range(0, len(stack), _AT_ONCE))
    return torch.cat([functional.adaptive_avg_pool2d(part.float(), shape).round().byte() for part in parts])


def _neighbours(place: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels before and after a place along one side, int64, and its fraction between them."""
    last = (length - 1)[:, None, None]
    place = torch.minimum(place.clamp(min=0), last)
    before = place.floor()
    return before.long(), torch.minimum(before + 1, last).long(), place - before

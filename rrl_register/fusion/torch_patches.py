"""Patches of an aligned stack as a PyTorch ``Dataset``."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset

from rrl_register.fusion.patches import Patches, StackLike


class PatchDataset(Dataset[dict[str, Any]]):
    """Patches of an aligned stack for a ``DataLoader``.

    An item holds ``data``, float32 (B, size, size) with ``fill`` where a band has no data; ``valid``, bool
    (size, size), true where all bands have data; and ``row`` and ``column`` of its first pixel in the stack. The order
    is fixed. A stack in a file is read in windows, and only its path goes to worker processes.

    Arguments and errors are those of ``rrl_register.fusion.patches.iter_patches``.
    """

    def __init__(
        self, stack: StackLike, size: int = 256, stride: int | None = None, min_valid: float = 0.5, fill: float = 0.0
    ) -> None:
        self.patches = Patches(stack, size, stride, min_valid, fill)

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        patch = self.patches[index]
        return {
            "data": torch.from_numpy(patch.data).float(),
            "valid": torch.from_numpy(patch.valid),
            "row": patch.row,
            "column": patch.column,
        }

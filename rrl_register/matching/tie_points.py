"""Tie points: corresponding points that the network has accepted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TiePoints:
    """``N`` corresponding points.

    Attributes:
        fixed: ``(N, 2)`` (x, y) in the fixed image.
        moving: ``(N, 2)`` (x, y) in the moving image.
        score: ``(N,)`` probability by RRL-Net that they match.
    """

    fixed: NDArray[np.float64]
    moving: NDArray[np.float64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True)
class Matches:
    """What a pass over the scene gave.

    Attributes:
        tie_points: Accepted ones, at most one for each fixed keypoint.
        n_fixed, n_moving: Keypoints looked at.
        n_candidates: Pairs that the network scored.
    """

    tie_points: TiePoints
    n_fixed: int
    n_moving: int
    n_candidates: int

"""Tie points as a report draws them: places, residual vectors, colours and states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rrl_register.exchange.registration import Registration
from rrl_register.geometry.arrays import Points
from rrl_register.geometry.tie_points import AGREEMENT_PX, TiePoints
from rrl_register.geometry.transforms import project

LEVELS = 5
"""Colours that the residuals of inliers are sorted into."""
OUTLIER, FAILED_FORWARD_BACKWARD, REJECTED = -1, -2, -3
"""States of points that are no inliers or were not fitted; those of fitted inliers are their colours, from 0."""
_ARROW_SHARE = 0.05
"""Length of a long arrow over the fixed image's longer side."""
_MOST_REJECTED = 1000
"""Rejected candidates that a page draws, to bound its size."""


@dataclass(frozen=True)
class TiePointMarks:
    """``N`` tie points, and the candidates that the network rejected.

    Attributes:
        fixed, moving: ``(N, 2)`` px of the files.
        offset: ``(N, 2)`` residual vectors, from the fixed point to where the transform puts the moving point, fixed
            px; NaN if unknown.
        score: ``(N,)`` probability by the network; NaN if unscored.
        inlier: ``(N,)`` bool.
        consistent: ``(N,)`` bool, false where the forward-backward check failed.
        colour_step: Residuals per colour, fixed px.
        arrow_scale: Magnification of the residual arrows.
        rejected: Candidates that the network rejected.
    """

    fixed: Points
    moving: Points
    offset: Points
    score: npt.NDArray[np.float64]
    inlier: npt.NDArray[np.bool_]
    consistent: npt.NDArray[np.bool_]
    colour_step: float
    arrow_scale: float
    rejected: TiePoints

    @property
    def residual(self) -> npt.NDArray[np.float64]:
        """``(N,)`` lengths of the residual vectors, fixed px."""
        length: npt.NDArray[np.float64] = np.hypot(*self.offset.T)
        return length

    @property
    def state(self) -> npt.NDArray[np.int64]:
        """``(N,)`` colour of the residual for fitted inliers, 0 to ``LEVELS`` - 1; a negative state for others."""
        colour = np.minimum(np.nan_to_num(self.residual) // self.colour_step, LEVELS - 1)
        fitted = np.where(self.consistent, colour, FAILED_FORWARD_BACKWARD)
        return np.where(self.inlier, fitted, OUTLIER).astype(np.int64)

    @property
    def n_inconsistent(self) -> int:
        """Inliers that failed the forward-backward check."""
        return int((self.inlier & ~self.consistent).sum())

    @property
    def n_unscored(self) -> int:
        """Tie points that the network did not score."""
        return int(np.isnan(self.score).sum())

    def legend(self) -> list[str]:
        """Return the range of residuals of each colour, fixed px."""
        edges = [f"{self.colour_step * level:.4g}" for level in range(LEVELS + 1)]
        return [f"{low}–{high}" for low, high in pairwise(edges)]

    def rows(self, factor: float) -> list[list[float | None]]:
        """Return x, y (px of the picture, from its corner), residual vector (fixed px), state and score of each point.

        Unknown values are None. Rejected candidates come last, at most 1000 of them.

        Args:
            factor: File px per px of the fixed picture.
        """
        rejected = self.rejected.at(np.arange(0, len(self.rejected), -(-len(self.rejected) // _MOST_REJECTED) or 1))
        table = np.column_stack(
            [
                ((np.concatenate([self.fixed, rejected.fixed]) + 0.5) / factor).round(2),
                np.concatenate([self.offset, np.full((len(rejected), 2), np.nan)]).round(3),
                np.concatenate([self.state, np.full(len(rejected), REJECTED)]),
                np.concatenate([self.score, rejected.score]).round(3),
            ]
        )
        rows = [[None if math.isnan(value) else value for value in row] for row in table.tolist()]
        return [[*row[:4], int(row[4] or 0), row[5]] for row in rows]


def tie_point_marks(registration: Registration) -> TiePointMarks:
    """Take the tie points of a result, and compute their residual vectors."""
    points = registration.tie_points
    offset = np.full((len(points), 2), np.nan)
    if registration.matrix is not None:
        offset = project(registration.matrix, points.moving) - points.fixed
        if registration.displacement is not None:
            offset = offset + registration.displacement.at(points.fixed)
    offset[~np.isfinite(offset).all(axis=1)] = np.nan
    lengths = np.hypot(*offset[registration.inlier].T)
    lengths = lengths[np.isfinite(lengths)]
    longest, typical = (float(lengths.max()), float(np.percentile(lengths, 90))) if len(lengths) else (1.0, 1.0)
    room = _ARROW_SHARE * max(registration.fixed_grid.shape)
    back = points.agreement_px
    return TiePointMarks(
        points.fixed,
        points.moving,
        offset,
        points.score,
        registration.inlier,
        consistent=np.ones(len(points), bool) if back is None else back <= AGREEMENT_PX,
        colour_step=round_up(longest / LEVELS),
        arrow_scale=max(1.0, round_down(room / max(typical, 1e-3))),
        rejected=registration.rejected,
    )


def round_up(value: float) -> float:
    """Return the next number of one digit, at least 0.01."""
    value = max(value, 0.01)
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return power * math.ceil(value / power * (1 - 1e-9))


def round_down(value: float) -> float:
    """Return the largest number up to ``value`` that is 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-9)) + 1e-9)
    return next(power * step for step in (5, 2, 1) if power * step <= value * (1 + 1e-9))

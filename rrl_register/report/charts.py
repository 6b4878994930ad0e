"""Tie points, histograms and maps of a report, as numbers that templates draw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rrl_register.estimation.evidence import BLOCKS, overlap_blocks
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.arrays import Floats, Mask, Points
from rrl_register.geometry.tie_points import AGREEMENT_PX, TiePoints
from rrl_register.geometry.transforms import corners_of, project

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
    score: Floats
    inlier: npt.NDArray[np.bool_]
    consistent: npt.NDArray[np.bool_]
    colour_step: float
    arrow_scale: float
    rejected: TiePoints

    @property
    def residual(self) -> Floats:
        """``(N,)`` lengths of the residual vectors, fixed px."""
        length: Floats = np.hypot(*self.offset.T)
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


_RESIDUAL_BINS = 20
_SCORE_BINS = 20
_CONFIDENCE_BINS = 10


class Bin(NamedTuple):
    """A bar from ``low`` to ``high``: numbers of inliers and of others; ``level`` is the inliers' colour."""

    low: float
    high: float
    inliers: int
    others: int
    level: int = 0


@dataclass(frozen=True)
class Histogram:
    """Bars of equal width.

    Attributes:
        bins: The bars from left to right.
        beyond: Number of points to the right of the last bar.
        lines: Values to mark, and their names.
    """

    bins: tuple[Bin, ...]
    beyond: int = 0
    lines: tuple[tuple[float, str], ...] = ()

    @property
    def low(self) -> float:
        """Left end of the axis."""
        return self.bins[0].low

    @property
    def high(self) -> float:
        """Right end of the axis."""
        return self.bins[-1].high

    @property
    def top(self) -> int:
        """Height of the highest bar, at least 1."""
        return max(1, *(bar.inliers + bar.others for bar in self.bins))

    @property
    def ticks(self) -> list[float]:
        """Values to write under the axis."""
        return [round(float(value), 4) for value in np.linspace(self.low, self.high, 6)]


class Block(NamedTuple):
    """A block of the overlap, px of the fixed picture; ``inliers`` is None if hardly any of it overlaps."""

    x: float
    y: float
    width: float
    height: float
    inliers: int | None


@dataclass(frozen=True)
class InlierMap:
    """A map of the inliers.

    Attributes:
        width, height: Size of the fixed picture, px.
        blocks: Blocks of the overlap.
        outline: Corners (x, y) of the moving image on the fixed picture.
    """

    width: int
    height: int
    blocks: tuple[Block, ...]
    outline: tuple[tuple[float, float], ...]

    @property
    def most(self) -> int:
        """Inliers of the fullest block, at least 1."""
        return max(1, *(block.inliers or 0 for block in self.blocks))

    @property
    def empty(self) -> int:
        """Number of blocks that overlap and hold no inlier."""
        return sum(block.inliers == 0 for block in self.blocks)


def residual_histogram(marks: TiePointMarks, registration: Registration) -> Histogram:
    """Count residuals, four bars to a colour, and mark the RMSE of the inliers and of the cross-validation."""
    known = np.isfinite(marks.residual)
    edges = np.linspace(0, marks.colour_step * LEVELS, _RESIDUAL_BINS + 1)
    residual, inlier = marks.residual[known], marks.inlier[known]
    lines = ((registration.rmse_px, "RMSE"), (registration.check_rmse_px, "cross-validation"))
    shown = tuple((value, name) for value, name in lines if value is not None and value <= edges[-1])
    levels = [min(LEVELS - 1, int(LEVELS * i / _RESIDUAL_BINS)) for i in range(_RESIDUAL_BINS)]
    return Histogram(_bins(residual, inlier, edges, levels), int((residual > edges[-1]).sum()), shown)


def score_histogram(marks: TiePointMarks) -> Histogram:
    """Count the network's scores of the tie points, from 0 to 1, or from 0.5 if none is lower."""
    known = np.isfinite(marks.score)
    score, inlier = marks.score[known], marks.inlier[known]
    low = 0.5 if not len(score) or score.min() >= 0.5 else 0.0
    return Histogram(_bins(score, inlier, np.linspace(low, 1, _SCORE_BINS + 1)))


def confidence_histogram(confidences: list[float]) -> Histogram:
    """Count the confidences of the scenes of a batch."""
    values = np.array(confidences, float)
    return Histogram(_bins(values, values >= 0.5, np.linspace(0, 1, _CONFIDENCE_BINS + 1)))


def inlier_map(marks: TiePointMarks, overlap: Mask, factor: float, registration: Registration) -> InlierMap:
    """Count the inliers by blocks of the overlap's bounding box.

    Args:
        marks: The tie points.
        overlap: (h, w) bool on the fixed picture, where both images hold data.
        factor: File px per px of that picture.
        registration: The result, with the outline of the moving image.
    """
    (left, top, width, height), counts = overlap_blocks(overlap)
    places = ((marks.fixed + 0.5) / factor)[marks.inlier]
    edges = [np.linspace(start, start + side, BLOCKS + 1) for start, side in ((top, height), (left, width))]
    held, _, _ = np.histogram2d(places[:, 1], places[:, 0], bins=edges)
    blocks = tuple(
        Block(x, y, width / BLOCKS, height / BLOCKS, int(held[row, column]) if counts[row, column] else None)
        for row, y in enumerate(edges[0][:-1].tolist())
        for column, x in enumerate(edges[1][:-1].tolist())
    )
    outline: list[tuple[float, float]] = []
    if registration.transform is not None:
        corners = corners_of(registration.moving_grid.shape)
        sides = [(corner, corners[(i + 1) % 4] - corner) for i, corner in enumerate(corners)]
        ring = np.array([start + side * t for start, side in sides for t in np.linspace(0, 1, 8)[:-1]])
        placed = (registration.transform.forward(ring) + 0.5) / factor
        placed = placed[np.isfinite(placed).all(axis=1)]  # without parts beyond the transform's horizon
        outline = [(round(x, 1), round(y, 1)) for x, y in placed.tolist()]
    return InlierMap(overlap.shape[1], overlap.shape[0], blocks, tuple(outline))


def _bins(values: Floats, inlier: Mask, edges: Floats, levels: list[int] | None = None) -> tuple[Bin, ...]:
    inliers, others = (np.histogram(values[chosen], edges)[0].tolist() for chosen in (inlier, ~inlier))
    colours = levels or [0] * len(inliers)
    return tuple(map(Bin, edges[:-1].tolist(), edges[1:].tolist(), inliers, others, colours))

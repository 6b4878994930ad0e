"""Tie points as they are drawn: where they lie on the pictures, how far they miss the fit, in which colour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rrl_register.exchange.registration import Registration
from rrl_register.geometry.arrays import Points
from rrl_register.geometry.transforms import project

LEVELS = 5
"""Colours that residuals are sorted into."""
_ARROW_SHARE = 0.05
"""Length of a long arrow over the fixed image's longer side."""


@dataclass(frozen=True)
class Marks:
    """Tie points, N of them.

    Attributes:
        fixed, moving: (N, 2) px of the files.
        miss: (N, 2) where the transform puts the moving point minus the fixed point, fixed px; NaN if not known.
        score: (N,) probability that the network gives them.
        inlier: (N,) bool, whether they agree with the transform.
        step: Residuals per colour, fixed px.
        zoom: How many times arrows are drawn longer than the miss is.
    """

    fixed: Points
    moving: Points
    miss: Points
    score: npt.NDArray[np.float64]
    inlier: npt.NDArray[np.bool_]
    step: float
    zoom: float

    @property
    def residual(self) -> npt.NDArray[np.float64]:
        """(N,) length of the miss, fixed px."""
        length: npt.NDArray[np.float64] = np.hypot(*self.miss.T)
        return length

    @property
    def level(self) -> npt.NDArray[np.int64]:
        """(N,) colour, from 0 for a small residual to ``LEVELS`` - 1; -1 for points that do not agree."""
        known = np.where(self.inlier, np.nan_to_num(self.residual), 0)
        return np.where(self.inlier, np.minimum(known // self.step, LEVELS - 1), -1).astype(np.int64)

    def legend(self) -> list[str]:
        """Residuals of each colour, fixed px, as text."""
        edges = [f"{self.step * level:.4g}" for level in range(LEVELS + 1)]
        return [f"{low}–{high}" for low, high in pairwise(edges)]

    def rows(self, factor: float) -> list[list[float | None]]:
        """What a viewer draws: x, y (px of the picture, from its corner), miss x, y (fixed px), colour, score.

        What is not known is None.

        Args:
            factor: File px per px of the fixed picture.
        """
        places = ((self.fixed + 0.5) / factor).round(2).tolist()
        known = np.isfinite(self.miss[:, 0]).tolist()
        misses = [miss if k else [None, None] for miss, k in zip(self.miss.round(3).tolist(), known, strict=True)]
        levels = self.level.tolist()
        scores = [None if math.isnan(score) else score for score in self.score.round(3).tolist()]
        return [[*at, *miss, *rest] for at, miss, *rest in zip(places, misses, levels, scores, strict=True)]


def marks_of(registration: Registration) -> Marks:
    """Take the tie points of a result, with what each misses its transform by."""
    points = registration.tie_points
    miss = np.full((len(points), 2), np.nan)
    if registration.matrix is not None:
        miss = project(registration.matrix, points.moving) - points.fixed
        if registration.displacement is not None:
            miss = miss + registration.displacement.at(points.fixed)
    miss[~np.isfinite(miss).all(axis=1)] = np.nan
    lengths = np.hypot(*miss[registration.inlier].T)
    lengths = lengths[np.isfinite(lengths)]
    longest, typical = (float(lengths.max()), float(np.percentile(lengths, 90))) if len(lengths) else (1.0, 1.0)
    room = _ARROW_SHARE * max(registration.fixed_grid.shape)
    return Marks(
        points.fixed,
        points.moving,
        miss,
        points.score,
        registration.inlier,
        step=round_up(longest / LEVELS),
        zoom=max(1.0, round_down(room / max(typical, 1e-3))),
    )


def round_up(value: float) -> float:
    """The next number of one digit, from 0.01 on."""
    value = max(value, 0.01)
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return power * math.ceil(value / power * (1 - 1e-9))


def round_down(value: float) -> float:
    """The last number of 1, 2 and 5 times a power of ten that is no larger."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-9)) + 1e-9)
    return next(power * step for step in (5, 2, 1) if power * step <= value * (1 + 1e-9))

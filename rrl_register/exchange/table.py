"""Table of tie points and rejected candidates, each with the reason of its rejection."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrl_register.config.files import MOST_POINTS
from rrl_register.errors import InputError
from rrl_register.exchange.registration import Registration, read_registration
from rrl_register.geometry.arrays import Points
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.tie_points import AGREEMENT_PX, TiePoints
from rrl_register.raster.grid import Grid

PX_DIGITS = 3
"""Digits of pixels, those of RESULT.json: a result and its file have the same table."""

Flags = NDArray[np.bool_]


class Reason(StrEnum):
    """Reason for the rejection of a point."""

    REFUSED = "refused"
    """Its score is below ``--min-score``."""
    OUTLIER = "outlier"
    """It was matched, but its residual is above the threshold."""
    FAILED_FORWARD_BACKWARD = "failed forward-backward check"
    """It agrees with the transform, but the search back from the moving image ended elsewhere."""


@dataclass(frozen=True)
class Grids:
    """Pixel grids of both files."""

    fixed: Grid
    moving: Grid


@dataclass(frozen=True)
class PointTable:
    """``N`` pairs of points, px of the files, (0, 0) = centre of the top-left pixel.

    Attributes:
        fixed: ``(N, 2)`` (x, y) in the fixed image.
        moving: ``(N, 2)`` (x, y) in the moving image.
        enable: ``(N,)`` bool, True for points to fit; a person may change it.
        score: ``(N,)`` probability of a match by the network; NaN if unscored.
        inlier: ``(N,)`` bool, True for tie points that agree with the transform.
        residual_px: ``(N,)`` residuals, fixed px; NaN without a transform.
        away: ``(N, 2)`` residuals as vectors from the moving points, moving px; NaN without a transform.
        reason: ``(N,)`` reason of the rejection, one of ``Reason``; empty for fitted points.
    """

    fixed: Points
    moving: Points
    enable: Flags
    score: Points
    inlier: Flags
    residual_px: Points
    away: Points
    reason: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.enable)

    @property
    def enabled(self) -> TiePoints:
        """Enabled points; scores may be NaN."""
        return TiePoints(self.fixed, self.moving, self.score).at(self.enable)

    @classmethod
    def read(
        cls, fixed: ArrayLike, moving: ArrayLike, enable: Iterable[bool], score: ArrayLike | None = None
    ) -> PointTable:
        """Build a table from the points of a file; residuals are unknown, and enabled points count as inliers.

        Args:
            fixed: ``(N, 2)`` px.
            moving: ``(N, 2)`` px.
            enable: ``N`` flags.
            score: ``(N,)``; None: unscored.

        Raises:
            InputError: There are too many points, or one has no place.
        """
        places, pixels = (np.asarray(points, np.float64).reshape(-1, 2) for points in (fixed, moving))
        on, unknown = np.array(list(enable), bool), np.full(len(places), np.nan)
        if len(places) > MOST_POINTS:
            raise InputError(f"it holds more than {MOST_POINTS} points; choose the best of them")
        unplaced = np.flatnonzero(~np.isfinite(np.hstack([places, pixels])).all(axis=1))
        if len(unplaced):
            raise InputError(f"point {unplaced[0] + 1} lies at infinity, or outside the CRS of the fixed image")
        known = unknown if score is None else np.asarray(score, np.float64)
        return cls(places, pixels, on, known, on, unknown, np.full_like(places, np.nan), ("",) * len(places))

    @classmethod
    def of(cls, registration: Registration) -> PointTable:
        """Build a table from the tie points of a result and its rejected candidates."""
        tied, rejected = registration.tie_points, registration.rejected
        fixed, moving, score = (
            np.concatenate([getattr(tied, name), getattr(rejected, name)]).round(PX_DIGITS)
            for name in ("fixed", "moving", "score")
        )
        reason = _reasons(tied, registration.inlier) + [Reason.REFUSED] * len(rejected)
        residual, away = _errors(registration.transform, fixed, moving)
        return cls(
            fixed,
            moving,
            enable=np.array([not why for why in reason], bool),
            score=score,
            inlier=np.concatenate([registration.inlier, np.zeros(len(rejected), bool)]),
            residual_px=residual,
            away=away,
            reason=tuple(reason),
        )


def read_result(path: Path, grids: Grids) -> PointTable:
    """Read the tie points and the rejected candidates of a RESULT.json.

    Raises:
        InputError: It is no RESULT.json, or belongs to images of other sizes.
    """
    result = read_registration(path)
    images = (("fixed", result.fixed_grid, grids.fixed), ("moving", result.moving_grid, grids.moving))
    for name, seen, needed in images:
        if seen.shape != needed.shape:
            sizes = [f"{grid.width} x {grid.height} px" for grid in (seen, needed)]
            raise InputError(f"its {name} image has {sizes[0]}, this one {sizes[1]}; use points of this pair")
    return PointTable.of(result)


def _reasons(tied: TiePoints, inlier: Flags) -> list[str]:
    agreement = np.zeros(len(tied)) if tied.agreement_px is None else tied.agreement_px
    consistent = agreement <= AGREEMENT_PX
    return [
        Reason.OUTLIER if not fits else "" if passed else Reason.FAILED_FORWARD_BACKWARD
        for fits, passed in zip(inlier.tolist(), consistent.tolist(), strict=True)
    ]


def _errors(transform: Transform | None, fixed: Points, moving: Points) -> tuple[Points, Points]:
    if transform is None:
        return np.full(len(fixed), np.nan), np.full((len(fixed), 2), np.nan)
    return transform.residuals(moving, fixed).round(PX_DIGITS), (transform.backward(fixed) - moving).round(PX_DIGITS)

"""Tie points as people and other programs see them: rejected ones too, each with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from rrl_register.exchange.registration import Registration
from rrl_register.geometry.arrays import Points
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.tie_points import AGREEMENT_PX, TiePoints
from rrl_register.raster.grid import Grid

PX_DIGITS = 3
"""Of RESULT.json, too, so that a result and its file lead to the same table."""

Flags = NDArray[np.bool_]


class Reason(StrEnum):
    """Why a point was not fitted."""

    REFUSED = "refused"
    """The network gives it less than ``--min-score``."""
    OUTLIER = "outlier"
    """The network accepted it, but it disagrees with the transform."""
    FAILED_FORWARD_BACKWARD = "not found back"
    """It agrees with the transform, but the search back from it ended elsewhere."""


@dataclass(frozen=True)
class Grids:
    """The pixel grids of both files."""

    fixed: Grid
    moving: Grid


@dataclass(frozen=True)
class PointTable:
    """``N`` pairs of points, px of the files, (0, 0) = centre of the top-left pixel.

    Attributes:
        fixed: ``(N, 2)`` (x, y) in the fixed image.
        moving: ``(N, 2)`` (x, y) in the moving image.
        enable: ``(N,)`` bool, which of them are to be fitted: what a person may change.
        score: ``(N,)`` probability by the network that they match; NaN where it is not known.
        inlier: ``(N,)`` bool, which were tie points that agree with the transform.
        residual_px: ``(N,)`` distance from where the transform puts them, fixed px; NaN without a transform.
        away: ``(N, 2)`` from the moving points to where the transform would have them, moving px; NaN without one.
        reason: ``(N,)`` why a point was not fitted, one of ``Reason``; empty for the others.
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
        """Those that are to be fitted; scores may be NaN."""
        return TiePoints(self.fixed, self.moving, self.score).at(self.enable)

    @classmethod
    def read(cls, fixed: Points, moving: Points, enable: Iterable[bool], score: Points | None = None) -> PointTable:
        """Builds a table out of what a file holds that is not of this program's making.

        Args:
            fixed: ``(N, 2)`` px.
            moving: ``(N, 2)`` px.
            enable: ``N`` flags.
            score: ``(N,)``; None: not known.
        """
        on, unknown = np.array(list(enable), bool), np.full(len(fixed), np.nan)
        away = np.full((len(fixed), 2), np.nan)
        return cls(fixed, moving, on, unknown if score is None else score, on, unknown, away, ("",) * len(fixed))

    @classmethod
    def of(cls, registration: Registration) -> PointTable:
        """The tie points of a result, and the candidates that the network refused."""
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


def _reasons(tied: TiePoints, inlier: Flags) -> list[str]:
    agreement = np.zeros(len(tied)) if tied.agreement_px is None else tied.agreement_px
    forward_backward_consistent = agreement <= AGREEMENT_PX
    return [
        Reason.OUTLIER if not fits else "" if found else Reason.FAILED_FORWARD_BACKWARD
        for fits, found in zip(inlier.tolist(), forward_backward_consistent.tolist(), strict=True)
    ]


def _errors(transform: Transform | None, fixed: Points, moving: Points) -> tuple[Points, Points]:
    if transform is None:
        return np.full(len(fixed), np.nan), np.full((len(fixed), 2), np.nan)
    return transform.residuals(moving, fixed).round(PX_DIGITS), (transform.backward(fixed) - moving).round(PX_DIGITS)

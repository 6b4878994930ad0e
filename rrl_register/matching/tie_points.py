"""Tie points: corresponding points that the network has accepted, and what tells them from chance."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

AGREEMENT_PX = 1.0
"""Tie points that are found back farther than this from where they started are not fitted: on pairs kept for
validation that lowers the error; a limit of 2 px gains half as much."""
_LEAST_ODDS = 1e-3
"""Probabilities are kept this far from 0 and 1, where log-odds have no end."""


@dataclass(frozen=True)
class TiePoints:
    """``N`` corresponding points.

    Attributes:
        fixed: ``(N, 2)`` (x, y) in the fixed image.
        moving: ``(N, 2)`` (x, y) in the moving image.
        score: ``(N,)`` probability by RRL-Net that they match.
        agreement_px: ``(N,)`` distance, fixed px, between the fixed point and where the search from the moving point
            back into the fixed image ends; NaN where that search finds nothing; None where it was not made.
    """

    fixed: NDArray[np.float64]
    moving: NDArray[np.float64]
    score: NDArray[np.float64]
    agreement_px: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.score)

    def found_back(self, within: float = AGREEMENT_PX) -> TiePoints:
        """Those whose forward and backward search agree to ``within`` px; all where none was searched back."""
        if self.agreement_px is None:
            return self
        return self.at(self.agreement_px <= within)

    def at(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> TiePoints:
        """Those at some indices, or where a mask holds."""
        agreement = None if self.agreement_px is None else self.agreement_px[chosen]
        return TiePoints(self.fixed[chosen], self.moving[chosen], self.score[chosen], agreement)

    def enlarged(self, fixed_factor: float, moving_factor: float) -> TiePoints:
        """The same places in images whose pixels are 1 / factor as wide."""
        return TiePoints(
            (self.fixed + 0.5) * fixed_factor - 0.5,
            (self.moving + 0.5) * moving_factor - 0.5,
            self.score,
            None if self.agreement_px is None else self.agreement_px * fixed_factor,
        )


def no_tie_points() -> TiePoints:
    """None at all."""
    return TiePoints(np.empty((0, 2)), np.empty((0, 2)), np.empty(0))


@dataclass(frozen=True)
class Controls:
    """Wrong places that the network was asked about beside the candidates: what it gives by chance on this very pair.

    Attributes:
        candidate: ``(M,)`` probabilities of the best candidates of some keypoints, whether accepted or not.
        control: ``(M,)`` probabilities of places that are wrong for the same keypoints.
        min_score: Probability from which the network's word is taken for a match.
    """

    candidate: NDArray[np.float64]
    control: NDArray[np.float64]
    min_score: float

    @property
    def acceptance(self) -> float:
        """Share of the wrong places that the network accepts, 0-1; NaN without any."""
        return float(np.mean(self.control >= self.min_score)) if len(self.control) else float("nan")

    @property
    def margin(self) -> float:
        """How far the network prefers the candidates, mean difference of log-odds; NaN without any."""
        if not len(self.control):
            return float("nan")
        return float(np.mean(_log_odds(self.candidate) - _log_odds(self.control)))


@dataclass(frozen=True)
class Matches:
    """What a pass over the scene gave.

    Attributes:
        tie_points: Accepted ones, at most one for each fixed keypoint.
        n_fixed, n_moving: Keypoints looked at.
        n_candidates: Pairs that the network scored, controls not counted.
        controls: Wrong places scored beside them; None where there are none.
        rejected: The best candidates of the fixed keypoints for which the network accepted none.
    """

    tie_points: TiePoints
    n_fixed: int
    n_moving: int
    n_candidates: int
    controls: Controls | None = None
    rejected: TiePoints = field(default_factory=no_tie_points)


def _log_odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(probability, _LEAST_ODDS, 1 - _LEAST_ODDS)
    return np.asarray(np.log(bounded / (1 - bounded)))

"""Tie points: corresponding points that the network has accepted, and what tells them from chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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
        score: ``(N,)`` probability by RRL-Net that they match; NaN where it was not asked.
        agreement_px: ``(N,)`` distance, fixed px, between the fixed point and where the search from the moving point
            back into the fixed image ends; NaN where that search finds nothing; None where it was not made.
    """

    fixed: NDArray[np.float64]
    moving: NDArray[np.float64]
    score: NDArray[np.float64]
    agreement_px: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def joined(cls, parts: Sequence[TiePoints]) -> TiePoints:
        """The points of several searches, of which either all or none were searched back."""
        if not parts:
            return no_tie_points()
        back = [part.agreement_px for part in parts if part.agreement_px is not None]
        return cls(
            np.concatenate([part.fixed for part in parts]),
            np.concatenate([part.moving for part in parts]),
            np.concatenate([part.score for part in parts]),
            np.concatenate(back) if back else None,
        )

    def moved(self, fixed: tuple[float, float], moving: tuple[float, float]) -> TiePoints:
        """The same points of images that theirs are cut out of, ``fixed`` and ``moving`` px (x, y) from the corner."""
        return replace(self, fixed=self.fixed + fixed, moving=self.moving + moving)

    def forward_backward_consistent(self, within: float = AGREEMENT_PX) -> TiePoints:
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

    @classmethod
    def joined(cls, parts: Sequence[Controls]) -> Controls | None:
        """The controls of several searches on one pair; None if there were none."""
        if not parts:
            return None
        candidate, control = (
            np.concatenate(each) for each in zip(*((p.candidate, p.control) for p in parts), strict=True)
        )
        return cls(candidate, control, parts[0].min_score)

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
        unscored: Tie points of further keypoints, found back, that the network was not asked about.
        n_unscored: Those further keypoints, with a place or without.
    """

    tie_points: TiePoints
    n_fixed: int
    n_moving: int
    n_candidates: int
    controls: Controls | None = None
    rejected: TiePoints = field(default_factory=no_tie_points)
    unscored: TiePoints = field(default_factory=no_tie_points)
    n_unscored: int = 0

    @property
    def all_points(self) -> TiePoints:
        """Tie points accepted by the network, then those unscored for."""
        return TiePoints.joined([points for points in (self.tie_points, self.unscored) if len(points)])

    @property
    def fitted(self) -> TiePoints:
        """The tie points that a transform is fitted to, all with a score.

        Those that the network was not asked about have the score to be expected of them: the mean of all that it was
        asked about, refused ones included.
        """
        points = self.all_points.forward_backward_consistent()
        asked = np.concatenate([self.tie_points.score, self.rejected.score])
        expected = float(asked.mean()) if len(asked) else 1.0
        return replace(points, score=np.nan_to_num(points.score, nan=expected))

    @classmethod
    def joined(cls, parts: Sequence[Matches]) -> Matches:
        """What several passes over parts of one scene gave together."""
        return cls(
            TiePoints.joined([part.tie_points for part in parts if len(part.tie_points)]),
            sum(part.n_fixed for part in parts),
            sum(part.n_moving for part in parts),
            sum(part.n_candidates for part in parts),
            Controls.joined([part.controls for part in parts if part.controls]),
            TiePoints.joined([part.rejected for part in parts if len(part.rejected)]),
            TiePoints.joined([part.unscored for part in parts if len(part.unscored)]),
            sum(part.n_unscored for part in parts),
        )

    def moved(self, fixed: tuple[float, float], moving: tuple[float, float]) -> Matches:
        """The same of images that those of the pass were cut out of; see ``TiePoints.moved``."""
        return replace(
            self,
            tie_points=self.tie_points.moved(fixed, moving),
            rejected=self.rejected.moved(fixed, moving),
            unscored=self.unscored.moved(fixed, moving),
        )


def _log_odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(probability, _LEAST_ODDS, 1 - _LEAST_ODDS)
    return np.asarray(np.log(bounded / (1 - bounded)))

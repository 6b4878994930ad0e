"""Tie points: corresponding points that the network has accepted, and the control points scored beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rrl_register.geometry.arrays import Flags, Floats, Indices, Points

AGREEMENT_PX = 1.0
"""Largest forward-backward error of a tie point that is fitted: on validation pairs the limit lowers the error of the
transform; a limit of 2 px gains half as much."""
_LEAST_ODDS = 1e-3
"""Probabilities are kept this far from 0 and 1, where log-odds are infinite."""


@dataclass(frozen=True)
class TiePoints:
    """``N`` corresponding points.

    Attributes:
        fixed: ``(N, 2)`` (x, y) in the fixed image.
        moving: ``(N, 2)`` (x, y) in the moving image.
        score: ``(N,)`` probability by RRL-Net that they match; NaN for unscored points.
        agreement_px: ``(N,)`` forward-backward error: distance, fixed px, between the fixed point and the end of the
            backward search from the moving point; NaN if that search finds nothing; None without backward search.
    """

    fixed: Points
    moving: Points
    score: Floats
    agreement_px: Floats | None = None

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def joined(cls, parts: Sequence[TiePoints]) -> TiePoints:
        """Join the points of several searches; either all or none of them include a backward search."""
        if not parts:
            return no_tie_points()
        agreement = [part.agreement_px for part in parts if part.agreement_px is not None]
        return cls(
            np.concatenate([part.fixed for part in parts]),
            np.concatenate([part.moving for part in parts]),
            np.concatenate([part.score for part in parts]),
            np.concatenate(agreement) if agreement else None,
        )

    def moved(self, fixed: tuple[float, float], moving: tuple[float, float]) -> TiePoints:
        """Return the points in the images that theirs are cut out of at ``fixed`` and ``moving`` (x, y), px."""
        return replace(self, fixed=self.fixed + fixed, moving=self.moving + moving)

    def forward_backward_consistent(self, within: float = AGREEMENT_PX) -> TiePoints:
        """Return the points whose forward-backward error is at most ``within`` px; all without backward search."""
        return self if self.agreement_px is None else self.at(self.agreement_px <= within)

    def at(self, chosen: Indices | Flags) -> TiePoints:
        """Return the points at some indices, or where a mask is true."""
        agreement = None if self.agreement_px is None else self.agreement_px[chosen]
        return TiePoints(self.fixed[chosen], self.moving[chosen], self.score[chosen], agreement)


def no_tie_points() -> TiePoints:
    """Return an empty set of tie points."""
    return TiePoints(np.empty((0, 2)), np.empty((0, 2)), np.empty(0))


@dataclass(frozen=True)
class Controls:
    """Control points: wrong places that are scored beside the candidates, to measure what scores mean on this pair.

    Attributes:
        candidate: ``(M,)`` probabilities of the best candidates of some keypoints, accepted or not.
        control: ``(M,)`` probabilities of places that are wrong for the same keypoints.
        min_score: Probability from which the network accepts a pair.
    """

    candidate: Floats
    control: Floats
    min_score: float

    @property
    def acceptance(self) -> float:
        """Share of the control points that the network accepts, 0-1; NaN without any."""
        return float(np.mean(self.control >= self.min_score)) if len(self.control) else float("nan")

    @property
    def margin(self) -> float:
        """Mean difference in log-odds between candidates and control points; NaN without any."""
        if not len(self.control):
            return float("nan")
        return float(np.mean(_log_odds(self.candidate) - _log_odds(self.control)))


@dataclass(frozen=True)
class Matches:
    """The result of one search over the scene.

    Attributes:
        tie_points: Accepted ones, at most one for each fixed keypoint.
        n_fixed, n_moving: Keypoints searched.
        n_candidates: Pairs that the network scored, without control points.
        controls: Control points; None if there are none.
        rejected: The best candidates of the fixed keypoints that have no accepted one.
        unscored: Tie points of further keypoints that passed the forward-backward check and were not scored.
        n_unscored: Number of those further keypoints, with a tie point or without.
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
        """The accepted tie points, then the unscored ones."""
        return TiePoints.joined([points for points in (self.tie_points, self.unscored) if len(points)])

    @property
    def fitted(self) -> TiePoints:
        """The tie points that a transform is fitted to, all with a score.

        Unscored ones get the expected score: the mean of all scored candidates, rejected ones included.
        """
        points = self.all_points.forward_backward_consistent()
        scores = np.concatenate([self.tie_points.score, self.rejected.score])
        known = scores[np.isfinite(scores)]
        return replace(points, score=np.nan_to_num(points.score, nan=float(known.mean()) if len(known) else 1.0))

    @classmethod
    def joined(cls, parts: Sequence[Matches]) -> Matches:
        """Join the results of searches over parts of one scene."""
        controls = [part.controls for part in parts if part.controls]
        candidate, control = ([getattr(each, name) for each in controls] for name in ("candidate", "control"))
        return cls(
            TiePoints.joined([part.tie_points for part in parts if len(part.tie_points)]),
            sum(part.n_fixed for part in parts),
            sum(part.n_moving for part in parts),
            sum(part.n_candidates for part in parts),
            Controls(np.concatenate(candidate), np.concatenate(control), controls[0].min_score) if controls else None,
            TiePoints.joined([part.rejected for part in parts if len(part.rejected)]),
            TiePoints.joined([part.unscored for part in parts if len(part.unscored)]),
            sum(part.n_unscored for part in parts),
        )

    def moved(self, fixed: tuple[float, float], moving: tuple[float, float]) -> Matches:
        """Return the result in the images that the searched ones were cut out of; see ``TiePoints.moved``."""
        return replace(
            self,
            tie_points=self.tie_points.moved(fixed, moving),
            rejected=self.rejected.moved(fixed, moving),
            unscored=self.unscored.moved(fixed, moving),
        )


def _log_odds(probability: Floats) -> Floats:
    bounded = np.clip(probability, _LEAST_ODDS, 1 - _LEAST_ODDS)
    return np.asarray(np.log(bounded / (1 - bounded)))

"""Guided matching: keypoints of the fixed image, located in the moving one by correlation around an estimate.

The network then scores the located candidates. It need not score all of them: the scores of a sample that is spread
over the scene show what the candidates of this pair are worth, and the forward-backward check admits the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rrl_register.geometry.arrays import Indices, Matrix, Points
from rrl_register.geometry.tie_points import Controls, Matches, TiePoints, no_tie_points
from rrl_register.geometry.transforms import invert, project
from rrl_register.matching.features.keypoints import detect
from rrl_register.matching.image_pair import MatchingContext
from rrl_register.matching.local_correlation import Structure, peaks_between
from rrl_register.nn.patches import PATCH_SIZE, PatchCutter

BACK_RADIUS = 8
"""Largest radius of the backward search, px: enough to show that both searches disagree."""
MAX_CONTROLS = 64
KEYPOINTS_PER_CONTROL = 6
"""One control for six keypoints shows how the network errs, and costs it less than a tenth of the scores."""
CONTROL_OFFSET = 10.0
"""Distance of a control from its candidate, patch px: beyond the error of a right match, within one neighbourhood."""
LEAST_ACCEPTED = 0.3
"""Share of a sample that the network must accept before the other candidates are checked forward-backward."""
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


def locate(
    context: MatchingContext, matrix: Matrix, radius: int, n_points: int, n_peaks: int, margin: int | None = None
) -> GuidedCandidates:
    """Locate keypoints of the fixed image in the moving one, to a fraction of a pixel.

    The candidates of a keypoint are the peaks of the correlation of oriented gradients, around where the estimate
    puts the keypoint.

    Args:
        context: The pair.
        matrix: ``(3, 3)`` estimate, reduced moving px -> reduced fixed px.
        radius: Largest error of the estimate along x and y, px; ``MAX_RADIUS`` at most.
        n_points: Largest number of keypoints.
        n_peaks: Candidates per keypoint.
        margin: Least distance of keypoints from the edge of the data, px; None: the context's.
    """
    placed, valid = context.pair.placed(matrix)
    fixed = context.pair.fixed
    points = detect(fixed.values, fixed.valid & valid, n_points, context.margin if margin is None else margin)
    structure = context.structure_of(placed, valid)
    peaks = peaks_between(context.fixed_structure, structure, points, radius, n_peaks)
    left, rank = np.nonzero(peaks.valid & np.isfinite(peaks.positions).all(axis=2))
    cutter = PatchCutter(placed, valid, context.support)
    positions, correlation = peaks.positions[left, rank], peaks.correlation[left, rank]
    return GuidedCandidates(context, matrix, radius, cutter, structure, points, left, positions, correlation)


@dataclass(frozen=True)
class GuidedCandidates:
    """``M`` candidates for ``N`` keypoints of the fixed image, not scored yet.

    Attributes:
        context: The pair.
        matrix: ``(3, 3)`` estimate around which they were located.
        radius: Search radius, px.
        cutter: Cuts patches of the moving image as the estimate places it on the fixed grid.
        structure: Oriented gradients of the moving image there.
        points: ``(N, 2)`` keypoints, ordered so that each leading part is spread over the scene.
        left: ``(M,)`` keypoint of each candidate, ascending, its best candidate first.
        positions: ``(M, 2)`` candidates, on the fixed grid.
        correlation: ``(M,)`` correlation at the candidates.
    """

    context: MatchingContext
    matrix: Matrix
    radius: int
    cutter: PatchCutter
    structure: Structure
    points: Points
    left: Indices
    positions: Points
    correlation: NDArray[np.float32]

    def score(self, first: int = 0, last: int | None = None) -> Matches:
        """Score the candidates of some keypoints, and controls beside some of them.

        The best accepted candidate of a keypoint becomes a tie point, with the result of its forward-backward check.

        Args:
            first: First of the keypoints.
            last: One after the last; None: to the end.
        """
        last = len(self.points) if last is None else last
        rows = np.flatnonzero((self.left >= first) & (self.left < last))
        left = self.left[rows]
        score, controls = self._scored_with_controls(rows)
        rating = score * np.clip(self.correlation[rows], 0, 1)
        kept = best_of_left(left, rating, score >= self.context.config.min_score)
        refused = best_of_left(left, rating, ~np.isin(left, left[kept]))
        tie_points = replace(self._tie_points(rows[kept], score[kept]), agreement_px=self._disagreement(rows[kept]))
        rejected = self._tie_points(rows[refused], score[refused])
        return Matches(tie_points, last - first, len(rows), len(rows), controls, rejected)

    def score_sample(self, n: int) -> Matches:
        """Score the first ``n`` keypoints; if enough are accepted, admit others that pass the forward-backward check.

        Tie points of the others have no score (NaN). With ``n`` keypoints or fewer in all, this is ``score``.
        """
        if n >= len(self.points):
            return self.score()
        scored = self.score(0, n)
        unscored = no_tie_points()
        if len(scored.tie_points) >= LEAST_ACCEPTED * n:
            rows = np.flatnonzero(self.left >= n)
            _, best = np.unique(self.left[rows], return_index=True)
            rows = rows[best]
            located = self._tie_points(rows, np.full(len(rows), np.nan, np.float32))
            unscored = replace(located, agreement_px=self._disagreement(rows)).forward_backward_consistent()
        return replace(scored, unscored=unscored, n_unscored=len(self.points) - n)

    def score_rest(self, sample: Matches) -> Matches:
        """Score the keypoints that ``score_sample`` left out, and join both."""
        return Matches.joined([replace(sample, unscored=no_tie_points(), n_unscored=0), self.score(sample.n_fixed)])

    def _tie_points(self, rows: Indices, score: NDArray[np.float32]) -> TiePoints:
        moving = project(invert(self.matrix), self.positions[rows])
        return TiePoints(self.points[self.left[rows]], moving, score.astype(np.float64))

    def _scored_with_controls(self, rows: Indices) -> tuple[NDArray[np.float32], Controls]:
        """Score candidates, and controls beside the best ones of some keypoints.

        One call scores them all, so that a keypoint's patch is encoded once for its candidates and its control.
        """
        points, left = np.unique(self.left[rows], return_inverse=True)
        positions = self.positions[rows]
        _, best = np.unique(left, return_index=True)
        n = min(MAX_CONTROLS, math.ceil(len(best) / KEYPOINTS_PER_CONTROL))
        sampled = best[np.linspace(0, len(best) - 1, n).round().astype(np.int64)]
        angle = _GOLDEN_ANGLE * np.arange(n)  # directions that cover the circle evenly
        offset = CONTROL_OFFSET * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        controls = positions[sampled] + offset * (self.context.support / PATCH_SIZE)
        score = self.context.score(
            self.context.fixed_cutter.cut(self.points[points]),
            self.cutter.cut(np.concatenate([positions, controls])),
            np.concatenate([left, left[sampled]]),
            np.arange(len(left) + n),
        )
        candidate, control = score[: len(left)], score[len(left) :]
        min_score = self.context.config.min_score
        return candidate, Controls(candidate[sampled].astype(np.float64), control.astype(np.float64), min_score)

    def _disagreement(self, rows: Indices) -> NDArray[np.float64]:
        """Return the distances ``(N,)`` between keypoint and end of the backward search, px; NaN if it ends nowhere."""
        radius = min(self.radius, BACK_RADIUS)
        back = peaks_between(self.structure, self.context.fixed_structure, self.positions[rows], radius, 1)
        return np.asarray(np.linalg.norm(back.positions[:, 0] - self.points[self.left[rows]], axis=1))


def best_of_left(left: Indices, rating: NDArray[np.floating], accepted: NDArray[np.bool_]) -> Indices:
    """Return the index of the best rated accepted pair of each keypoint."""
    rows = np.flatnonzero(accepted)
    order = rows[np.lexsort((-rating[rows], left[rows]))]
    _, first = np.unique(left[order], return_index=True)
    return order[first]

"""The second way to tie points: around a first estimate, where the structure of both images correlates best.

The network says which of the places are right. It need not see them all: asked about a part that is spread over the
scene, it shows what the places of this pair are worth, and the search back into the fixed image vouches for the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rrl_register.geometry.arrays import Indices, Matrix
from rrl_register.geometry.tie_points import Controls, Matches, TiePoints, no_tie_points
from rrl_register.geometry.transforms import invert, project
from rrl_register.matching.descriptor_matching import MatchingContext, best_of_left
from rrl_register.matching.features.keypoints import detect
from rrl_register.matching.local_correlation import Structure, peaks_between
from rrl_register.nn.patches import PATCH_SIZE, PatchCutter

BACK_RADIUS = 8
"""How far tie points are searched back at most, px: enough to show that the two searches disagree."""
MAX_CONTROLS = 64
KEYPOINTS_PER_CONTROL = 6
"""One in six keypoints shows how the network errs, and costs it less than a tenth of the pass."""
CONTROL_OFFSET = 10.0
"""Patch px between a candidate and its control: beyond what a right match may be off, within one neighbourhood."""
LEAST_ACCEPTED = 0.3
"""Of a sample, for the others to be searched back: less proves nothing whatever they may be."""
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


def guided_pass(
    scene: MatchingContext, matrix: Matrix, radius: int, n_points: int, n_peaks: int = 2, margin: int | None = None
) -> Matches:
    """Ties keypoints of the fixed image to places of the moving one, each accepted by the network; see ``locate``."""
    return locate(scene, matrix, radius, n_points, n_peaks, margin).judged()


def locate(
    scene: MatchingContext, matrix: Matrix, radius: int, n_points: int, n_peaks: int = 2, margin: int | None = None
) -> Located:
    """Looks for keypoints of the fixed image in the moving one, to a fraction of a pixel.

    Around where the estimate puts each keypoint, the peaks of the correlation of oriented gradients are the candidates.

    Args:
        scene: The pair.
        matrix: ``(3, 3)`` estimate so far, reduced moving px -> reduced fixed px.
        radius: How far the estimate may be off along x and y, px; ``MAX_RADIUS`` at most.
        n_points: Keypoints at most.
        n_peaks: Candidates for each keypoint.
        margin: Least distance of keypoints from the edge of the data, px; None: the scene's.
    """
    placed, valid = scene.pair.placed(matrix)
    margin = scene.margin if margin is None else margin
    points = detect(scene.pair.fixed, scene.pair.fixed_valid & valid, n_points, margin)
    structure = scene.structure_of(placed, valid)
    peaks = peaks_between(scene.fixed_structure, structure, points, radius, n_peaks)
    left, rank = np.nonzero(peaks.valid & np.isfinite(peaks.positions).all(axis=2))
    return Located(
        scene,
        matrix,
        radius,
        PatchCutter(placed, valid, scene.support),
        structure,
        points,
        left,
        peaks.positions[left, rank],
        peaks.correlation[left, rank],
    )


@dataclass(frozen=True)
class Located:
    """Candidates for ``N`` keypoints of the fixed image, before the network has seen them.

    Attributes:
        scene: The pair.
        matrix: ``(3, 3)`` the estimate that they were searched around.
        radius: How far, px.
        cutter: Cuts patches of the moving image as the estimate places it on the fixed grid.
        structure: Its oriented gradients.
        points: ``(N, 2)`` the keypoints, in an order of which each beginning is spread over the scene.
        left: ``(M,)`` the keypoint of each candidate, ascending, its best candidate first.
        places: ``(M, 2)`` the candidates, on the fixed grid.
        correlation: ``(M,)`` of the structure there.
    """

    scene: MatchingContext
    matrix: Matrix
    radius: int
    cutter: PatchCutter
    structure: Structure
    points: NDArray[np.float64]
    left: Indices
    places: NDArray[np.float64]
    correlation: NDArray[np.float32]

    def rounds(self, sample: int | None) -> Iterator[Matches]:
        """Asks the network about some keypoints, then, if more is asked for, about all.

        Args:
            sample: Keypoints of the first round, whose answer comes with those of the others that the search back
                vouches for; None: there is one round with all.
        """
        if sample is None or sample >= len(self.points):
            yield self.judged()
            return
        asked = self.judged(0, sample)
        promising = len(asked.tie_points) >= LEAST_ACCEPTED * sample
        unscored = self._vouched(sample) if promising else no_tie_points()
        yield replace(asked, unscored=unscored, n_unscored=len(self.points) - sample)
        yield Matches.joined([asked, self.judged(sample)])

    def judged(self, first: int = 0, last: int | None = None) -> Matches:
        """Asks the network about the candidates of some keypoints, and beside some of them about controls.

        Those accepted are searched back into the fixed image.

        Args:
            first: The first of the keypoints.
            last: The one after the last; None: to the end.
        """
        last = len(self.points) if last is None else last
        rows = np.flatnonzero((self.left >= first) & (self.left < last))
        left = self.left[rows]
        score, controls = self._scored_with_controls(rows)
        rating = score * np.clip(self.correlation[rows], 0, 1)
        kept = best_of_left(left, rating, score >= self.scene.config.min_score)
        refused = best_of_left(left, rating, ~np.isin(left, left[kept]))
        tie_points = replace(self._tied(rows[kept], score[kept]), agreement_px=self._agreement(rows[kept]))
        rejected = self._tied(rows[refused], score[refused])
        return Matches(tie_points, last - first, len(rows), len(rows), controls, rejected)

    def _vouched(self, first: int) -> TiePoints:
        """The best candidates of the keypoints from one on that the search back finds where they started."""
        rows = np.flatnonzero(self.left >= first)
        _, best = np.unique(self.left[rows], return_index=True)
        rows = rows[best]
        tied = self._tied(rows, np.full(len(rows), np.nan, np.float32))
        return replace(tied, agreement_px=self._agreement(rows)).forward_backward_consistent()

    def _tied(self, rows: Indices, score: NDArray[np.float32]) -> TiePoints:
        moving = project(invert(self.matrix), self.places[rows])
        return TiePoints(self.points[self.left[rows]], moving, score.astype(np.float64))

    def _scored_with_controls(self, rows: Indices) -> tuple[NDArray[np.float32], Controls]:
        """Scores of candidates, and of controls beside the best ones of some keypoints.

        All go to the network at once, so that a keypoint's patch is encoded once for its candidates and its control.
        """
        points, left = np.unique(self.left[rows], return_inverse=True)
        places = self.places[rows]
        sampled = _sample_of_best(left)
        control_places = places[sampled] + _control_offsets(len(sampled)) * (self.scene.support / PATCH_SIZE)
        score = self.scene.scored(
            self.scene.fixed_cutter.cut(self.points[points]),
            self.cutter.cut(np.concatenate([places, control_places])),
            np.concatenate([left, left[sampled]]),
            np.arange(len(left) + len(sampled)),
        )
        candidates, control = score[: len(left)], score[len(left) :]
        min_score = self.scene.config.min_score
        return candidates, Controls(candidates[sampled].astype(np.float64), control.astype(np.float64), min_score)

    def _agreement(self, rows: Indices) -> NDArray[np.float64]:
        """How far from its keypoint the search from each place back into the fixed image ends, px; or NaN."""
        radius, places = min(self.radius, BACK_RADIUS), self.places[rows]
        back = peaks_between(self.structure, self.scene.fixed_structure, places, radius, 1)
        return np.asarray(np.linalg.norm(back.positions[:, 0] - self.points[self.left[rows]], axis=1))


def _sample_of_best(left: Indices) -> Indices:
    """Indices of the best candidates of some keypoints, evenly taken out of the order that those are in."""
    _, best = np.unique(left, return_index=True)
    n = min(MAX_CONTROLS, math.ceil(len(best) / KEYPOINTS_PER_CONTROL))
    return best[np.linspace(0, len(best) - 1, n).round().astype(np.int64)]


def _control_offsets(n: int) -> NDArray[np.float64]:
    """Steps ``(n, 2)`` from candidates to controls, patch px, in directions that cover the circle evenly."""
    angle = _GOLDEN_ANGLE * np.arange(n)
    return CONTROL_OFFSET * np.stack([np.cos(angle), np.sin(angle)], axis=1)

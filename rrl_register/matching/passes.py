"""The two ways to tie points: keypoints of both images by descriptor, and places around a first estimate by structure.

In both the candidates are RRL-Net's to accept: a tie point is a candidate that the network gives ``min_score`` or more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import MatchConfig
from rrl_register.estimation.transforms import Matrix, invert, project
from rrl_register.keypoints import detect
from rrl_register.matching.refine import local_peaks
from rrl_register.matching.tie_points import Controls, Matches, TiePoints, no_tie_points
from rrl_register.nn import Spectrum
from rrl_register.patches import PATCH_SIZE, PatchCutter
from rrl_register.structure import Image, oriented_gradients
from rrl_register.working import WorkingPair

N_ORIENTATIONS = 6
"""Directions of the gradients that are correlated; fewer than CFOG's nine, for the cost grows with them."""
BACK_RADIUS = 8
"""How far tie points are searched back at most, px: enough to show that the two searches disagree."""
MAX_CONTROLS = 64
KEYPOINTS_PER_CONTROL = 6
"""One in six keypoints shows how the network errs, and costs it less than a tenth of the pass."""
CONTROL_OFFSET = 10.0
"""Patch px between a candidate and its control: beyond what a right match may be off, within one neighbourhood."""
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))

Indices = NDArray[np.int64]
Patches = NDArray[np.float32]


class PatchScorer(Protocol):
    """What the passes ask of the network; ``matching.scoring.Scorer`` has it."""

    def describe(self, patches: Patches, spectrum: Spectrum) -> NDArray[np.float32]:
        """Unit descriptors of patches."""

    def score(self, visible: Patches, other: Patches, left: Indices, right: Indices) -> NDArray[np.float32]:
        """Probabilities that pairs of patches match."""


@dataclass(frozen=True)
class Scene:
    """A pair with all that the passes use again and again.

    Attributes:
        pair: The images.
        support: Ground under a patch, px.
        fixed_cutter: Cuts the fixed image's patches.
        fixed_channels: Its oriented gradients.
        spectra: The encoders of the fixed and of the moving image.
        scorer: The network.
        config: Of the matching.
    """

    pair: WorkingPair
    support: int
    fixed_cutter: PatchCutter
    fixed_channels: Image
    spectra: tuple[Spectrum, Spectrum]
    scorer: PatchScorer
    config: MatchConfig

    @classmethod
    def of(
        cls,
        pair: WorkingPair,
        support: int,
        spectra: tuple[Spectrum, Spectrum],
        scorer: PatchScorer,
        config: MatchConfig,
    ) -> Scene:
        """Prepares a pair."""
        cutter = PatchCutter(pair.fixed, pair.fixed_valid, support)
        channels = oriented_gradients(pair.fixed, pair.fixed_valid, N_ORIENTATIONS)
        return cls(pair, support, cutter, channels, spectra, scorer, config)

    def at_scale(self, scale: float) -> Scene:
        """The scene at the resolution that suits a scale, fixed px per moving px; see ``WorkingPair.at_scale``."""
        pair = self.pair.at_scale(scale)
        return self if pair is self.pair else self.showing(pair)

    def showing(self, pair: WorkingPair) -> Scene:
        """The scene with other images: of another resolution, or a part of it."""
        return Scene.of(pair, self.support, self.spectra, self.scorer, self.config)

    @property
    def margin(self) -> int:
        """Least distance of keypoints from the edge of the data, px: beyond it a patch would show mostly filling."""
        return self.support // 4

    @property
    def correlation_half(self) -> int:
        """Half the side of the correlated window, px: three quarters of a patch's ground, less in small images."""
        shortest: int = min(self.pair.fixed.shape)
        return min(3 * self.support // 4, 64, shortest // 6)

    def scored(self, fixed: Patches, moving: Patches, left: Indices, right: Indices) -> NDArray[np.float32]:
        """Probabilities of pairs (fixed ``left``, moving ``right``), each patch through its own encoder."""
        if self.spectra[0] is Spectrum.VISIBLE:
            return self.scorer.score(fixed, moving, left, right)
        return self.scorer.score(moving, fixed, right, left)


def keypoint_pass(scene: Scene, matrix: Matrix, radius: float) -> Matches:
    """Ties keypoints of both images.

    Candidates are those among the most similar descriptors of each other, both ways, within the search radius.

    Args:
        scene: The pair.
        matrix: ``(3, 3)`` estimate so far, reduced moving px -> reduced fixed px.
        radius: How far the estimate may be off, px.
    """
    config = scene.config
    placed, valid = scene.pair.placed(matrix)
    fixed = _by_tiles(detect(scene.pair.fixed, scene.pair.fixed_valid & valid, config.n_keypoints, scene.margin))
    moving = detect(placed, valid & scene.pair.fixed_valid, config.n_keypoints, scene.margin)
    if not (len(fixed) and len(moving)):
        return Matches(no_tie_points(), len(fixed), len(moving), 0)
    fixed_patches = scene.fixed_cutter.cut(fixed)
    moving_patches = PatchCutter(placed, valid, scene.support).cut(moving)
    left, right = _candidates(
        scene.scorer.describe(fixed_patches, scene.spectra[0]),
        scene.scorer.describe(moving_patches, scene.spectra[1]),
        np.linalg.norm(fixed[:, None] - moving[None], axis=2) <= radius,
        config.n_candidates,
    )
    score = scene.scored(fixed_patches, moving_patches, left, right)
    kept = _best_each_way(left, right, score, config.min_score)
    moving_points = project(invert(matrix), moving[right[kept]])
    tie_points = TiePoints(fixed[left[kept]], moving_points, score[kept].astype(np.float64))
    return Matches(tie_points, len(fixed), len(moving), len(left))


def guided_pass(
    scene: Scene, matrix: Matrix, radius: int, n_points: int, n_peaks: int = 2, margin: int | None = None
) -> Matches:
    """Ties keypoints of the fixed image to places of the moving one, to a fraction of a pixel.

    Around where the estimate puts each keypoint, the peaks of the correlation of oriented gradients are the candidates.
    Those accepted are searched back into the fixed image; beside some candidates the network is asked about controls.

    Args:
        scene: The pair.
        matrix: ``(3, 3)`` estimate so far, reduced moving px -> reduced fixed px.
        radius: How far the estimate may be off along x and y, px.
        n_points: Keypoints at most.
        n_peaks: Candidates for each keypoint.
        margin: Least distance of keypoints from the edge of the data, px; None: the scene's.
    """
    placed, valid = scene.pair.placed(matrix)
    margin = scene.margin if margin is None else margin
    points = detect(scene.pair.fixed, scene.pair.fixed_valid & valid, n_points, margin)
    if not len(points):
        return Matches(no_tie_points(), 0, 0, 0)
    channels = oriented_gradients(placed, valid, N_ORIENTATIONS)
    peaks = local_peaks(scene.fixed_channels, channels, points, scene.correlation_half, radius, n_peaks)
    left, rank = np.nonzero(peaks.valid & np.isfinite(peaks.positions).all(axis=2))
    places = peaks.positions[left, rank]
    score, controls = _scored_with_controls(scene, PatchCutter(placed, valid, scene.support), points, places, left)
    rating = score * np.clip(peaks.correlation[left, rank], 0, 1)
    kept = _best_of_left(left, rating, score >= scene.config.min_score)
    refused = _best_of_left(left, rating, ~np.isin(left, left[kept]))
    agreement = _agreement(scene, channels, points[left[kept]], places[kept], min(radius, BACK_RADIUS))
    tied = TiePoints(points[left], project(invert(matrix), places), score.astype(np.float64))
    tie_points = replace(tied.at(kept), agreement_px=agreement)
    return Matches(tie_points, len(points), len(left), len(left), controls, tied.at(refused))


def _scored_with_controls(
    scene: Scene, moving_cutter: PatchCutter, points: NDArray[np.float64], places: NDArray[np.float64], left: Indices
) -> tuple[NDArray[np.float32], Controls]:
    """Scores of the candidates, and of controls beside the best ones of some keypoints.

    All go to the network at once, so that a keypoint's patch is encoded once for its candidates and its control.
    """
    sampled = _sample_of_best(left)
    control_places = places[sampled] + _control_offsets(len(sampled)) * (scene.support / PATCH_SIZE)
    score = scene.scored(
        scene.fixed_cutter.cut(points),
        moving_cutter.cut(np.concatenate([places, control_places])),
        np.concatenate([left, left[sampled]]),
        np.arange(len(left) + len(sampled)),
    )
    candidates, control = score[: len(left)], score[len(left) :]
    return candidates, Controls(
        candidates[sampled].astype(np.float64), control.astype(np.float64), scene.config.min_score
    )


def _sample_of_best(left: Indices) -> Indices:
    """Indices of the best candidates of some keypoints, evenly taken out of the order that those are in."""
    _, best = np.unique(left, return_index=True)
    n = min(MAX_CONTROLS, math.ceil(len(best) / KEYPOINTS_PER_CONTROL))
    return best[np.linspace(0, len(best) - 1, n).round().astype(np.int64)]


def _control_offsets(n: int) -> NDArray[np.float64]:
    """Steps ``(n, 2)`` from candidates to controls, patch px, in directions that cover the circle evenly."""
    angle = _GOLDEN_ANGLE * np.arange(n)
    return CONTROL_OFFSET * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _agreement(
    scene: Scene, channels: Image, fixed: NDArray[np.float64], places: NDArray[np.float64], radius: int
) -> NDArray[np.float64]:
    """How far from each fixed point the search from its place back into the fixed image ends, ``(N,)`` px; or NaN."""
    back = local_peaks(channels, scene.fixed_channels, places, scene.correlation_half, radius, 1)
    return np.asarray(np.linalg.norm(back.positions[:, 0] - fixed, axis=1))


def _by_tiles(points: NDArray[np.float64], side: float = 128.0) -> NDArray[np.float64]:
    """Points in the order of tiles: neighbours share candidates, which then are encoded once for all of them."""
    column, row = (points // side).T
    return points[np.lexsort((points[:, 0], column, row))]


def _candidates(
    fixed: NDArray[np.float32], moving: NDArray[np.float32], near: NDArray[np.bool_], k: int
) -> tuple[Indices, Indices]:
    """Pairs that are among each other's ``k`` most similar within reach; two index vectors."""
    similarity = np.where(near, fixed @ moving.T, -np.inf)
    chosen = _top(similarity, k) & _top(similarity.T, k).T & near
    left, right = np.nonzero(chosen)
    return left.astype(np.int64), right.astype(np.int64)


def _top(similarity: NDArray[np.floating], k: int) -> NDArray[np.bool_]:
    """Where each row has its ``k`` largest values."""
    if k >= similarity.shape[1]:
        return np.ones_like(similarity, bool)
    limit = np.partition(similarity, -k, axis=1)[:, -k, None]
    return np.asarray(similarity >= limit)


def _best_each_way(left: Indices, right: Indices, score: NDArray[np.float32], min_score: float) -> Indices:
    """Indices of accepted pairs that are the best of both their keypoints."""
    accepted = score >= min_score
    best_left = _best_of_left(left, score, accepted)
    best_right = _best_of_left(right, score, accepted)
    return np.intersect1d(best_left, best_right)


def _best_of_left(left: Indices, rating: NDArray[np.floating], accepted: NDArray[np.bool_]) -> Indices:
    """Indices of the best rated accepted pair of each keypoint."""
    rows = np.flatnonzero(accepted)
    order = rows[np.lexsort((-rating[rows], left[rows]))]
    _, first = np.unique(left[order], return_index=True)
    return order[first]

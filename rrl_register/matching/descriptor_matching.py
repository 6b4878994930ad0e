"""A pair as the searches see it, and the first way to tie points: keypoints of both images, by descriptor.

The other way is ``matching.guided``. In both the candidates are RRL-Net's to accept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import MatchConfig
from rrl_register.geometry.arrays import Image, Indices, Mask, Matrix, Patches
from rrl_register.geometry.tie_points import Matches, TiePoints, no_tie_points
from rrl_register.geometry.transforms import invert, project
from rrl_register.matching.features.keypoints import detect
from rrl_register.matching.image_pair import ImagePair
from rrl_register.matching.local_correlation import Structure
from rrl_register.nn.encoder_choice import Spectrum
from rrl_register.nn.inference import PatchScorer
from rrl_register.nn.patches import PatchCutter

MAX_RADIUS = 20
"""How far from an estimate the structure is searched at most, px."""


@dataclass(frozen=True)
class MatchingContext:
    """A pair with all that the passes use again and again.

    Attributes:
        pair: The images.
        support: Ground under a patch, px.
        fixed_cutter: Cuts the fixed image's patches.
        fixed_structure: Its oriented gradients.
        spectra: The encoders of the fixed and of the moving image.
        scorer: The network.
        config: Of the matching.
    """

    pair: ImagePair
    support: int
    fixed_cutter: PatchCutter
    fixed_structure: Structure
    spectra: tuple[Spectrum, Spectrum]
    scorer: PatchScorer
    config: MatchConfig

    @classmethod
    def of(
        cls,
        pair: ImagePair,
        support: int,
        spectra: tuple[Spectrum, Spectrum],
        scorer: PatchScorer,
        config: MatchConfig,
    ) -> MatchingContext:
        """Prepares a pair."""
        cutter = PatchCutter(pair.fixed, pair.fixed_valid, support)
        structure = Structure.of(pair.fixed, pair.fixed_valid, _correlation_half(pair, support), MAX_RADIUS)
        return cls(pair, support, cutter, structure, spectra, scorer, config)

    def at_scale(self, scale: float) -> MatchingContext:
        """The scene at the resolution that suits a scale, fixed px per moving px; see ``ImagePair.at_scale``."""
        pair = self.pair.at_scale(scale)
        return self if pair is self.pair else self.showing(pair)

    def showing(self, pair: ImagePair) -> MatchingContext:
        """The scene with other images: of another resolution, or a part of it."""
        return MatchingContext.of(pair, self.support, self.spectra, self.scorer, self.config)

    @property
    def margin(self) -> int:
        """Least distance of keypoints from the edge of the data, px: beyond it a patch would show mostly filling."""
        return self.support // 4

    def structure_of(self, placed: Image, valid: Mask) -> Structure:
        """Oriented gradients of the moving image where an estimate places it on the fixed grid."""
        return Structure.of(placed, valid, self.correlation_half, MAX_RADIUS)

    @property
    def correlation_half(self) -> int:
        """Half the side of the correlated window, px."""
        return self.fixed_structure.half

    def scored(self, fixed: Patches, moving: Patches, left: Indices, right: Indices) -> NDArray[np.float32]:
        """Probabilities of pairs (fixed ``left``, moving ``right``), each patch through its own encoder."""
        if self.spectra[0] is Spectrum.VISIBLE:
            return self.scorer.score(fixed, moving, left, right)
        return self.scorer.score(moving, fixed, right, left)


def _correlation_half(pair: ImagePair, support: int) -> int:
    """Half the side of the correlated window, px: three quarters of a patch's ground, less in small images."""
    shortest: int = min(pair.fixed.shape)
    return min(3 * support // 4, 64, shortest // 6)


def keypoint_pass(scene: MatchingContext, matrix: Matrix, radius: float) -> Matches:
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
    best_left = best_of_left(left, score, accepted)
    best_right = best_of_left(right, score, accepted)
    return np.intersect1d(best_left, best_right)


def best_of_left(left: Indices, rating: NDArray[np.floating], accepted: NDArray[np.bool_]) -> Indices:
    """Indices of the best rated accepted pair of each keypoint."""
    rows = np.flatnonzero(accepted)
    order = rows[np.lexsort((-rating[rows], left[rows]))]
    _, first = np.unique(left[order], return_index=True)
    return order[first]

"""Descriptor matching: keypoints of both images, paired by their descriptors and scored by the network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.tie_points import Matches, TiePoints, no_tie_points
from rrl_register.geometry.transforms import invert, project
from rrl_register.matching.features.keypoints import detect
from rrl_register.matching.guided_matching import best_of_left
from rrl_register.matching.image_pair import MatchingContext
from rrl_register.nn.patches import PatchCutter

_TILE = 128.0
"""Side of the tiles in whose order keypoints are scored, px: neighbours share candidates, encoded once for all."""


def match_descriptors(context: MatchingContext, matrix: Matrix, radius: float) -> Matches:
    """Match keypoints of both images by their descriptors, and score the candidates.

    A candidate is a pair of keypoints within the search radius that are among each other's most similar descriptors.

    Args:
        context: The pair.
        matrix: ``(3, 3)`` initial transform, reduced moving px -> reduced fixed px.
        radius: Largest error of the initial transform, px.
    """
    config, pair = context.config, context.pair
    placed, valid = pair.placed(matrix)
    both = pair.fixed.valid & valid
    fixed = detect(pair.fixed.values, both, config.n_keypoints, context.margin)
    moving = detect(placed, both, config.n_keypoints, context.margin)
    if not (len(fixed) and len(moving)):
        return Matches(no_tie_points(), len(fixed), len(moving), 0)
    column, row = (fixed // _TILE).T
    fixed = fixed[np.lexsort((fixed[:, 0], column, row))]
    fixed_patches = context.fixed_cutter.cut(fixed)
    moving_patches = PatchCutter(placed, valid, context.support).cut(moving)
    descriptors = context.scorer.describe(fixed_patches, context.spectra[0])
    others = context.scorer.describe(moving_patches, context.spectra[1])
    near = np.linalg.norm(fixed[:, None] - moving[None], axis=2) <= radius
    similarity, k = np.where(near, descriptors @ others.T, -np.inf), config.n_candidates
    left, right = np.nonzero(_largest(similarity, k) & _largest(similarity.T, k).T & near)
    score = context.score(fixed_patches, moving_patches, left, right)
    accepted = score >= config.min_score
    kept = np.intersect1d(best_of_left(left, score, accepted), best_of_left(right, score, accepted))
    moving_points = project(invert(matrix), moving[right[kept]])
    tie_points = TiePoints(fixed[left[kept]], moving_points, score[kept].astype(np.float64))
    return Matches(tie_points, len(fixed), len(moving), len(left))


def _largest(similarity: NDArray[np.floating], k: int) -> NDArray[np.bool_]:
    """Return the mask of the ``k`` largest values of each row."""
    if k >= similarity.shape[1]:
        return np.ones_like(similarity, bool)
    return np.asarray(similarity >= np.partition(similarity, -k, axis=1)[:, -k, None])

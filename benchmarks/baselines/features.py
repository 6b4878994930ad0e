"""From local features to a homography: mutual nearest neighbours, MAGSAC++."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from command import Found
from numpy.typing import NDArray

MAX_FEATURES = 4096
THRESHOLD_PX = 3.0
MIN_INLIERS = 20
"""Wrong homographies gather up to 16 of a thousand matches."""
MAX_ITERATIONS = 20000
CONFIDENCE = 0.9999


@dataclass(frozen=True)
class Features:
    """Keypoints of an image and what they look like.

    Attributes:
        points: (N, 2) pixels.
        descriptors: (N, D), compared by their cosine.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.float32]


def match_features(fixed: Features, moving: Features) -> Found:
    """Match features and fit a homography; refused with fewer than ``MIN_INLIERS`` inliers."""
    if min(len(fixed.points), len(moving.points)) < 4:
        return Found(None, 0, "fewer than 4 keypoints")
    i, j = mutual_neighbours(fixed.descriptors, moving.descriptors)
    if len(i) < 4:
        return Found(None, 0, "fewer than 4 matches")
    matrix, inlier = cv2.findHomography(
        moving.points[j], fixed.points[i], cv2.USAC_MAGSAC, THRESHOLD_PX, maxIters=MAX_ITERATIONS, confidence=CONFIDENCE
    )
    n_inliers = 0 if matrix is None else int(inlier.sum())
    if n_inliers < MIN_INLIERS:
        return Found(None, n_inliers, f"{n_inliers} inliers of {len(i)} matches, fewer than {MIN_INLIERS}")
    return Found(matrix, n_inliers)


def mutual_neighbours(
    one: NDArray[np.float32], other: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs that are each other's most similar, (M,) indices into ``one`` (N, D) and ``other`` (K, D)."""
    cosine = _unit(one) @ _unit(other).T
    best = cosine.argmax(axis=1)
    i = np.flatnonzero(cosine.argmax(axis=0)[best] == np.arange(len(one)))
    return i, best[i]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

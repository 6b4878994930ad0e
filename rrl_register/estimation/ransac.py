"""Robust estimation: transforms out of tie points of which many are wrong, and an honest figure for their error."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrl_register.errors import NotRegisteredError
from rrl_register.estimation.cross_validation import fits_without
from rrl_register.geometry.arrays import Matrix, Points
from rrl_register.geometry.displacement import AnyFit, distances
from rrl_register.geometry.transforms import (
    Fit,
    fit_affine,
    fit_homography,
    fit_similarity,
    fit_translation,
    from_complex,
    residuals,
)

_MAX_ITERATIONS = 20_000
_CONFIDENCE = 0.9999
_SAMPLES = 3000
"""Hypotheses at most of a translation or a similarity."""
_CHUNK = 60_000
"""Distances that are measured at once, so that they stay in the processor's cache."""
_REFIT_STEPS = 15
_BLOCKS = 5
"""Blocks along each axis that the scene is cut into; as many as default folds, so that each fold meets every row."""


class Model(StrEnum):
    """Transform models that can be estimated robustly, from stiff to flexible."""

    TRANSLATION = "translation"
    SIMILARITY = "similarity"
    AFFINE = "affine"
    HOMOGRAPHY = "homography"

    @property
    def min_points(self) -> int:
        """Tie points that determine the model."""
        return {"translation": 1, "similarity": 2, "affine": 3, "homography": 4}[self.value]

    @property
    def fit(self) -> Fit:
        """Weighted least-squares fit of the model."""
        return {
            "translation": fit_translation,
            "similarity": fit_similarity,
            "affine": fit_affine,
            "homography": fit_homography,
        }[self.value]


class RobustFit(NamedTuple):
    """A robustly estimated transform.

    Attributes:
        matrix: (3, 3) transform moving -> fixed. That there is one is no verdict: random points have one, too.
        inliers: (N,) bool, the tie points within the threshold of it.
    """

    matrix: Matrix
    inliers: NDArray[np.bool_]


def robust_fit(
    moving: ArrayLike,
    fixed: ArrayLike,
    threshold: float = 3.0,
    model: Model | str = Model.HOMOGRAPHY,
    weights: ArrayLike | None = None,
    seed: int = 0,
) -> RobustFit | None:
    """Estimate a transform from tie points with outliers, then refit it to its inliers.

    Args:
        moving: (N, 2) points.
        fixed: (N, 2) corresponding points.
        threshold: largest residual of an inlier, fixed pixels.
        model: what to estimate.
        weights: (N,) trust in each tie point, >= 0; None: all 1. They count in the refit, and in the vote on a
            translation or a similarity.
        seed: of the random samples; a translation and a similarity draw some (MAGSAC++ of OpenCV always draws the
            same).

    Returns:
        Transform and inliers, or None when the points determine no transform (too few, on one line, in one place).
    """
    estimator = {
        Model.TRANSLATION: robust_translation,
        Model.SIMILARITY: robust_similarity,
        Model.AFFINE: robust_affine,
        Model.HOMOGRAPHY: robust_homography,
    }[Model(model)]
    return estimator(moving, fixed, threshold, weights=weights, seed=seed)


def robust_homography(
    moving: ArrayLike, fixed: ArrayLike, threshold: float = 3.0, *, weights: ArrayLike | None = None, seed: int = 0
) -> RobustFit | None:
    """Homography by MAGSAC++ (Barath et al. 2020, as in OpenCV's USAC), refitted to its inliers; see ``robust_fit``."""
    m, f, w = _arrays(moving, fixed, weights)
    if len(m) < Model.HOMOGRAPHY.min_points:  # OpenCV raises on three points
        return None
    matrix, _ = cv2.findHomography(m, f, cv2.USAC_MAGSAC, threshold, maxIters=_MAX_ITERATIONS, confidence=_CONFIDENCE)
    return None if matrix is None else refit(m, f, matrix, threshold, Model.HOMOGRAPHY, w)


def robust_affine(
    moving: ArrayLike, fixed: ArrayLike, threshold: float = 3.0, *, weights: ArrayLike | None = None, seed: int = 0
) -> RobustFit | None:
    """Affine transform by MAGSAC++ (as in OpenCV's USAC), refitted to its inliers; see ``robust_fit``."""
    m, f, w = _arrays(moving, fixed, weights)
    if len(m) < Model.AFFINE.min_points:
        return None
    affine, _ = cv2.estimateAffine2D(
        m, f, method=cv2.USAC_MAGSAC, ransacReprojThreshold=threshold, maxIters=_MAX_ITERATIONS, confidence=_CONFIDENCE
    )
    if affine is None:
        return None
    return refit(m, f, np.vstack([affine, [0.0, 0.0, 1.0]]), threshold, Model.AFFINE, w)


def robust_similarity(
    moving: ArrayLike, fixed: ArrayLike, threshold: float = 3.0, *, weights: ArrayLike | None = None, seed: int = 0
) -> RobustFit | None:
    """Similarity by weighted RANSAC over pairs of tie points, refitted to its inliers; see ``robust_fit``.

    Two points make a hypothesis, so that it holds where few or weak tie points are right. All pairs are tried when
    there are no more than 3000, else as many random ones; they are ranked by truncated squares (MSAC, Torr 2000).
    """
    m, f, w = _arrays(moving, fixed, weights)
    first, second = _pairs(len(m), seed)
    zm, zf = m[:, 0] + 1j * m[:, 1], f[:, 0] + 1j * f[:, 1]
    apart = (np.abs(zm[first] - zm[second]) > 2 * threshold) & (zf[first] != zf[second])
    first, second = first[apart], second[apart]
    if not len(first):
        return None
    a = (zf[first] - zf[second]) / (zm[first] - zm[second])
    best = _best_similarity(zm, zf, w, a, zf[first] - a * zm[first], threshold)
    return refit(m, f, from_complex(*best), threshold, Model.SIMILARITY, w)


def robust_translation(
    moving: ArrayLike, fixed: ArrayLike, threshold: float = 3.0, *, weights: ArrayLike | None = None, seed: int = 0
) -> RobustFit | None:
    """Shift by weighted RANSAC over single tie points, refitted to its inliers; see ``robust_fit``.

    Every tie point makes a hypothesis, or 3000 random ones where there are more; ranked as those of a similarity.
    """
    m, f, w = _arrays(moving, fixed, weights)
    if not len(m):
        return None
    zm, zf = m[:, 0] + 1j * m[:, 1], f[:, 0] + 1j * f[:, 1]
    tried = np.arange(len(m))
    if len(m) > _SAMPLES:
        tried = np.random.default_rng(seed).choice(len(m), _SAMPLES, replace=False)
    shift = (zf - zm)[tried]
    best = _best_similarity(zm, zf, w, np.ones_like(shift), shift, threshold)
    return refit(m, f, from_complex(*best), threshold, Model.TRANSLATION, w)


def refit(
    moving: ArrayLike,
    fixed: ArrayLike,
    matrix: ArrayLike,
    threshold: float,
    model: Model | str = Model.HOMOGRAPHY,
    weights: ArrayLike | None = None,
) -> RobustFit | None:
    """Improve a transform by iteratively reweighted least squares on the tie points near it.

    Tukey's biweight with the threshold as its end lets a point fade out instead of dropping in and out of the inliers.

    Args:
        moving: (N, 2) points.
        fixed: (N, 2) corresponding points.
        matrix: (3, 3) transform to start from.
        threshold: largest residual of an inlier, fixed pixels.
        model: what to fit; may be richer than the model of ``matrix``.
        weights: (N,) trust in each tie point; None: all 1.

    Returns:
        Transform and inliers; None when the inliers do not determine the model.
    """
    m, f, w = _arrays(moving, fixed, weights)
    fit = Model(model).fit
    current = np.asarray(matrix, np.float64)
    for _ in range(_REFIT_STEPS):
        try:
            updated = fit(m, f, w * biweight(residuals(current, m, f), threshold))
        except NotRegisteredError:
            return None
        settled = not (np.abs(updated - current) > 1e-9 * (1 + np.abs(current))).any()
        current = updated
        if settled:
            break
    return RobustFit(current, residuals(current, m, f) <= threshold)


def biweight(residual: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """Tukey's biweight of residuals, 1 at 0 and 0 from the threshold on (Beaton & Tukey 1974)."""
    weight: NDArray[np.float64] = np.clip(1 - (residual / threshold) ** 2, 0, None) ** 2
    return weight


def held_out_residuals(
    moving: ArrayLike,
    fixed: ArrayLike,
    folds: int = 5,
    fit: AnyFit = fit_homography,
    weights: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Residual of each tie point under a transform fitted without it and without its neighbourhood.

    Points are left out by blocks of the scene, for a point's neighbours share its error and would vouch for it. The
    points should be the inliers of a robust fit: their choice has seen all of them, which no fold can undo.

    Args:
        moving: (N, 2) points.
        fixed: (N, 2) corresponding points.
        folds: parts that are left out in turn.
        fit: weighted least-squares fit.
        weights: (N,) weights in the fits; None: all 1.

    Returns:
        (N,) float64, fixed pixels; NaN where the other points determine no transform.
    """
    return left_out_residuals(moving, fixed, spatial_folds(fixed, folds), fit, weights)


def left_out_residuals(
    moving: ArrayLike,
    fixed: ArrayLike,
    parts: NDArray[np.int64],
    fit: AnyFit = fit_homography,
    weights: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Residual of each tie point under a transform fitted without the part that it belongs to.

    Args:
        moving: (N, 2) points.
        fixed: (N, 2) corresponding points.
        parts: (N,) the part of each point; one part after the other is left out.
        fit: weighted least-squares fit.
        weights: (N,) weights in the fits; None: all 1.

    Returns:
        (N,) float64, fixed pixels; NaN where the other points determine no transform.
    """
    m, f, w = _arrays(moving, fixed, weights)
    names, part_of = np.unique(parts, return_inverse=True)
    found = fits_without(fit, m, f, w, parts)
    fits = [found[name] for name in names.tolist()]
    known = np.array([each is not None for each in fits], bool)[part_of]
    # Each point by the matrix of its part, all at once, which is faster than part by part.
    matrices = np.array([np.eye(3) if each is None else each.matrix for each in fits]).reshape(-1, 3, 3)[part_of]
    placed = (matrices @ np.column_stack([m, np.ones(len(m))])[:, :, None])[:, :, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        miss = placed[:, :2] / placed[:, 2:] - f
    for row, each in enumerate(fits):
        if each is not None and each.displacement is not None:
            out = part_of == row
            miss[out] += each.displacement.at(f[out])
    return np.where(known, distances(miss), np.nan)


def held_out_rmse(
    moving: ArrayLike,
    fixed: ArrayLike,
    folds: int = 5,
    fit: AnyFit = fit_homography,
    weights: ArrayLike | None = None,
) -> float:
    """Check error: root mean square of ``held_out_residuals``, fixed pixels; NaN when a fold cannot be fitted."""
    held_out = held_out_residuals(moving, fixed, folds, fit, weights)
    return float(np.sqrt(np.mean(held_out**2))) if len(held_out) else float("nan")


def spatial_folds(points: ArrayLike, folds: int = 5) -> NDArray[np.int64]:
    """Assign points to folds by blocks of the scene.

    Neighbouring blocks (see ``spatial_blocks``) get different folds, so that each fold is spread over the scene.

    Args:
        points: (N, 2) points.
        folds: number of folds.

    Returns:
        (N,) int64, 0..folds-1.
    """
    column, row = np.divmod(spatial_blocks(points), _BLOCKS)
    return np.asarray((column + 2 * row) % folds)


def spatial_blocks(points: ArrayLike) -> NDArray[np.int64]:
    """Cut the scene into 5 x 5 blocks that hold about equally many points per column and per row.

    Args:
        points: (N, 2) points.

    Returns:
        (N,) int64, the block of each point, 0..24: five times its column plus its row.
    """
    xy = np.asarray(points, np.float64).reshape(-1, 2)
    return _BLOCKS * _rank_block(xy[:, 0]) + _rank_block(xy[:, 1])


def _rank_block(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Block 0.._BLOCKS-1 of each value by its rank."""
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return rank * _BLOCKS // max(len(values), 1)


def _arrays(
    moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None
) -> tuple[Points, Points, NDArray[np.float64]]:
    m = np.asarray(moving, np.float64).reshape(-1, 2)
    w = np.ones(len(m)) if weights is None else np.asarray(weights, np.float64)
    return m, np.asarray(fixed, np.float64).reshape(-1, 2), w


def _pairs(n: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of pairs of different points: all of them, or as many random ones as are worth trying."""
    if n * (n - 1) // 2 <= _SAMPLES:
        first, second = np.triu_indices(n, 1)
        return first.astype(np.int64), second.astype(np.int64)
    rng = np.random.default_rng(seed)
    first = rng.integers(0, n, _SAMPLES)
    return first, (first + rng.integers(1, n, _SAMPLES)) % n


def _best_similarity(
    moving: NDArray[np.complex128],
    fixed: NDArray[np.complex128],
    weights: NDArray[np.float64],
    a: NDArray[np.complex128],
    b: NDArray[np.complex128],
    threshold: float,
) -> tuple[complex, complex]:
    """The hypothesis fixed = a * moving + b with the least truncated loss, (a, b)."""
    one = np.ones(len(moving))
    x, y = (
        np.stack([moving.real, -moving.imag, one, -fixed.real]),
        np.stack([moving.imag, moving.real, one, -fixed.imag]),
    )
    of_x, of_y = (np.stack([a.real, a.imag, shift, np.ones(len(a))], axis=1) / threshold for shift in (b.real, b.imag))
    gain = np.empty(len(a))
    for chunk in np.array_split(np.arange(len(a)), 1 + len(a) * len(moving) // _CHUNK):
        square = (of_x[chunk] @ x) ** 2 + (of_y[chunk] @ y) ** 2
        gain[chunk] = np.clip(1 - square, 0, None) @ weights
    best = int(np.argmax(gain))
    return complex(a[best]), complex(b[best])

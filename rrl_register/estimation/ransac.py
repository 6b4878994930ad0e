"""Robust estimation of matrices from tie points with outliers, and iteratively reweighted least squares."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrl_register.errors import NotRegisteredError
from rrl_register.geometry.arrays import Flags, Floats, Matrix, Points, Weights
from rrl_register.geometry.homography import fit_homography
from rrl_register.geometry.transforms import (
    Fit,
    fit_affine,
    fit_similarity,
    fit_translation,
    from_complex,
    residuals,
)

_MAX_ITERATIONS = 20_000
_CONFIDENCE = 0.9999
_MAX_SAMPLES = 3000
"""Hypotheses at most of a translation or a similarity."""
_CHUNK = 60_000
"""Distances that are measured at once, so that they stay in the processor's cache."""
_REFIT_STEPS = 15
_CONVERGED = 1e-9
"""Relative change of a matrix's elements at which a refit ends."""

_Complex = NDArray[np.complex128]


class Model(StrEnum):
    """Transform models that are a matrix, from simple to flexible."""

    TRANSLATION = "translation"
    SIMILARITY = "similarity"
    AFFINE = "affine"
    HOMOGRAPHY = "homography"

    @property
    def min_points(self) -> int:
        """Number of tie points that determine the model."""
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
        matrix: (3, 3) transform moving -> fixed. It is no evidence by itself: random points have one, too.
        inliers: (N,) bool, the tie points within the threshold of it.
    """

    matrix: Matrix
    inliers: Flags


def robust_fit(
    moving: ArrayLike,
    fixed: ArrayLike,
    threshold: float = 3.0,
    model: Model | str = Model.HOMOGRAPHY,
    weights: ArrayLike | None = None,
    seed: int = 0,
) -> RobustFit | None:
    """Estimate a transform from tie points with outliers, then refit it to its inliers.

    Homographies and affine transforms are estimated by MAGSAC++ (Barath et al. 2020, as in OpenCV's USAC). Shifts and
    similarities are estimated by weighted RANSAC over one and two tie points, so that they hold where few or weak tie
    points are right: all hypotheses are tried, or 3000 random ones if there are more, and ranked by truncated squares
    (MSAC, Torr 2000).

    Args:
        moving: (N, 2) points.
        fixed: (N, 2) corresponding points.
        threshold: Largest residual of an inlier, fixed pixels.
        model: The model to estimate.
        weights: (N,) trust in each tie point, >= 0; None: all 1. They count in the refit, and in the ranking of shifts
            and similarities.
        seed: Seed of the random hypotheses (MAGSAC++ of OpenCV always draws the same).

    Returns:
        Transform and inliers, or None if the points determine no transform (too few, on one line, in one place).
    """
    model = Model(model)
    m, f, w = _arrays(moving, fixed, weights)
    if len(m) < model.min_points:
        return None
    if model in (Model.HOMOGRAPHY, Model.AFFINE):
        matrix = _magsac(m, f, threshold, model)
    else:
        zm, zf = m[:, 0] + 1j * m[:, 1], f[:, 0] + 1j * f[:, 1]
        a, b = _shifts(zm, zf, seed) if model is Model.TRANSLATION else _similarities(zm, zf, threshold, seed)
        matrix = _best_hypothesis(zm, zf, w, a, b, threshold) if len(a) else None
    return None if matrix is None else refit(m, f, matrix, threshold, model, w)


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
        threshold: Largest residual of an inlier, fixed pixels.
        model: The model to fit; may be more flexible than the model of ``matrix``.
        weights: (N,) trust in each tie point; None: all 1.

    Returns:
        Transform and inliers; None if the inliers do not determine the model.
    """
    m, f, w = _arrays(moving, fixed, weights)
    fit = Model(model).fit
    current = np.asarray(matrix, np.float64)
    for _ in range(_REFIT_STEPS):
        try:
            updated = fit(m, f, w * biweight(residuals(current, m, f), threshold))
        except NotRegisteredError:
            return None
        converged = not (np.abs(updated - current) > _CONVERGED * (1 + np.abs(current))).any()
        current = updated
        if converged:
            break
    return RobustFit(current, residuals(current, m, f) <= threshold)


def biweight(residual: Floats, threshold: float) -> Weights:
    """Return Tukey's biweight of residuals, 1 at 0 and 0 from the threshold on (Beaton & Tukey 1974)."""
    return np.asarray(np.clip(1 - (residual / threshold) ** 2, 0, None) ** 2)


def _arrays(moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None) -> tuple[Points, Points, Weights]:
    m = np.asarray(moving, np.float64).reshape(-1, 2)
    w = np.ones(len(m)) if weights is None else np.asarray(weights, np.float64)
    return m, np.asarray(fixed, np.float64).reshape(-1, 2), w


def _magsac(moving: Points, fixed: Points, threshold: float, model: Model) -> Matrix | None:
    """Estimate a homography or an affine transform by OpenCV's MAGSAC++."""
    method, most, sure = cv2.USAC_MAGSAC, _MAX_ITERATIONS, _CONFIDENCE
    if model is Model.HOMOGRAPHY:
        matrix, _ = cv2.findHomography(moving, fixed, method, threshold, maxIters=most, confidence=sure)
        return None if matrix is None else np.asarray(matrix, np.float64)
    affine, _ = cv2.estimateAffine2D(moving, fixed, None, method, threshold, most, sure)
    return None if affine is None else np.vstack([affine, [0.0, 0.0, 1.0]])


def _shifts(moving: _Complex, fixed: _Complex, seed: int) -> tuple[_Complex, _Complex]:
    """Return the shifts (a, b) = (1, b) of tie points: of all, or of random ones if there are too many."""
    tried = np.arange(len(moving))
    if len(moving) > _MAX_SAMPLES:
        tried = np.random.default_rng(seed).choice(len(moving), _MAX_SAMPLES, replace=False)
    shift = (fixed - moving)[tried]
    return np.ones_like(shift), shift


def _similarities(moving: _Complex, fixed: _Complex, threshold: float, seed: int) -> tuple[_Complex, _Complex]:
    """Return the similarities (a, b) of pairs of tie points that lie apart: of all, or of random ones if too many."""
    n = len(moving)
    if n * (n - 1) // 2 <= _MAX_SAMPLES:
        first, second = np.triu_indices(n, 1)
    else:
        rng = np.random.default_rng(seed)
        first = rng.integers(0, n, _MAX_SAMPLES)
        second = (first + rng.integers(1, n, _MAX_SAMPLES)) % n
    apart = (np.abs(moving[first] - moving[second]) > 2 * threshold) & (fixed[first] != fixed[second])
    first, second = first[apart], second[apart]
    a = (fixed[first] - fixed[second]) / (moving[first] - moving[second])
    return a, fixed[first] - a * moving[first]


def _best_hypothesis(
    moving: _Complex, fixed: _Complex, weights: Weights, a: _Complex, b: _Complex, threshold: float
) -> Matrix:
    """Return the hypothesis fixed = a * moving + b with the least truncated loss."""
    one = np.ones(len(moving))
    x = np.stack([moving.real, -moving.imag, one, -fixed.real])
    y = np.stack([moving.imag, moving.real, one, -fixed.imag])
    of_x, of_y = (np.stack([a.real, a.imag, shift, np.ones(len(a))], axis=1) / threshold for shift in (b.real, b.imag))
    gain = np.empty(len(a))
    for chunk in np.array_split(np.arange(len(a)), 1 + len(a) * len(moving) // _CHUNK):
        square = (of_x[chunk] @ x) ** 2 + (of_y[chunk] @ y) ** 2
        gain[chunk] = np.clip(1 - square, 0, None) @ weights
    best = int(np.argmax(gain))
    return from_complex(complex(a[best]), complex(b[best]))

"""Robust fits to tie points with outliers: of matrices, and of displaced homographies where straight lines bend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrl_register.errors import NotRegisteredError
from rrl_register.geometry.arrays import Flags, Floats, Matrix, Points, Weights
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.homography import fit_homographies, fit_homography
from rrl_register.geometry.thin_plate import Basis, cells, hull_of
from rrl_register.geometry.transforms import (
    Fit,
    distances,
    fit_affine,
    fit_or_none,
    fit_similarity,
    fit_translation,
    from_complex,
    project,
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


Bases = dict[tuple[int, bool, bytes], Basis]
"""Bases at the same points, by degree, thin plate or not, and the points used: models and steps share them."""
CELLS_PER_SIDE = 5
MIN_CELLS = 13
"""Number of the 25 cells of the inliers' bounding box that have to hold some: more than half."""
WIDE = 2.5
"""Thresholds around the homography within which a true point may lie that the displacement is to explain."""
_NARROWING = (WIDE, 1.8, 1.3, *(1.0,) * 5)
"""Thresholds of the biweight from step to step: the displacement grows into the points that the homography misses."""


class DisplacedModel(StrEnum):
    """Models of displaced homographies, from simple to flexible."""

    POLYNOMIAL2 = "polynomial2"
    POLYNOMIAL3 = "polynomial3"
    THIN_PLATE = "thin-plate"


@dataclass(frozen=True)
class DisplacedHomography:
    """A homography with a displacement of a certain flexibility.

    Attributes:
        model: Its model.
        degree: Degree of the polynomial.
        smoothing: Weight of the thin plate's bending energy against the mean squared distance, in normalised
            coordinates; None: no thin plate.
        min_points: Inliers that it needs: three for each coefficient, and for a thin plate as many as for a cubic.
    """

    model: DisplacedModel
    degree: int
    smoothing: float | None
    min_points: int

    @property
    def fit(self) -> DisplacedHomography:
        """Weighted least-squares fit, as ``Model.fit`` is one of a matrix: the object itself."""
        return self

    def __call__(self, moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None = None) -> Transform:
        """Fit a homography by weighted least squares, then a displacement to its residuals by penalised least squares.

        Source: a thin-plate spline on few knots, Wood, "Thin plate regression splines", 2003; its bending energy as in
        Wahba, "Spline models for observational data", 1990, section 2.4.

        Args:
            moving: ``(N, 2)`` points, at least four with a weight.
            fixed: ``(N, 2)`` corresponding points.
            weights: ``(N,)`` weights of the squared residuals, >= 0; None: all 1.

        Raises:
            NotRegisteredError: The points do not determine it.
        """
        m, f = (np.asarray(points, np.float64).reshape(-1, 2) for points in (moving, fixed))
        w = np.ones(len(m)) if weights is None else np.asarray(weights, np.float64)
        return self.displace(fit_homography(m, f, w), {}, w > 0, m, f, w)[0]

    def each(self, moving: Points, fixed: Points, weights: Floats) -> list[Transform | None]:
        """Fit under weights ``(B, N)``; None where the points with a weight determine no transform."""
        # A polynomial is the same in any coordinates; the knots of a thin plate lie where the points do.
        used = (
            weights > 0 if self.smoothing is not None else np.broadcast_to(np.any(weights > 0, axis=0), weights.shape)
        )
        bases: Bases = {}
        fits: list[Transform | None] = []
        for matrix, flags, some in zip(fit_homographies(moving, fixed, weights), used, weights, strict=True):
            try:
                fits.append(None if matrix is None else self.displace(matrix, bases, flags, moving, fixed, some)[0])
            except NotRegisteredError:
                fits.append(None)
        return fits

    def displace(
        self, matrix: Matrix, bases: Bases, used: Flags, moving: Points, fixed: Points, weights: Weights
    ) -> tuple[Transform, Floats]:
        """Add the displacement that a matrix's residuals show.

        Args:
            matrix: ``(3, 3)`` least-squares homography.
            bases: Known bases at the fixed points, to be added to.
            used: ``(N,)``, true for the points that the basis is for: those with a weight, or more.
            moving: ``(N, 2)`` points.
            fixed: ``(N, 2)`` corresponding points.
            weights: ``(N,)``, >= 0.

        Returns:
            The transform and the residuals ``(N,)`` under it, px; for points beyond the hull of those with a weight,
            only if the basis is for exactly those.

        Raises:
            NotRegisteredError: The points do not determine the displacement.
        """
        key = self.degree, self.smoothing is not None, used.tobytes()
        if key not in bases:
            bases[key] = Basis.of(fixed, used, *key[:2])
        basis, offsets, fitted = bases[key], fixed - project(matrix, moving), weights > 0
        hull = basis.hull if np.array_equal(used, fitted) else hull_of(fixed[fitted])
        displacement, values = basis.fit(offsets, weights, self.smoothing, hull)
        return Transform(matrix, displacement), distances(offsets - values)


DISPLACED_HOMOGRAPHIES = (
    DisplacedHomography(DisplacedModel.POLYNOMIAL2, 2, None, 36),
    DisplacedHomography(DisplacedModel.POLYNOMIAL3, 3, None, 60),
    *(DisplacedHomography(DisplacedModel.THIN_PLATE, 1, smoothing, 60) for smoothing in (1e-2, 1e-3, 1e-4)),
)
"""All candidates, from simple to flexible. The thin plates halve waves of about the scene's width, its half and a third
of it."""


def robust_displaced_homographies(
    models: Sequence[DisplacedHomography],
    moving: Points,
    fixed: Points,
    start: Matrix,
    threshold: float,
    weights: Weights,
) -> dict[DisplacedHomography, tuple[Transform, Flags]]:
    """Estimate displaced homographies from tie points with outliers.

    Iteratively reweighted least squares with a biweight that is wide at first, because local distortion takes true
    points off every homography, and narrows to the threshold. Each step fits the homographies of all models at once.

    Args:
        models: The models to fit.
        moving: ``(N, 2)`` points.
        fixed: ``(N, 2)`` corresponding points.
        start: ``(3, 3)`` robust homography within ``WIDE`` thresholds.
        threshold: Largest residual of an inlier, fixed px.
        weights: ``(N,)`` trust in each tie point, >= 0.

    Returns:
        Transform and inliers ``(N,)`` bool of each model, except those whose inliers are too few or too badly spread,
        or whose displacement fails the fold check.
    """
    residual = Transform(start).residuals(moving, fixed)
    within = int((residual <= WIDE * threshold).sum())
    bases: Bases = {}
    fits = {model: (Transform(start), residual) for model in models if within >= model.min_points}
    for width in _NARROWING:
        if not fits:
            break
        near = np.stack([weights * biweight(residual, width * threshold) for _, residual in fits.values()])
        tried = zip(fits, fit_homographies(moving, fixed, near), near, strict=True)
        fits = {
            model: fit
            for model, matrix, some in tried
            if matrix is not None and (fit := fit_or_none(model.displace, matrix, bases, some > 0, moving, fixed, some))
        }
    found = {model: (transform, residual <= threshold) for model, (transform, residual) in fits.items()}
    return {model: fit for model, fit in found.items() if _is_sound(model, *fit, fixed)}


def _is_sound(model: DisplacedHomography, transform: Transform, inliers: Flags, fixed: Points) -> bool:
    """Return true if the inliers are enough and well spread, and the displacement passes the fold check."""
    if inliers.sum() < model.min_points:
        return False
    points = fixed[inliers]
    low, high = points.min(axis=0), points.max(axis=0)
    occupied = np.unique(cells((points - low) / np.maximum(high - low, 1), CELLS_PER_SIDE))
    return len(occupied) >= MIN_CELLS and transform.displacement is not None and transform.displacement.fold_free

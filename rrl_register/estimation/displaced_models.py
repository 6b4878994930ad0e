"""Displaced homographies: a homography and a smooth displacement, for terrain and depth that bend straight lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from rrl_register.errors import NotRegisteredError
from rrl_register.estimation.ransac import biweight
from rrl_register.geometry.arrays import Flags, Floats, Matrix, Points, Weights
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.homography import fit_homographies, fit_homography
from rrl_register.geometry.thin_plate import Basis, cells, hull_of
from rrl_register.geometry.transforms import distances, fit_or_none, project

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

"""Fitting a homography and a smooth displacement: for terrain and depth, which bend what a matrix keeps straight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dposv

from rrl_register.errors import NotRegisteredError
from rrl_register.estimation.displacement import (
    Displacement,
    Transform,
    bumps,
    is_gentle,
    monomials,
    nearest_in_hull,
)
from rrl_register.estimation.ransac import biweight
from rrl_register.estimation.transforms import Matrix, Points, fit_homographies, fit_homography, project

KNOTS_PER_SIDE = 10
"""Cells along each side of the tie points' bounding box; each that holds some gets a knot of the thin plate."""
CELLS_PER_SIDE = 5
MIN_CELLS = 13
"""Of the 25 cells of the inliers' bounding box, those that have to hold some: more than half."""
WIDE = 2.5
"""Thresholds around the homography within which a true point may lie that the displacement is to explain."""
_NARROWING = (WIDE, 1.8, 1.3, *(1.0,) * 5)
"""Thresholds of the biweight from step to step: the displacement grows into the points that the homography misses."""
_RIDGE = 1e-12
"""Added to the normal equations, relative to their mean diagonal, so that float64 solves them."""
_THIN = 1e-6
"""Area of the tie points' hull over its longer side squared, up to which it is a line: float32 leaves 1e-7."""


class DisplacedModel(StrEnum):
    """Models that are more than a matrix, from stiff to flexible."""

    POLYNOMIAL2 = "polynomial2"
    POLYNOMIAL3 = "polynomial3"
    THIN_PLATE = "thin-plate"


@dataclass(frozen=True)
class Displaced:
    """A homography with a displacement of a certain stiffness.

    Attributes:
        model: What it is called.
        degree: Of the polynomial.
        smoothing: Weight of the thin plate's bending energy against the mean squared distance, in normalised
            coordinates; None: no thin plate.
        min_points: Inliers that it needs: three for each coefficient, and for a thin plate as many as for a cubic.
    """

    model: DisplacedModel
    degree: int
    smoothing: float | None
    min_points: int

    @property
    def fit(self) -> Displaced:
        """Its weighted least-squares fit, as ``Model.fit`` is a matrix's: itself."""
        return self

    def __call__(self, moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None = None) -> Transform:
        """Weighted least-squares homography, then penalised least-squares displacement of what it leaves.

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
        return self.on_top_of(fit_homography(m, f, w), m, f, w)[0]

    def each(self, moving: Points, fixed: Points, weights: NDArray[np.float64]) -> list[Transform | None]:
        """The fits under weights ``(B, N)``; None where the points with a weight do not determine one."""
        matrices = fit_homographies(moving, fixed, weights)
        fits = (_or_none(self, matrix, moving, fixed, w) for matrix, w in zip(matrices, weights, strict=True))
        return [fit and fit[0] for fit in fits]

    def on_top_of(
        self, matrix: Matrix, moving: Points, fixed: Points, weights: NDArray[np.float64]
    ) -> tuple[Transform, NDArray[np.float64]]:
        """A matrix with the displacement of what it leaves.

        Args:
            matrix: ``(3, 3)`` least-squares homography.
            moving: ``(N, 2)`` points.
            fixed: ``(N, 2)`` corresponding points.
            weights: ``(N,)``, >= 0.

        Returns:
            The transform and the residuals ``(N,)`` under it, px.

        Raises:
            NotRegisteredError: The points do not determine it.
        """
        left = fixed - project(matrix, moving)
        displacement, field = self._displacement(fixed, left, weights)
        distance = np.hypot(*(left - field).T)
        return Transform(matrix, displacement), np.where(np.isfinite(distance), distance, np.inf)

    def _displacement(
        self, places: Points, wanted: Points, weights: NDArray[np.float64]
    ) -> tuple[Displacement, Points]:
        """The displacement that comes nearest to the one wanted, and what it is at the places."""
        used = weights > 0
        hull = _hull(places[used])
        centre, scale = (hull.min(axis=0) + hull.max(axis=0)) / 2, float(np.ptp(hull, axis=0).max()) / 2
        # Those without a weight alone can lie beyond the hull of the others.
        within = places.copy()
        within[~used] = nearest_in_hull(places[~used], hull)
        normalised = (within - centre) / scale
        plane = monomials(normalised, self.degree)
        if self.smoothing is None:
            coefficients = _least_squares(plane, wanted, weights)
            none = np.empty((0, 2))
            return Displacement(self.degree, coefficients, none, none, centre, scale, hull), plane @ coefficients
        knots = _knots(normalised[used])
        bending, free = _bending(knots, self.degree)
        basis = np.hstack([plane, bumps(normalised, knots) @ free])
        penalty = np.zeros((basis.shape[1],) * 2)
        penalty[plane.shape[1] :, plane.shape[1] :] = self.smoothing * bending
        found = _least_squares(basis, wanted, weights, penalty)
        coefficients, inner = np.split(found, [plane.shape[1]])
        return Displacement(self.degree, coefficients, knots, free @ inner, centre, scale, hull), basis @ found


DISPLACED = (
    Displaced(DisplacedModel.POLYNOMIAL2, 2, None, 36),
    Displaced(DisplacedModel.POLYNOMIAL3, 3, None, 60),
    *(Displaced(DisplacedModel.THIN_PLATE, 1, smoothing, 60) for smoothing in (1e-2, 1e-3, 1e-4)),
)
"""All that are tried, from stiff to flexible. The thin plates halve waves of about the scene's width, its half and a
third of it."""


def robust_displaced(
    models: Sequence[Displaced],
    moving: Points,
    fixed: Points,
    start: Matrix,
    threshold: float,
    weights: NDArray[np.float64],
) -> dict[Displaced, tuple[Transform, NDArray[np.bool_]]]:
    """Estimate displaced homographies from tie points with outliers.

    Iteratively reweighted least squares with a biweight that is wide at first, for local distortion takes true points
    off every homography, and narrows to the threshold. The models go through it side by side, which is faster.

    Args:
        models: What to fit.
        moving: ``(N, 2)`` points.
        fixed: ``(N, 2)`` corresponding points.
        start: ``(3, 3)`` robust homography within ``WIDE`` thresholds.
        threshold: Largest residual of an inlier, fixed px.
        weights: ``(N,)`` trust in each tie point, >= 0.

    Returns:
        Transform and inliers ``(N,)`` bool of each model, but for those whose inliers are too few or too badly spread,
        or whose displacement is too steep to be one.
    """
    residual = Transform(start).residuals(moving, fixed)
    within = int((residual <= WIDE * threshold).sum())
    now = {model: (Transform(start), residual) for model in models if within >= model.min_points}
    for width in _NARROWING if now else ():
        near = np.stack([weights * biweight(residual, width * threshold) for _, residual in now.values()])
        matrices = fit_homographies(moving, fixed, near)
        tried = zip(now, matrices, near, strict=True)
        fits = {model: _or_none(model, matrix, moving, fixed, some) for model, matrix, some in tried}
        now = {model: fit for model, fit in fits.items() if fit}
        if not now:
            break
    found = {model: (transform, residual <= threshold) for model, (transform, residual) in now.items()}
    return {model: fit for model, fit in found.items() if _is_sound(model, *fit, fixed)}


def _is_sound(model: Displaced, transform: Transform, inliers: NDArray[np.bool_], fixed: Points) -> bool:
    """Whether there are inliers enough all over, and a displacement that does not come near to folding the image."""
    enough = inliers.sum() >= model.min_points and _is_spread(fixed[inliers])
    return bool(enough) and transform.displacement is not None and is_gentle(transform.displacement)


def _or_none(
    model: Displaced, matrix: Matrix | None, moving: Points, fixed: Points, weights: NDArray[np.float64]
) -> tuple[Transform, NDArray[np.float64]] | None:
    """``Displaced.on_top_of`` where there is a matrix and the points determine the displacement."""
    try:
        return None if matrix is None else model.on_top_of(matrix, moving, fixed, weights)
    except NotRegisteredError:
        return None


def _is_spread(points: Points) -> bool:
    low, high = points.min(axis=0), points.max(axis=0)
    return len(np.unique(_cells((points - low) / np.maximum(high - low, 1), CELLS_PER_SIDE))) >= MIN_CELLS


def _hull(places: Points) -> Points:
    """Corners of the convex hull, found in float32: what it misses of a corner is less than 1e-4 px of 1000."""
    corners = cv2.convexHull(places.astype(np.float32), returnPoints=False)[:, 0]
    hull: Points = places[corners]
    if cv2.contourArea(hull.astype(np.float32)) <= _THIN * float(np.ptp(hull, axis=0).max()) ** 2:
        raise NotRegisteredError(
            f"{len(places)} tie points lie almost on one line, a displacement needs an area: try a stiffer --model"
        )
    return hull


def _knots(points: Points) -> Points:
    """Mean of the points in each occupied cell of a grid over the square from -1 to 1."""
    cell = _cells((points + 1) / 2, KNOTS_PER_SIDE)
    count = np.bincount(cell)
    held = count > 0
    return np.stack([np.bincount(cell, values)[held] / count[held] for values in points.T], axis=1)


def _cells(points: Points, n: int) -> NDArray[np.int64]:
    """Index (N,) of the cell that each point of the square from 0 to 1 lies in, of n x n."""
    column, row = np.clip(points * n, 0, n - 1).astype(np.int64).T
    return np.asarray(column * n + row)


def _bending(knots: Points, degree: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bending energy of bumps around the knots, ``(F, F)``, and the ``(K, F)`` free combinations of their weights.

    Only those without a polynomial part bend finitely, and of them the energy is positive.
    """
    polynomial = monomials(knots, degree)
    rank = polynomial.shape[1]
    if len(knots) <= rank:
        raise NotRegisteredError(
            f"{len(knots)} cells of the scene hold tie points, a thin plate needs more than {rank}: "
            "try a stiffer --model"
        )
    free = np.linalg.qr(polynomial, mode="complete")[0][:, rank:]
    return free.T @ bumps(knots, knots) @ free, free


def _least_squares(
    basis: NDArray[np.float64], wanted: Points, weights: NDArray[np.float64], penalty: NDArray[np.float64] | None = None
) -> Points:
    """Coefficients ``(T, 2)`` that minimise the weighted mean squared distance plus their penalty."""
    shared = (weights / weights.sum())[:, None] * basis
    normal = shared.T @ basis
    if penalty is not None:
        normal += penalty
    normal[np.diag_indices_from(normal)] += _RIDGE * np.trace(normal) / len(normal)
    _, solved, failed = dposv(normal, shared.T @ wanted)
    if failed:
        raise NotRegisteredError(f"{len(basis)} tie points do not determine a displacement: try a stiffer --model")
    return np.asarray(solved)

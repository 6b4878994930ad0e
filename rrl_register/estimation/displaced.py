"""Fitting a homography and a smooth displacement: for terrain and depth, which bend what a matrix keeps straight."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, qr
from scipy.spatial import ConvexHull, QhullError

from rrl_register.errors import NotRegisteredError
from rrl_register.estimation.displacement import Displacement, Transform, bumps, monomials, require_gentle
from rrl_register.estimation.ransac import biweight
from rrl_register.estimation.transforms import Matrix, Points, fit_homography, project

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

    def fit(self, moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None = None) -> Transform:
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
        matrix = fit_homography(m, f, w)
        used = w > 0
        return Transform(matrix, self._displacement(f[used], (f - project(matrix, m))[used], w[used]))

    def _displacement(self, places: Points, wanted: Points, weights: NDArray[np.float64]) -> Displacement:
        hull = _hull(places)
        centre, scale = (hull.min(axis=0) + hull.max(axis=0)) / 2, float(np.ptp(hull, axis=0).max()) / 2
        normalised = (places - centre) / scale
        plane = monomials(normalised, self.degree)
        if self.smoothing is None:
            coefficients = _least_squares(plane, wanted, weights, np.zeros((plane.shape[1],) * 2))
            return Displacement(self.degree, coefficients, np.empty((0, 2)), np.empty((0, 2)), centre, scale, hull)
        knots = _knots(normalised)
        bending, free = _bending(knots, self.degree)
        basis = np.hstack([plane, bumps(normalised, knots) @ free])
        penalty = np.zeros((basis.shape[1],) * 2)
        penalty[plane.shape[1] :, plane.shape[1] :] = self.smoothing * bending
        found = _least_squares(basis, wanted, weights, penalty)
        coefficients, inner = np.split(found, [plane.shape[1]])
        return Displacement(self.degree, coefficients, knots, free @ inner, centre, scale, hull)


DISPLACED = (
    Displaced(DisplacedModel.POLYNOMIAL2, 2, None, 36),
    Displaced(DisplacedModel.POLYNOMIAL3, 3, None, 60),
    *(Displaced(DisplacedModel.THIN_PLATE, 1, smoothing, 60) for smoothing in (1e-2, 1e-3, 1e-4)),
)
"""All that are tried, from stiff to flexible. The thin plates halve waves of about the scene's width, its half and a
third of it."""


def robust_displaced(
    displaced: Displaced,
    moving: Points,
    fixed: Points,
    start: Matrix,
    threshold: float,
    weights: NDArray[np.float64],
) -> tuple[Transform, NDArray[np.bool_]] | None:
    """Estimate a displaced homography from tie points with outliers.

    Iteratively reweighted least squares with a biweight that is wide at first, for local distortion takes true points
    off every homography, and narrows to the threshold.

    Args:
        displaced: What to fit.
        moving: ``(N, 2)`` points.
        fixed: ``(N, 2)`` corresponding points.
        start: ``(3, 3)`` robust homography within ``WIDE`` thresholds.
        threshold: Largest residual of an inlier, fixed px.
        weights: ``(N,)`` trust in each tie point, >= 0.

    Returns:
        Transform and inliers ``(N,)`` bool; None when the inliers are too few or too badly spread, or the displacement
        is too steep to be one.
    """
    current = Transform(start)
    if (current.residuals(moving, fixed) <= WIDE * threshold).sum() < displaced.min_points:
        return None
    try:
        for width in _NARROWING:
            near = biweight(current.residuals(moving, fixed), width * threshold)
            current = displaced.fit(moving, fixed, weights * near)
        if current.displacement is not None:
            require_gentle(current.displacement)
    except NotRegisteredError:
        return None
    inliers = current.residuals(moving, fixed) <= threshold
    enough = inliers.sum() >= displaced.min_points and _is_spread(fixed[inliers])
    return (current, inliers) if enough else None


def _is_spread(points: Points) -> bool:
    low, high = points.min(axis=0), points.max(axis=0)
    return len(np.unique(_cells((points - low) / np.maximum(high - low, 1), CELLS_PER_SIDE))) >= MIN_CELLS


def _hull(places: Points) -> Points:
    try:
        return np.asarray(places[ConvexHull(places).vertices])
    except (QhullError, ValueError) as error:
        raise NotRegisteredError(
            f"{len(places)} tie points lie almost on one line, a displacement needs an area: try a stiffer --model"
        ) from error


def _knots(points: Points) -> Points:
    """Mean of the points in each occupied cell of a grid over the square from -1 to 1."""
    _, cell = np.unique(_cells((points + 1) / 2, KNOTS_PER_SIDE), return_inverse=True)
    count = np.bincount(cell)
    return np.stack([np.bincount(cell, values) / count for values in points.T], axis=1)


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
    free = qr(polynomial)[0][:, rank:]
    return free.T @ bumps(knots, knots) @ free, free


def _least_squares(
    basis: NDArray[np.float64], wanted: Points, weights: NDArray[np.float64], penalty: NDArray[np.float64]
) -> Points:
    """Coefficients ``(T, 2)`` that minimise the weighted mean squared distance plus their penalty."""
    share = weights / weights.sum()
    normal = basis.T @ (share[:, None] * basis) + penalty
    normal[np.diag_indices_from(normal)] += _RIDGE * np.trace(normal) / len(normal)
    try:
        solved: Points = cho_solve(cho_factor(normal), basis.T @ (share[:, None] * wanted))
    except LinAlgError as error:
        raise NotRegisteredError(
            f"{len(basis)} tie points do not determine a displacement: try a stiffer --model"
        ) from error
    return solved

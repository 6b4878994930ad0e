"""Basis functions of smooth displacements at the tie points, and penalised least-squares fits of them.

Hand-made because scipy's ``RBFInterpolator`` puts a knot at every point: at these sizes it takes 2 to 60 times as long,
at the same error.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dgeqrf, dormqr, dposv

from rrl_register.errors import NotRegisteredError
from rrl_register.geometry.arrays import Flags, Floats, Indices, Points, Weights
from rrl_register.geometry.displacement import Displacement, monomials, nearest_in_hull, thin_plate_kernel

KNOTS_PER_SIDE = 10
"""Cells along each side of the tie points' bounding box; each that holds some gets a knot of the thin plate."""
_RIDGE = 1e-12
"""Added to the normal equations, relative to their mean diagonal, so that float64 solves them."""
_LINE = 1e-6
"""Area of the tie points' hull over its longer side squared, up to which it is a line: float32 leaves 1e-7."""


@dataclass(frozen=True)
class _NullSpace:
    """The combinations of K kernels that have no part in the T monomials at their knots: only those bend finitely.

    They are the last columns of Q in a QR decomposition of the monomials. Q stays in LAPACK's factored form because a
    product with the dense matrix makes a basis take 1.4 to 1.8 times as long.

    Attributes:
        reflections: ``(K, T)`` Householder vectors as LAPACK has them.
        factors: ``(T,)`` that belong to them.
    """

    reflections: Floats
    factors: Floats

    @classmethod
    def of(cls, knots: Points, degree: int) -> _NullSpace:
        """Return the null space for knots ``(K, 2)``.

        Raises:
            NotRegisteredError: The knots are too few.
        """
        polynomial = monomials(knots, degree)
        if len(knots) <= polynomial.shape[1]:
            raise NotRegisteredError(
                f"{len(knots)} cells of the scene hold tie points, a thin plate needs more than {polynomial.shape[1]}: "
                "try a simpler --model"
            )
        reflections, factors, _, _ = dgeqrf(polynomial)
        return cls(reflections, factors)

    def combined(self, kernels: Floats) -> Floats:
        """Return the combinations ``(M, K)`` of kernels ``(M, K)``, after T columns of no use."""
        return self._multiplied("T", np.ascontiguousarray(kernels).T).T

    def kernel_weights(self, found: Floats) -> Floats:
        """Return the weights of the kernels ``(K, 2)`` for coefficients ``(K - T, 2)`` of the combinations."""
        return self._multiplied("N", np.concatenate([np.zeros((len(self.factors), 2)), found]))

    def _multiplied(self, transposed: str, columns: Floats) -> Floats:
        """Return the product of Q, or of its transpose, with columns ``(K, C)``, which may be overwritten."""
        work = columns.shape[1]
        product, _, _ = dormqr("L", transposed, self.reflections, self.factors, columns, work, overwrite_c=True)
        return np.asarray(product)


@dataclass(frozen=True)
class Basis:
    """Monomials, and for a thin plate combinations of kernels around knots, at N places.

    The basis depends on the points that are fitted, neither on their weights nor on the displacements to be fitted.

    Attributes:
        degree: Degree of the monomials.
        centre, scale: Normalised coordinates, as ``Displacement`` has them.
        hull: ``(V, 2)`` corners of the convex hull of the points that are fitted, fixed px.
        knots: ``(K, 2)`` normalised coordinates; none for a polynomial.
        null_space: The F combinations of the kernels that bend finitely; None for a polynomial.
        values: ``(N, T + F)`` of the T monomials and the combinations.
        bending: ``(F, F)`` bending energy of the combinations.
    """

    degree: int
    centre: Points
    scale: float
    hull: Points
    knots: Points
    null_space: _NullSpace | None
    values: Floats
    bending: Floats

    @classmethod
    def of(cls, places: Points, used: Flags, degree: int, plate: bool) -> Basis:
        """Return the basis at all places, for a fit to some of them.

        Args:
            places: ``(N, 2)`` fixed px.
            used: ``(N,)``, true for those that are fitted.
            degree: Degree of the monomials.
            plate: True for a thin plate.

        Raises:
            NotRegisteredError: The places are almost on one line, or in too few cells of the scene for a thin plate.
        """
        hull = hull_of(places[used])
        centre, scale = (hull.min(axis=0) + hull.max(axis=0)) / 2, float(np.ptp(hull, axis=0).max()) / 2
        # Only those that are not used can lie beyond the hull of the others.
        within = places.copy()
        within[~used] = nearest_in_hull(places[~used], hull)
        normalised = (within - centre) / scale
        plane = monomials(normalised, degree)
        if not plate:
            return cls(degree, centre, scale, hull, np.empty((0, 2)), None, plane, np.empty((0, 0)))
        knots = _knots(normalised[used])
        null_space, terms = _NullSpace.of(knots, degree), plane.shape[1]
        combined = null_space.combined(thin_plate_kernel(np.concatenate([normalised, knots]), knots))
        values, at_knots = combined[: len(places)], combined[len(places) :, terms:]
        values[:, :terms] = plane
        return cls(degree, centre, scale, hull, knots, null_space, values, null_space.combined(at_knots.T)[:, terms:])

    def fit(
        self, displacements: Points, weights: Weights, smoothing: float | None, hull: Points
    ) -> tuple[Displacement, Points]:
        """Minimise the weighted mean squared distance from displacements plus a penalty on bending.

        Args:
            displacements: ``(N, 2)`` px.
            weights: ``(N,)``, >= 0.
            smoothing: Weight of the bending energy; None: none.
            hull: ``(V, 2)`` of the points with a weight, which may be fewer than the basis is for.

        Returns:
            The displacement, and its values at the places, ``(N, 2)``.

        Raises:
            NotRegisteredError: The points do not determine it.
        """
        root = np.sqrt(weights / weights.sum())[:, None]
        shared = (root * self.values).T
        normal = dsyrk(1.0, shared)  # the upper half, which is all that dposv reads
        terms = len(normal) - len(self.bending)
        if smoothing is not None:
            normal[terms:, terms:] += smoothing * self.bending
        normal[np.diag_indices_from(normal)] += _RIDGE * np.trace(normal) / len(normal)
        known = np.where(weights[:, None] > 0, displacements, 0)  # the others may lie on the matrix's horizon
        _, found, failed = dposv(normal, shared @ (root * known), overwrite_a=True)
        if failed:
            raise NotRegisteredError(
                f"{len(weights)} tie points do not determine a displacement: try a simpler --model"
            )
        kernels = np.empty((0, 2)) if self.null_space is None else self.null_space.kernel_weights(found[terms:])
        fitted = Displacement(self.degree, found[:terms], self.knots, kernels, self.centre, self.scale, hull)
        return fitted, self.values @ found


def hull_of(places: Points) -> Points:
    """Return the corners of the convex hull, found in float32: corners missed are within 1e-4 px of it in 1000 px.

    Raises:
        NotRegisteredError: The places are almost on one line.
    """
    hull: Points = places[cv2.convexHull(places.astype(np.float32), returnPoints=False)[:, 0]]
    if cv2.contourArea(hull.astype(np.float32)) <= _LINE * float(np.ptp(hull, axis=0).max()) ** 2:
        raise NotRegisteredError(
            f"{len(places)} tie points lie almost on one line, a displacement needs an area: try a simpler --model"
        )
    return hull


def cells(points: Points, n: int) -> Indices:
    """Return the index (N,) of the cell that holds each point of the square from 0 to 1, of n x n cells."""
    column, row = np.clip(points * n, 0, n - 1).astype(np.int64).T
    return np.asarray(column * n + row)


def _knots(points: Points) -> Points:
    """Return the mean of the points in each occupied cell of a grid over the square from -1 to 1."""
    cell = cells((points + 1) / 2, KNOTS_PER_SIDE)
    count = np.bincount(cell)
    held = count > 0
    return np.stack([np.bincount(cell, values)[held] / count[held] for values in points.T], axis=1)

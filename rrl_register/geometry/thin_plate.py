"""The functions that smooth displacements are sums of, at the tie points that they are fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dgeqrf, dormqr, dposv

from rrl_register.errors import NotRegisteredError
from rrl_register.geometry.arrays import Points
from rrl_register.geometry.displacement import Displacement, monomials, nearest_in_hull, thin_plate_kernel

KNOTS_PER_SIDE = 10
"""Cells along each side of the tie points' bounding box; each that holds some gets a knot of the thin plate."""
_RIDGE = 1e-12
"""Added to the normal equations, relative to their mean diagonal, so that float64 solves them."""
_THIN = 1e-6
"""Area of the tie points' hull over its longer side squared, up to which it is a line: float32 leaves 1e-7."""


@dataclass(frozen=True)
class _Free:
    """The combinations of thin_plate_kernel around K knots that have no polynomial part: those alone bend finitely.

    They are the last columns of Q in a QR decomposition of the T monomials at the knots, kept as T reflections.

    Attributes:
        reflections: ``(K, T)`` as LAPACK has them.
        factors: ``(T,)`` that go with them.
    """

    reflections: NDArray[np.float64]
    factors: NDArray[np.float64]

    @classmethod
    def of(cls, knots: Points, degree: int) -> _Free:
        """The combinations for knots ``(K, 2)``.

        Raises:
            NotRegisteredError: The knots are too few.
        """
        polynomial = monomials(knots, degree)
        if len(knots) <= polynomial.shape[1]:
            raise NotRegisteredError(
                f"{len(knots)} cells of the scene hold tie points, a thin plate needs more than {polynomial.shape[1]}: "
                "try a stiffer --model"
            )
        reflections, factors, _, _ = dgeqrf(polynomial)
        return cls(reflections, factors)

    def combined(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """What all combinations are where single thin_plate_kernel are ``(M, K)``, which may be overwritten.

        Returns:
            ``(M, K)``, of which the first T columns are of no use.
        """
        return np.asarray(self._turned("T", np.ascontiguousarray(sums).T).T)

    def weights(self, found: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights of the thin_plate_kernel, ``(K, 2)``, for coefficients ``(K - T, 2)`` of the combinations."""
        return self._turned("N", np.concatenate([np.zeros((len(self.factors), 2)), found]))

    def _turned(self, how: str, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        turned, _, _ = dormqr("L", how, self.reflections, self.factors, columns, columns.shape[1], overwrite_c=True)
        return np.asarray(turned)


@dataclass(frozen=True)
class Basis:
    """Monomials, and for a thin plate thin_plate_kernel around knots, of N places.

    It depends on which points are fitted, and neither on their weights nor on what is fitted to them.

    Attributes:
        degree: Of the monomials.
        centre, scale: Of the normalised coordinates, as ``Displacement`` has them.
        hull: ``(V, 2)`` corners of the convex hull of the points that are fitted, fixed px.
        knots: ``(K, 2)`` normalised coordinates; none for a polynomial.
        free: The F combinations of thin_plate_kernel that bend finitely; None for a polynomial.
        values: ``(N, T + F)`` of the T monomials and the free combinations.
        bending: ``(F, F)`` bending energy of the free combinations.
    """

    degree: int
    centre: Points
    scale: float
    hull: Points
    knots: Points
    free: _Free | None
    values: NDArray[np.float64]
    bending: NDArray[np.float64]

    @classmethod
    def of(cls, places: Points, used: NDArray[np.bool_], degree: int, plate: bool) -> Basis:
        """The basis at all places ``(N, 2)``, fixed px, for a fit to those that are used, ``(N,)``.

        Raises:
            NotRegisteredError: The places are almost on one line, or in too few cells of the scene for a thin plate.
        """
        hull = hull_of(places[used])
        centre, scale = (hull.min(axis=0) + hull.max(axis=0)) / 2, float(np.ptp(hull, axis=0).max()) / 2
        # Those alone that are not used can lie beyond the hull of the others.
        within = places.copy()
        within[~used] = nearest_in_hull(places[~used], hull)
        normalised = (within - centre) / scale
        plane = monomials(normalised, degree)
        if not plate:
            return cls(degree, centre, scale, hull, np.empty((0, 2)), None, plane, np.empty((0, 0)))
        knots = _knots(normalised[used])
        free, terms = _Free.of(knots, degree), plane.shape[1]
        sums = free.combined(thin_plate_kernel(np.concatenate([normalised, knots]), knots))
        values, at_knots = sums[: len(places)], sums[len(places) :, terms:]
        values[:, :terms] = plane
        return cls(degree, centre, scale, hull, knots, free, values, free.combined(at_knots.T)[:, terms:])

    def fitted(
        self,
        wanted: Points,
        weights: NDArray[np.float64],
        smoothing: float | None,
        hull: Points,
    ) -> tuple[Displacement, Points]:
        """The displacement that minimises the weighted mean squared distance plus a penalty on bending.

        Args:
            wanted: ``(N, 2)`` displacements, px.
            weights: ``(N,)``, >= 0.
            smoothing: Weight of the bending energy; None: none.
            hull: ``(V, 2)`` of the points with a weight, which may be fewer than the basis is for.

        Returns:
            The displacement, and what it is at the places, ``(N, 2)``.

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
        known = np.where(weights[:, None] > 0, wanted, 0)  # the others may lie on the matrix's horizon
        _, found, failed = dposv(normal, shared @ (root * known), overwrite_a=True)
        if failed:
            raise NotRegisteredError(
                f"{len(weights)} tie points do not determine a displacement: try a stiffer --model"
            )
        inner = np.empty((0, 2)) if self.free is None else self.free.weights(found[terms:])
        displacement = Displacement(
            self.degree,
            found[:terms],
            self.knots,
            inner,
            self.centre,
            self.scale,
            hull,
        )
        return displacement, self.values @ found


def hull_of(places: Points) -> Points:
    """Corners of the convex hull, found in float32: what it misses of a corner is less than 1e-4 px of 1000.

    Raises:
        NotRegisteredError: The places are almost on one line.
    """
    corners = cv2.convexHull(places.astype(np.float32), returnPoints=False)[:, 0]
    hull: Points = places[corners]
    if cv2.contourArea(hull.astype(np.float32)) <= _THIN * float(np.ptp(hull, axis=0).max()) ** 2:
        raise NotRegisteredError(
            f"{len(places)} tie points lie almost on one line, a displacement needs an area: try a stiffer --model"
        )
    return hull


def cells(points: Points, n: int) -> NDArray[np.int64]:
    """Index (N,) of the cell that each point of the square from 0 to 1 lies in, of n x n."""
    column, row = np.clip(points * n, 0, n - 1).astype(np.int64).T
    return np.asarray(column * n + row)


def _knots(points: Points) -> Points:
    """Mean of the points in each occupied cell of a grid over the square from -1 to 1."""
    cell = cells((points + 1) / 2, KNOTS_PER_SIDE)
    count = np.bincount(cell)
    held = count > 0
    return np.stack([np.bincount(cell, values)[held] / count[held] for values in points.T], axis=1)

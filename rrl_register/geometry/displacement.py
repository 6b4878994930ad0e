"""Smooth displacements on the fixed grid, and transforms that are a matrix and a displacement.

Such a transform is defined by its way back: a fixed pixel f shows the moving pixel H^-1(f - d(f)), H being the matrix
and d the displacement. So warping, which needs the way back, never inverts d.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rrl_register.geometry.arrays import Floats, Matrix, Points, Weights
from rrl_register.geometry.transforms import distances, invert, project

MAX_GRADIENT = 0.3
"""Largest change of a displacement per pixel that passes the fold check: the image folds at 1, and terrain and
buildings stay far below over the width of a patch."""

_GRADIENT_NODES = 33
_MAX_FORWARD_STEPS = 40
"""Each step leaves ``MAX_GRADIENT`` of the error before it, so that 20 are enough for any displacement."""
_CONVERGED_PX = 1e-9
"""Change of a step at which the iteration ends."""
_ON_EDGE = 1e-9
"""Distance from a hull's edge, times the edge's length, px^2, that is rounding."""
_PLACES_AT_ONCE = 128
"""Places whose distances from all knots stay in the processor's cache."""
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Displacement:
    """A polynomial, or a thin-plate spline: a polynomial of degree 1 and thin-plate kernels around knots.

    It is defined within the convex hull of the tie points that it was fitted to. Beyond, a place is displaced as the
    hull's nearest place is: constant outwards, without extrapolation.

    Attributes:
        degree: Degree of the polynomial.
        coefficients: ``(T, 2)``, fixed px, of the monomials 1, x, y, x^2, xy, y^2, ... in normalised coordinates.
        knots: ``(K, 2)`` centres of the thin-plate kernels, normalised coordinates; none for a polynomial.
        weights: ``(K, 2)``, fixed px, of the thin-plate kernels r^2 log r.
        centre: ``(2,)`` fixed px, the origin of the normalised coordinates.
        scale: Fixed px per normalised unit.
        hull: ``(V, 2)`` fixed px, corners of the hull, anticlockwise with y upwards.
    """

    degree: int
    coefficients: Points
    knots: Points
    weights: Points
    centre: Points
    scale: float
    hull: Points

    @property
    def kind(self) -> str:
        """``polynomial`` or ``thin-plate``."""
        return "thin-plate" if len(self.knots) else "polynomial"

    def at(self, places: ArrayLike) -> Points:
        """Return the displacement ``(N, 2)``, fixed px, of places ``(N, 2)`` of the fixed image."""
        normalised = (nearest_in_hull(places, self.hull) - self.centre) / self.scale
        field = monomials(normalised, self.degree) @ self.coefficients
        if len(self.knots):
            for first in range(0, len(field), _PLACES_AT_ONCE):
                some = slice(first, first + _PLACES_AT_ONCE)
                field[some] += thin_plate_kernel(normalised[some], self.knots) @ self.weights
        return field

    def largest_gradient(self) -> float:
        """Return the largest change per pixel of distance, within the hull's bounding box."""
        low, high = self.hull.min(axis=0), self.hull.max(axis=0)
        x, y = (np.linspace(*ends, _GRADIENT_NODES) for ends in zip(low, high, strict=True))
        field = self.at(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)).reshape(len(y), len(x), 2)
        along_x = np.diff(field, axis=1)[:-1] / np.diff(x)[:, None]
        along_y = np.diff(field, axis=0)[:, :-1] / np.diff(y)[:, None, None]
        return float(np.sqrt((along_x**2 + along_y**2).sum(axis=2)).max())

    @property
    def fold_free(self) -> bool:
        """Fold check: true if the displacement stays far from folding the image."""
        return self.largest_gradient() <= MAX_GRADIENT

    def reduced(self, factor: float) -> Displacement:
        """Return the same on a fixed grid with ``factor`` times larger pixels (0.5 = twice the resolution)."""
        return replace(
            self,
            coefficients=self.coefficients / factor,
            weights=self.weights / factor,
            centre=(self.centre + 0.5) / factor - 0.5,
            scale=self.scale / factor,
            hull=(self.hull + 0.5) / factor - 0.5,
        )

    def moved(self, offset: ArrayLike) -> Displacement:
        """Return the same on a larger fixed grid, whose pixel at ``offset`` (x, y) is the present grid's first one."""
        return replace(self, centre=self.centre + np.asarray(offset), hull=self.hull + np.asarray(offset))

    def to_json(self) -> dict[str, Any]:
        """Return the displacement in JSON's types; ``from_json`` reads it back."""
        return {"kind": self.kind, **{name: np.asarray(value).tolist() for name, value in self.__dict__.items()}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Displacement:
        """Read the output of ``to_json``.

        Raises:
            KeyError, TypeError, ValueError: A field is missing or of the wrong type.
        """
        pairs = {
            name: np.array(data[name], np.float64).reshape(-1, 2)
            for name in ("coefficients", "knots", "weights", "hull")
        }
        centre = np.array(data["centre"], np.float64).reshape(2)
        return cls(degree=int(data["degree"]), centre=centre, scale=float(data["scale"]), **pairs)


@dataclass(frozen=True)
class Transform:
    """A matrix, and a displacement that is added to it on the fixed grid.

    Attributes:
        matrix: ``(3, 3)`` moving -> fixed; with a displacement, the best homography on its own.
        displacement: The smooth part that the matrix does not follow; None: there is none.
    """

    matrix: Matrix
    displacement: Displacement | None = None

    def forward(self, points: ArrayLike, near: Points | None = None, converged_px: float = _CONVERGED_PX) -> Points:
        """Return the fixed places ``(N, 2)`` of moving points, by iterating f = H(m) + d(f).

        Args:
            points: ``(N, 2)`` moving px.
            near: ``(N, 2)`` approximate results, which save iterations; None: they are not known.
            converged_px: Change of a step at which the iteration ends.
        """
        straight = project(self.matrix, points)
        if self.displacement is None:
            return straight
        places = straight if near is None else near
        for _ in range(_MAX_FORWARD_STEPS):
            before, places = places, straight + self.displacement.at(places)
            if not (np.abs(places - before) > converged_px).any():
                break
        return places

    def backward(self, places: ArrayLike) -> Points:
        """Return the moving points ``(N, 2)`` of fixed places ``(N, 2)``."""
        fixed = np.asarray(places, np.float64).reshape(-1, 2)
        if self.displacement is not None:
            fixed = fixed - self.displacement.at(fixed)
        return project(invert(self.matrix), fixed)

    def residuals(self, moving: ArrayLike, fixed: ArrayLike) -> Floats:
        """Return |H(m) + d(f) - f| ``(N,)``, fixed px, of corresponding points; inf on the matrix's horizon."""
        places = np.asarray(fixed, np.float64).reshape(-1, 2)
        offsets = project(self.matrix, moving) - places
        if self.displacement is not None:
            offsets = offsets + self.displacement.at(places)
        return distances(offsets)


AnyFit = Callable[[Points, Points, Weights | None], Matrix | Transform]
"""Weighted least-squares fit (moving, fixed, weights) of any model."""


def as_transform(found: Matrix | Transform) -> Transform:
    """Return the result of any fit as a transform."""
    return found if isinstance(found, Transform) else Transform(found)


def monomials(points: Points, degree: int) -> Floats:
    """Return the monomials ``(N, T)`` of points ``(N, 2)``: 1, x, y, x^2, xy, y^2, ... up to a total degree."""
    x, y = points.T
    highest = np.ones((1, len(points)))
    found = [highest]
    for _ in range(degree):
        highest = np.concatenate([x * highest[:1], y * highest])
        found.append(highest)
    return np.ascontiguousarray(np.concatenate(found).T)


def thin_plate_kernel(points: Points, knots: Points) -> Floats:
    """Return r^2 log r ``(N, K)`` of the distances r of points ``(N, 2)`` from knots ``(K, 2)``."""
    x, y = (points[:, axis, None] - knots[:, axis] for axis in (0, 1))
    square = x * x + y * y
    kernel = np.maximum(square, _TINY)
    np.log(kernel, out=kernel)  # in place, which takes a sixth of the time for a few hundred points
    kernel *= square
    kernel *= 0.5
    return kernel


def nearest_in_hull(points: ArrayLike, hull: Points) -> Points:
    """Return the nearest place ``(N, 2)`` of a convex polygon to each point: inside, the point itself.

    Args:
        points: ``(N, 2)`` places.
        hull: ``(V, 2)`` corners, as ``Displacement.hull``.
    """
    xy = np.array(points, np.float64).reshape(-1, 2)
    edge = np.concatenate([hull[1:], hull[:1]]) - hull
    inwards = np.stack([-edge[:, 1], edge[:, 0]])
    # Distance from each edge's line, times its length; from a corner nearby, for the sake of the digits.
    away = (xy - hull[0]) @ inwards - ((hull - hull[0]) * inwards.T).sum(axis=1)
    outside = np.flatnonzero((away < -_ON_EDGE).any(axis=1))
    if not len(outside):
        return xy
    edge_x, edge_y = edge.T
    x, y = xy[outside].T[:, :, None] - hull.T[:, None]
    along = np.clip((x * edge_x + y * edge_y) / (edge_x * edge_x + edge_y * edge_y), 0, 1)
    nearest = ((x - along * edge_x) ** 2 + (y - along * edge_y) ** 2).argmin(axis=1)
    xy[outside] = hull[nearest] + along[np.arange(len(outside)), nearest, None] * edge[nearest]
    return xy

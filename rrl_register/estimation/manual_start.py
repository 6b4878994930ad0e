"""Manual start: the initial transform from tie points that a person gives, and refusals of points that mislead."""

from __future__ import annotations

import cv2
import numpy as np

from rrl_register.errors import InputError, NotRegisteredError
from rrl_register.geometry.arrays import Matrix, Points
from rrl_register.geometry.homography import fit_homography
from rrl_register.geometry.transforms import (
    Georeferences,
    compose,
    fit_affine,
    fit_similarity,
    implausibility,
    project,
    residuals,
)

MIN_POINTS = 2
WELL_SPREAD = 0.25
"""Share of an image that the points' hull covers, from which four and more make a homography: beyond the hull, where
the error of a click grows fast, there is then not much left."""
_MIN_DISTANCE = 0.05
"""Distance of two points, as a share of the longer side: nearer ones leave the rotation open."""
_MIN_THICKNESS = 0.05
"""Extent of points across the line along which they lie, over the extent along it, from which they lie off it."""
_MAX_RESIDUAL = 0.05
"""Largest residual of a point, as a share of the longer side; a search from there reaches it."""

Shape = tuple[int, int]


def initial_transform(
    moving: Points, fixed: Points, moving_shape: Shape, fixed_shape: Shape, after: Georeferences | None = None
) -> Matrix:
    """Fit a similarity to 2 points, an affine transform to 3, a homography to 4 and more that are well spread.

    Args:
        moving: ``(N, 2)`` px.
        fixed: ``(N, 2)`` corresponding points, px.
        moving_shape: ``(H, W)`` of the moving image, at about the fixed one's resolution.
        fixed_shape: ``(H, W)`` of the fixed image.
        after: Georeferences of both images; None: at least one has none.

    Returns:
        ``(3, 3)`` transform moving -> fixed.

    Raises:
        InputError: There are too few points, they lie in one place or on one line, contradict each other, or make a
            transform that no two images of one place show.
    """
    if len(fixed) < MIN_POINTS:
        raise InputError(f"{len(fixed)} points are enabled; needed {MIN_POINTS}, better 4 and more; add some")
    _require_spread("fixed", fixed, fixed_shape)
    _require_spread("moving", moving, moving_shape)
    matrix = _fitted(moving, fixed, moving_shape, fixed_shape, after)
    residual, largest = residuals(matrix, moving, fixed), _MAX_RESIDUAL * max(fixed_shape)
    worst = int(np.argmax(residual))
    if residual[worst] > largest:
        raise InputError(
            f"enabled point {worst + 1} has a residual of {residual[worst]:.0f} px under the transform of all points; "
            f"needed at most {largest:.0f} px; check that point"
        )
    implausible = implausibility(matrix, moving_shape, after)
    if implausible:
        raise InputError(f"by the points {implausible}; needed points of one place in both; check which is which")
    return matrix


def require_inside(name: str, points: Points, shape: Shape) -> None:
    """Refuse points that cannot be of an image.

    Args:
        name: ``fixed`` or ``moving``.
        points: ``(N, 2)`` px of the file.
        shape: ``(H, W)`` of the file.

    Raises:
        InputError: A point lies outside, or is not finite.
    """
    height, width = shape
    outside = np.flatnonzero(~np.all((points >= -1) & (points <= [width, height]), axis=1))
    if len(outside):
        x, y = points[outside[0]]
        raise InputError(
            f"enabled point {outside[0] + 1} lies at ({x:.1f}, {y:.1f}) px of the {name} image, which has "
            f"{width} x {height} px; needed points inside; check that the file belongs to these images, and its CRS"
        )


def _fitted(
    moving: Points, fixed: Points, moving_shape: Shape, fixed_shape: Shape, after: Georeferences | None
) -> Matrix:
    """Fit the most flexible model that the points support."""
    if len(fixed) == MIN_POINTS:
        ground, there = np.eye(3), np.eye(3)
        if after is not None:
            ground[:2, :2] = after.pixel
            there = ground @ after.prior
        on_ground = fit_similarity(project(there, moving), project(ground, fixed))
        return compose(np.linalg.inv(ground), on_ground, there)
    if len(fixed) > 3 and max(_cover(moving, moving_shape), _cover(fixed, fixed_shape)) >= WELL_SPREAD:
        try:
            matrix = fit_homography(moving, fixed)
        except NotRegisteredError:  # three of four on one line
            return fit_affine(moving, fixed)
        if implausibility(matrix, moving_shape, after) is None:
            return matrix
    return fit_affine(moving, fixed)


def _cover(points: Points, shape: Shape) -> float:
    """Return the area of the points' hull over the image's."""
    return float(cv2.contourArea(cv2.convexHull(points.astype(np.float32)))) / (shape[0] * shape[1])


def _require_spread(name: str, points: Points, shape: Shape) -> None:
    along, across = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[:2]
    apart = np.linalg.norm(np.ptp(points, axis=0))
    if apart < _MIN_DISTANCE * max(shape):
        raise InputError(
            f"the points lie within {apart:.1f} px of each other in the {name} image; needed "
            f"{_MIN_DISTANCE * max(shape):.0f} px and more; set them far apart"
        )
    if len(points) > MIN_POINTS and across < _MIN_THICKNESS * along:
        raise InputError(
            f"the {len(points)} points lie almost on one line in the {name} image; needed points off it; add one"
        )

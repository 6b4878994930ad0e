"""The output grid: the fixed image's, one of the moving image's resolution, or another raster's; and its crop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from affine import Affine

from rrl_register.config import Crop, OutputGrid, WarpConfig
from rrl_register.errors import InputError
from rrl_register.geometry.arrays import Matrix, Points
from rrl_register.geometry.displacement import Displacement
from rrl_register.geometry.transforms import invert, project
from rrl_register.geometry.window import Box
from rrl_register.raster.grid import Grid, between, prior_matrix
from rrl_register.warping.inverse_map import DisplacementGrid, facing_forward

_OUTLINE_POINTS = 64
"""Points along each side of an image's outline that is mapped."""
_OUTLINE_STEPS = 20
"""Each leaves a third of the error at most (see ``geometry.displacement``)."""
_SAME_PX = 1e-6
"""Pixels by which rounding may move an edge."""
_SPARE_PX = 2
"""Pixels around the moving image for which the displacement is sampled, too."""

MapPoints = Callable[[Points], Points]


@dataclass(frozen=True)
class Layout:
    """The pixels to write, and how the moving image is mapped there.

    Attributes:
        grid: Grid of the output.
        frame: The output's pixels, counted on the grid that ``matrix`` leads to.
        matrix: (3, 3), moving pixel -> pixel of that grid.
        displacements: Displacement on that grid; None: none.
        to_fixed: (3, 3), output pixel -> fixed pixel; the best homography if the CRS differ.
    """

    grid: Grid
    frame: Box
    matrix: Matrix
    displacements: DisplacementGrid | None
    to_fixed: Matrix


@dataclass(frozen=True)
class _Uncropped:
    """A grid before it is cropped.

    Attributes:
        grid: Its size and georeference.
        to_fixed: (3, 3), its pixel -> fixed pixel.
        exact: Maps its pixels (N, 2) to fixed pixels (N, 2), if no matrix does so exactly; else None.
    """

    grid: Grid
    to_fixed: Matrix
    exact: MapPoints | None = None

    @property
    def is_fixed(self) -> bool:
        """True for the fixed grid itself."""
        return self.exact is None and np.array_equal(self.to_fixed, np.eye(3))

    def displacement(self, on_fixed: Displacement | None) -> MapPoints | None:
        """Carry a displacement over from the fixed grid, and add the difference between ``exact`` and ``to_fixed``.

        A place o of this grid, at f(o) on the fixed one, shows the moving pixel H^-1(f - d(f)). With G for the matrix
        ``to_fixed``, that is (G^-1 H)^-1 (o - e(o)) where e(o) = o - G^-1(f - d(f)).
        """
        if on_fixed is None and self.exact is None:
            return None
        if on_fixed is not None and self.is_fixed:
            return on_fixed.at
        back = invert(self.to_fixed)

        def added(places: Points) -> Points:
            """Return e(o) of places (N, 2)."""
            fixed = project(self.to_fixed, places) if self.exact is None else self.exact(places)
            if on_fixed is not None:
                fixed = fixed - on_fixed.at(fixed)
            return places - project(back, fixed)

        return added


def plan_output(
    matrix: npt.ArrayLike,
    fixed: Grid,
    moving: Grid,
    config: WarpConfig,
    displacement: Displacement | None = None,
    like: Grid | None = None,
) -> Layout:
    """Decide which pixels are written.

    Args:
        matrix: (3, 3), moving pixel -> fixed pixel.
        fixed: Grid of the fixed image.
        moving: Grid of the image that is warped.
        config: Grid and crop.
        displacement: Displacement on the fixed grid, added to the matrix; None: none.
        like: The grid to write on, if ``config.grid`` is the path of a raster.

    Raises:
        InputError: The grid has no georeference, or nothing of the moving image falls onto it.
        UsageError: The matrix has no inverse.
    """
    forward = facing_forward(matrix, moving.shape)
    whole = _uncropped(forward, fixed, moving, config, like)
    onto = forward if whole.is_fixed else facing_forward(invert(whole.to_fixed) @ forward, moving.shape)
    added = whole.displacement(displacement)
    footprint = _footprint(onto, moving.shape, added)
    frame = _cropped(Box.of_shape(whole.grid.shape), footprint, config.crop)
    transform = whole.grid.transform and whole.grid.transform * Affine.translation(frame.left, frame.top)
    return Layout(
        grid=Grid(frame.shape[1], frame.shape[0], whole.grid.crs, transform),
        frame=frame,
        matrix=onto,
        displacements=None if added is None else DisplacementGrid.sample(added, _sampled(frame, footprint)),
        to_fixed=whole.to_fixed @ np.array([[1, 0, frame.left], [0, 1, frame.top], [0, 0, 1]], np.float64),
    )


def sample_displacement(
    displacement: Displacement | None, matrix: npt.ArrayLike, shape: tuple[int, int], frame: Box
) -> DisplacementGrid | None:
    """Sample a displacement on the part of the fixed grid that a moving image covers.

    Args:
        displacement: The displacement; None: none.
        matrix: (3, 3), moving pixel -> fixed pixel.
        shape: (rows, columns) of the moving image.
        frame: The part of the fixed grid that may be requested.
    """
    if displacement is None:
        return None
    footprint = _footprint(facing_forward(matrix, shape), shape, displacement.at)
    return DisplacementGrid.sample(displacement.at, _sampled(frame, footprint))


def require_georeferences(fixed: Grid, config: WarpConfig, like: Grid | None = None) -> None:
    """Refuse settings that need a georeference if there is none.

    Args:
        fixed: Grid of the fixed image.
        config: The settings.
        like: Grid of the raster that ``config.grid`` names, if any.

    Raises:
        InputError: A georeference is missing.
    """
    if like is not None and not (fixed.georeferenced and like.georeferenced):
        whose = f"Raster {config.grid}" if fixed.georeferenced else "The fixed image"
        raise InputError(f"{whose} has no georeference; --grid RASTER needs one in both; try --grid fixed")
    if config.gcps_only and not fixed.georeferenced:
        raise InputError(
            "The fixed image has no georeference; ground control points need one; try -o without --gcps-only, or "
            "--json, which holds the tie points in pixels"
        )


def _uncropped(forward: Matrix, fixed: Grid, moving: Grid, config: WarpConfig, like: Grid | None) -> _Uncropped:
    if config.grid is OutputGrid.MOVING:
        return _moving_sized(forward, fixed, moving)
    if like is None:
        return _Uncropped(fixed, np.eye(3))
    require_georeferences(fixed, config, like)

    def reprojected(places: Points) -> Points:
        """Map pixels (N, 2) of the raster to fixed pixels."""
        found = between(places, like, fixed)
        if not np.isfinite(found).all():
            raise InputError(
                f"The grid of {config.grid} reaches where the fixed image's CRS has no coordinates; "
                "try --crop overlap, or a grid around the scene"
            )
        return found

    try:
        return _Uncropped(like, prior_matrix(fixed=fixed, moving=like), None if like.crs == fixed.crs else reprojected)
    except InputError as error:
        raise InputError(f"With {config.grid} in place of the moving image: {error}") from error


def _moving_sized(forward: Matrix, fixed: Grid, moving: Grid) -> _Uncropped:
    """Cover the fixed image, from its top-left corner on, with pixels of the moving image's size and orientation.

    With georeferences in one CRS, size and orientation are those of the moving image's geotransform; else those that
    the transform has in its middle, without shear.
    """
    place, unit = Affine.identity(), moving.transform
    if unit is not None and fixed.transform is not None and fixed.georeferenced and fixed.crs == moving.crs:
        place = fixed.transform
    else:
        unit = _upright(forward, moving)
    width, height, corners = _laid_over(fixed.shape, place, unit)
    transform = corners if place is fixed.transform else fixed.transform and fixed.transform * corners
    half = Affine.translation(0.5, 0.5)
    to_fixed = np.array(~half * ~place * corners * half, np.float64).reshape(3, 3)
    return _Uncropped(Grid(width, height, fixed.crs, transform), to_fixed)


def _upright(forward: Matrix, moving: Grid) -> Affine:
    """Linearise the transform in the middle of the moving image, and make its axes perpendicular."""
    x, y = moving.centre
    middle, right, below = project(forward, [(x, y), (x + 1, y), (x, y + 1)])
    linear = np.column_stack([right - middle, below - middle])
    u, _, vt = np.linalg.svd(linear)
    (a, b), (d, e) = (u @ vt) * np.linalg.norm(linear, axis=0)
    return Affine(a, b, 0, d, e, 0)


def _laid_over(shape: tuple[int, int], place: Affine, unit: Affine) -> tuple[int, int, Affine]:
    """Cover a raster at ``place`` with pixels of the linear part of ``unit``; return width, height, geotransform."""
    linear = Affine(unit.a, unit.b, 0, unit.d, unit.e, 0)
    corner = np.array((place.c, place.f))
    corners = np.array([place * (x, y) for x in (0, shape[1]) for y in (0, shape[0])]) - corner
    pixels = np.array([~linear * tuple(offset) for offset in corners])
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    width, height = (max(1, int(np.ceil(side - _SAME_PX))) for side in high - low)
    origin = corner + np.array(linear * tuple(low))
    return width, height, Affine(unit.a, unit.b, origin[0], unit.d, unit.e, origin[1])


def _footprint(onto: Matrix, shape: tuple[int, int], added: MapPoints | None) -> Points | None:
    """Map the moving image's outer edges onto a grid: a polygon (N, 2) in px; None if it crosses the horizon."""
    height, width = shape
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)]) - 0.5
    share = np.arange(_OUTLINE_POINTS)[:, None] / _OUTLINE_POINTS
    sides = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    outline = np.concatenate([(1 - share) * a + share * b for a, b in sides])
    if np.any(outline @ onto[2, :2] + onto[2, 2] <= 0):
        return None
    places = straight = project(onto, outline)
    if added is not None:
        for _ in range(_OUTLINE_STEPS):
            places = straight + added(places)
    return places


def _bounds(polygon: Points) -> Box:
    """Find the pixels whose centres lie within the bounds of a polygon, right and bottom edges excluded."""
    (left, top), (right, bottom) = (
        np.ceil(ends - _SAME_PX).astype(int).tolist() for ends in (polygon.min(axis=0), polygon.max(axis=0))
    )
    return Box(top, bottom, left, right)


def _visible(polygon: Points, whole: Box) -> Box:
    """Find the pixels of a box within the bounds of its intersection with a polygon; perhaps none."""
    for axis, low, high in ((0, whole.left, whole.right - 1), (1, whole.top, whole.bottom - 1)):
        polygon = _cut_off(_cut_off(polygon, axis, low, 1), axis, high + 2 * _SAME_PX, -1)
    return _bounds(polygon).within(whole) if len(polygon) else Box(0, 0, 0, 0)


def _cut_off(polygon: Points, axis: int, limit: float, side: int) -> Points:
    """Keep the part of a polygon beyond (side 1) or before (side -1) a limit along an axis.

    Source: Sutherland and Hodgman, "Reentrant polygon clipping", 1974.
    """
    ahead = np.roll(polygon, -1, axis=0)
    here, there = side * (polygon[:, axis] - limit), side * (ahead[:, axis] - limit)
    crosses = here * there < 0
    share = here / np.where(crosses, here - there, 1)
    with_crossings = np.stack([polygon, polygon + share[:, None] * (ahead - polygon)], axis=1)
    return with_crossings[np.stack([here >= 0, crosses], axis=1)]


def _cropped(whole: Box, footprint: Points | None, crop: Crop) -> Box:
    if footprint is None:
        if crop is Crop.UNION:
            raise InputError(
                "Part of the moving image lies beyond the transform's horizon; --crop union needs all of it; "
                "try --crop fixed"
            )
        return whole
    visible = _visible(footprint, whole)
    if visible.empty:
        raise InputError("Nothing of the moving image falls onto the output grid; check --grid and the transform")
    return {Crop.FIXED: whole, Crop.OVERLAP: visible, Crop.UNION: _bounds(footprint).around(whole)}[crop]


def _sampled(frame: Box, footprint: Points | None) -> Box:
    """Find where the displacement is needed: a lattice over all of a much larger grid would be too coarse."""
    if footprint is None:
        return frame
    top, bottom, left, right = _bounds(footprint)
    needed = Box(top - _SPARE_PX, bottom + _SPARE_PX, left - _SPARE_PX, right + _SPARE_PX).within(frame)
    return frame if needed.empty else needed

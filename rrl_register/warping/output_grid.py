"""Which pixels are written: the fixed grid, one of the moving image's resolution or another raster's, and how much."""

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
from rrl_register.warping.displacement_grid import DisplacementField
from rrl_register.warping.inverse_map import facing_forward

_OUTLINE_POINTS = 64
"""Along each side of an image, where its outline is carried over."""
_OUTLINE_STEPS = 20
"""Each leaves a third of the error at most (see ``estimation.displacement``)."""
_SAME_PX = 1e-6
"""Pixels by which rounding may move an edge."""
_SPARE_PX = 2
"""Pixels around the moving image for which the displacement is sampled, too."""

OnGrid = Callable[[Points], Points]


@dataclass(frozen=True)
class Layout:
    """The pixels to write, and how the moving image gets there.

    Attributes:
        grid: Of the output.
        frame: The output's pixels, counted on the grid that ``matrix`` leads to.
        matrix: (3, 3), moving pixel -> pixel of that grid.
        field: What is to be added on that grid; None: nothing.
        to_fixed: (3, 3), output pixel -> fixed pixel; the best homography where the CRS differ.
    """

    grid: Grid
    frame: Box
    matrix: Matrix
    field: DisplacementField | None
    to_fixed: Matrix


@dataclass(frozen=True)
class _Base:
    """A grid before it is cropped.

    Attributes:
        grid: Its size and georeference.
        to_fixed: (3, 3), its pixel -> fixed pixel.
        exact: Its pixels (N, 2) -> fixed pixels (N, 2), where no matrix says that exactly; else None.
    """

    grid: Grid
    to_fixed: Matrix
    exact: OnGrid | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether it is the fixed grid itself."""
        return self.exact is None and np.array_equal(self.to_fixed, np.eye(3))

    def on_fixed(self, places: Points) -> Points:
        """Fixed pixels (N, 2) of its pixels (N, 2)."""
        return project(self.to_fixed, places) if self.exact is None else self.exact(places)


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
        config: Which grid, and how it is cropped.
        displacement: What is to be added to the matrix, on the fixed grid; None: nothing.
        like: The grid asked for, where ``config.grid`` is the path of a raster.

    Raises:
        InputError: The grid has no georeference, or nothing of the moving image falls onto it.
        UsageError: The matrix has no inverse.
    """
    forward = facing_forward(matrix, moving.shape)
    base = _base(forward, fixed, moving, config, like)
    onto = forward if base.is_fixed else facing_forward(invert(base.to_fixed) @ forward, moving.shape)
    shift = _shift_on(base, displacement)
    footprint = _footprint(onto, moving.shape, shift)
    frame = _cropped(Box.of_shape(base.grid.shape), footprint, config.crop)
    return Layout(
        grid=_part(base.grid, frame),
        frame=frame,
        matrix=onto,
        field=None if shift is None else DisplacementField.over(shift, _sampled(frame, footprint)),
        to_fixed=base.to_fixed @ np.array([[1, 0, frame.left], [0, 1, frame.top], [0, 0, 1]], np.float64),
    )


def field_on(
    displacement: Displacement | None, matrix: npt.ArrayLike, shape: tuple[int, int], frame: Box
) -> DisplacementField | None:
    """Sample a displacement where a moving image of a shape, brought to the fixed grid by a matrix, is seen."""
    if displacement is None:
        return None
    footprint = _footprint(facing_forward(matrix, shape), shape, displacement.at)
    return DisplacementField.over(displacement.at, _sampled(frame, footprint))


def require_georeferences(fixed: Grid, config: WarpConfig, like: Grid | None = None) -> None:
    """Refuse what needs a georeference where there is none.

    Args:
        fixed: Grid of the fixed image.
        config: What is asked for.
        like: Grid of the raster that ``config.grid`` names, if any.

    Raises:
        InputError: A georeference is missing.
    """
    if like is not None and not (fixed.georeferenced and like.georeferenced):
        whose = f"the raster {config.grid}" if fixed.georeferenced else "the fixed image"
        raise InputError(
            f"{whose} has no georeference; needed one in both to write on the grid of the first; try --grid fixed"
        )
    if config.gcps_only and not fixed.georeferenced:
        raise InputError(
            "the fixed image has no georeference; needed one for ground control points; try -o without --gcps-only, or "
            "--json, which holds the tie points in pixels"
        )


def _base(forward: Matrix, fixed: Grid, moving: Grid, config: WarpConfig, like: Grid | None) -> _Base:
    if like is not None:
        require_georeferences(fixed, config, like)
        exact: OnGrid | None = None if like.crs == fixed.crs else lambda places: _reprojected(places, like, fixed)
        try:
            return _Base(like, prior_matrix(fixed=fixed, moving=like), exact)
        except InputError as error:
            raise InputError(f"with {config.grid} in place of the moving image, {error}") from error
    if config.grid is OutputGrid.MOVING:
        return _moving_base(forward, fixed, moving)
    return _Base(fixed, np.eye(3))


def _reprojected(places: Points, like: Grid, fixed: Grid) -> Points:
    found = between(places, like, fixed)
    if not np.isfinite(found).all():
        raise InputError(
            "the grid asked for reaches where the fixed image's CRS has no place; needed one around the scene; "
            "try --crop overlap"
        )
    return found


def _moving_base(forward: Matrix, fixed: Grid, moving: Grid) -> _Base:
    """Pixels of the moving image's size and orientation over all of the fixed image, from its top-left corner on.

    With georeferences in one CRS, size and orientation are those that the moving image's says; else those that the
    transform gives it in its middle, without shear.
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
    return _Base(Grid(width, height, fixed.crs, transform), to_fixed)


def _upright(forward: Matrix, moving: Grid) -> Affine:
    """The transform's linear part in the middle of the moving image, its axes made perpendicular."""
    x, y = moving.centre
    middle, right, below = project(forward, [(x, y), (x + 1, y), (x, y + 1)])
    linear = np.column_stack([right - middle, below - middle])
    u, _, vt = np.linalg.svd(linear)
    (a, b), (d, e) = (u @ vt) * np.linalg.norm(linear, axis=0)
    return Affine(a, b, 0, d, e, 0)


def _laid_over(shape: tuple[int, int], place: Affine, unit: Affine) -> tuple[int, int, Affine]:
    """Cover a raster of a shape, which lies at ``place``, with pixels of the linear part of ``unit``.

    Returns:
        Width, height and the geotransform of the pixels.
    """
    linear = Affine(unit.a, unit.b, 0, unit.d, unit.e, 0)
    corner = np.array((place.c, place.f))
    corners = np.array([place * (x, y) for x in (0, shape[1]) for y in (0, shape[0])]) - corner
    pixels = np.array([~linear * tuple(offset) for offset in corners])
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    width, height = (max(1, int(np.ceil(side - _SAME_PX))) for side in high - low)
    origin = corner + np.array(linear * tuple(low))
    return width, height, Affine(unit.a, unit.b, origin[0], unit.d, unit.e, origin[1])


def _shift_on(base: _Base, displacement: Displacement | None) -> OnGrid | None:
    """What is to be added to the matrix, on the base grid: displacement, and what its matrix onto the fixed grid lacks.

    A place o of the base grid, at f(o) on the fixed one, shows the moving pixel H^-1(f - d(f)). With G for the matrix
    base -> fixed, that is (G^-1 H)^-1 (o - e(o)) where e(o) = o - G^-1(f - d(f)).
    """
    if displacement is None and base.exact is None:
        return None
    back = invert(base.to_fixed)

    def shift(places: Points) -> Points:
        """What is to be added at places (N, 2) of the base grid."""
        on_fixed = base.on_fixed(places)
        if displacement is not None:
            on_fixed = on_fixed - displacement.at(on_fixed)
        return places - project(back, on_fixed)

    return displacement.at if displacement is not None and base.is_fixed else shift


def _footprint(onto: Matrix, shape: tuple[int, int], shift: OnGrid | None) -> Points | None:
    """The moving image's outline on the base grid, a polygon (N, 2) in px; None where it crosses the horizon."""
    outline = _outline(shape)
    if np.any(outline @ onto[2, :2] + onto[2, 2] <= 0):
        return None
    places = straight = project(onto, outline)
    if shift is not None:
        for _ in range(_OUTLINE_STEPS):
            places = straight + shift(places)
    return places


def _outline(shape: tuple[int, int]) -> Points:
    """Points along the outer edges of an image of that shape, once around, px."""
    height, width = shape
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)]) - 0.5
    share = np.arange(_OUTLINE_POINTS)[:, None] / _OUTLINE_POINTS
    return np.concatenate(
        [(1 - share) * a + share * b for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)]
    )


def _bounds(polygon: Points) -> Box:
    """The pixels whose centres lie within the bounds of a polygon; right and bottom edges are not part of it."""
    (left, top), (right, bottom) = (
        np.ceil(ends - _SAME_PX).astype(int).tolist() for ends in (polygon.min(axis=0), polygon.max(axis=0))
    )
    return Box(top, bottom, left, right)


def _visible(polygon: Points, whole: Box) -> Box:
    """The pixels of a box that the bounds of what a polygon shares with it hold; perhaps none."""
    centres = ((0, whole.left, whole.right - 1), (1, whole.top, whole.bottom - 1))
    for axis, low, high in centres:
        polygon = _cut_off(_cut_off(polygon, axis, low, 1), axis, high + 2 * _SAME_PX, -1)
    return _bounds(polygon).within(whole) if len(polygon) else Box(0, 0, 0, 0)


def _cut_off(polygon: Points, axis: int, limit: float, side: int) -> Points:
    """The part of a polygon beyond (side 1) or before (side -1) a limit along an axis.

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
                "part of the moving image lies beyond the transform's horizon; needed all of it for --crop union; "
                "try --crop fixed"
            )
        return whole
    visible = _visible(footprint, whole)
    if visible.empty:
        raise InputError(
            "nothing of the moving image falls onto the grid to be written; needed some; check --grid, or the transform"
        )
    return {Crop.FIXED: whole, Crop.OVERLAP: visible, Crop.UNION: _bounds(footprint).around(whole)}[crop]


def _sampled(frame: Box, footprint: Points | None) -> Box:
    """Where the displacement is needed: a lattice over all of a much larger grid would be too coarse."""
    if footprint is None:
        return frame
    top, bottom, left, right = _bounds(footprint)
    needed = Box(top - _SPARE_PX, bottom + _SPARE_PX, left - _SPARE_PX, right + _SPARE_PX).within(frame)
    return frame if needed.empty else needed


def _part(grid: Grid, frame: Box) -> Grid:
    transform = grid.transform and grid.transform * Affine.translation(frame.left, frame.top)
    return Grid(frame.shape[1], frame.shape[0], grid.crs, transform)

"""Pixel grids: their georeference, by geotransform or ground control points, and the prior that relates two of them.

Pixels are (x, y) = (column, row) and (0, 0) is the *centre* of the top-left pixel. GDAL's convention, where (0, 0) is
the corner of that pixel, is used only here: half a pixel is added on the way to the map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine

# GDAL's errors of a transformation reach the caller of rasterio as they are.
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.io import DatasetReader
from rasterio.warp import transform as reproject_xy

from rrl_register.errors import InputError, NotRegisteredError
from rrl_register.geometry.arrays import Floats, Matrix, Points
from rrl_register.geometry.homography import fit_homography
from rrl_register.geometry.transforms import fit_affine, residuals
from rrl_register.raster.crs import crs_from_text

_EARTH_RADIUS_M = 6_371_008.8
_LATTICE = 17
"""Lattice points per side when a reprojection is fitted."""
MIN_CONTROL_POINTS = 4
"""Ground control points to which a geotransform is fitted: three leave no residual, and so no error."""
_AGREEING_PX, _OUTLYING, _ROBUST_STEPS = 1.0, 10, 10
"""A control point is an outlier if its residual exceeds the first and the second times the median residual, which the
curvature of a scene does not; and steps of the robust fit."""


@dataclass(frozen=True)
class Grid:
    """A raster of pixels and its place on the ground.

    Attributes:
        width: Columns.
        height: Rows.
        crs: Coordinate reference system of the map, if known.
        transform: GDAL's geotransform (pixel corner -> map); None if the raster has no georeference.
        error_px: Largest residual of a geotransform that was fitted to control points, px; 0 if the file states it.
    """

    width: int
    height: int
    crs: CRS | None = None
    transform: Affine | None = None
    error_px: float = field(default=0.0, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns), as in numpy."""
        return self.height, self.width

    @property
    def georeferenced(self) -> bool:
        """True if pixels can be placed on the ground: both a geotransform and a CRS are known."""
        return self.transform is not None and self.crs is not None

    @property
    def gsd(self) -> float | None:
        """Pixel size in units of the CRS, geometric mean over both axes; None without a geotransform."""
        return None if self.transform is None else math.sqrt(abs(self.transform.determinant))

    @property
    def metres_per_pixel(self) -> float | None:
        """Pixel size on the ground at the image centre, m (spherical earth, good to 1 %); None if not georeferenced."""
        return math.sqrt(abs(float(np.linalg.det(self.pixel_on_ground)))) if self.georeferenced else None

    @property
    def pixel_on_ground(self) -> Matrix:
        """Steps along x and y at the image centre, m: (2, 2), east and north by x and y; georeferenced grids only."""
        x, y = self.centre
        corners = np.array([(x, y), (x + 1, y), (x, y + 1)])
        lon, lat = np.radians(_reproject(self.pixel_to_map(corners), self.crs, CRS.from_epsg(4326))).T
        return _EARTH_RADIUS_M * np.array([(lon[1:] - lon[0]) * math.cos(lat[0]), lat[1:] - lat[0]])

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the image, px."""
        return (self.width - 1) / 2, (self.height - 1) / 2

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of the image on the map.

        Raises:
            InputError: The grid has no geotransform.
        """
        corners = self.pixel_to_map(_lattice(_extent(self), 2))
        (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
        return float(left), float(bottom), float(right), float(top)

    def pixel_to_map(self, points: npt.ArrayLike) -> Points:
        """Map pixels to map coordinates.

        Args:
            points: (N, 2) pixels (x, y), centre convention.

        Returns:
            (N, 2) float64 map coordinates.

        Raises:
            InputError: The grid has no geotransform.
        """
        return _apply_affine(self._geotransform(), np.asarray(points, np.float64) + 0.5)

    def map_to_pixel(self, points: npt.ArrayLike) -> Points:
        """Map map coordinates to pixels.

        Args:
            points: (N, 2) map coordinates in the grid's CRS.

        Returns:
            (N, 2) float64 pixels (x, y), centre convention.

        Raises:
            InputError: The grid has no geotransform.
        """
        return _apply_affine(~self._geotransform(), np.asarray(points, np.float64)) - 0.5

    def reduced(self, factor: float) -> Grid:
        """Build the coarser grid whose pixels are ``factor`` pixels wide.

        The top-left corner stays; a remainder of less than one coarse pixel at the right and bottom is dropped, so
        that ``x_reduced = (x + 0.5) / factor - 0.5`` holds exactly.
        """
        width = max(1, math.floor(self.width / factor + 1e-9))
        height = max(1, math.floor(self.height / factor + 1e-9))
        coarser = None if self.transform is None else self.transform * Affine.scale(factor)
        return Grid(width, height, self.crs, coarser)

    def to_dict(self) -> dict[str, Any]:
        """Describe the grid in JSON's types; ``from_dict`` reads it back."""
        return {
            "width": self.width,
            "height": self.height,
            "crs": None if self.crs is None else crs_text(self.crs),
            "transform": None if self.transform is None else list(self.transform)[:6],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Grid:
        """Rebuild a grid from ``to_dict``.

        Raises:
            InputError: A field is missing or cannot be understood.
        """
        try:
            crs = None if data.get("crs") is None else crs_from_text(data["crs"])
            transform = None if data.get("transform") is None else Affine(*map(float, data["transform"]))
            grid = cls(int(data["width"]), int(data["height"]), crs, transform)
            if transform is not None and (transform.is_degenerate or not all(map(math.isfinite, transform))):
                raise ValueError("the geotransform has no inverse")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"Cannot read a pixel grid ({error!r}); it needs width, height, crs and six numbers of transform; "
                "try a result file written by this program"
            ) from error
        if min(grid.shape) < 1:
            raise InputError(f"The pixel grid is {grid.width} x {grid.height} px, less than one pixel; check the file")
        return grid

    def _geotransform(self) -> Affine:
        if self.transform is None:
            raise InputError("The image has no geotransform, which map coordinates need; try units of pixels")
        return self.transform


def grid_of(dataset: DatasetReader) -> Grid:
    """Return size and georeference of an open raster; GDAL's identity geotransform stands for none.

    A raster with ground control points, such as a SAR product, gets the affine geotransform that fits them best, unless
    it has one of its own that misses them by less.
    """
    transform = None if dataset.transform.is_identity else dataset.transform
    stated = Grid(dataset.width, dataset.height, dataset.crs or None, transform)
    points, crs = dataset.gcps
    if not crs or len(points) < MIN_CONTROL_POINTS:
        return stated
    pixels, places = (np.array([(getattr(p, x), getattr(p, y)) for p in points]) for x, y in (("col", "row"), "xy"))
    fitted = grid_from_control(dataset.width, dataset.height, crs, pixels, places)
    if not stated.georeferenced:
        return fitted
    missed = np.hypot(*(stated.map_to_pixel(_reproject(places, crs, stated.crs)) + 0.5 - pixels).T)
    better = fitted.georeferenced and np.median(missed) > max(fitted.error_px, _AGREEING_PX)
    return fitted if better else stated


def grid_from_control(width: int, height: int, crs: CRS, pixels: Points, places: Points) -> Grid:
    """Fit a geotransform to ground control points.

    Args:
        width: Columns.
        height: Rows.
        crs: Coordinate reference system of the places.
        pixels: (N, 2) points (x, y) in GDAL's convention: (0, 0) is the corner of the top-left pixel.
        places: (N, 2) their map coordinates.

    Returns:
        The grid, with the largest residual as its error, of the points that agree; without a geotransform if they lie
        on one line or in one place.
    """
    try:
        matrix, missed = _agreeing_fit(pixels, places)
    except (NotRegisteredError, np.linalg.LinAlgError):
        return Grid(width, height)
    return Grid(width, height, crs, Affine(*matrix[:2].ravel()), float(missed.max()))


def _agreeing_fit(pixels: Points, places: Points) -> tuple[Matrix, Floats]:
    """Fit a geotransform, without points whose residuals are outliers; return it and the residuals of the others, px.

    Few points may not show which of them is wrong; all are kept then.

    Source: iterated weights 1 / residual lead to the least absolute deviations, which a minority cannot move
    far (Schlossmacher, 1973).
    """
    missed = np.ones(len(pixels))
    for _ in range(_ROBUST_STEPS):
        matrix = fit_affine(pixels, places, 1 / np.maximum(missed, _AGREEING_PX))
        missed = residuals(np.linalg.inv(matrix), places, pixels)
    kept = missed <= _AGREEING_PX + _OUTLYING * np.median(missed)
    kept |= kept.sum() < 2 * MIN_CONTROL_POINTS
    matrix = fit_affine(pixels[kept], places[kept])
    return matrix, residuals(np.linalg.inv(matrix), places[kept], pixels[kept])


def prior_matrix(fixed: Grid, moving: Grid) -> Matrix:
    """Predict moving pixel -> fixed pixel from the grids alone.

    Two georeferences decide; else the images are assumed to show the same scene, centred, at one scale.

    Returns:
        (3, 3) float64 homography.

    Raises:
        InputError: Both images are georeferenced and do not overlap, or one crosses the antimeridian and its
            coordinates jump there.
    """
    if not (fixed.georeferenced and moving.georeferenced):
        scale = math.sqrt((fixed.width / moving.width) * (fixed.height / moving.height))
        (fixed_x, fixed_y), (moving_x, moving_y) = fixed.centre, moving.centre
        return np.array([[scale, 0, fixed_x - scale * moving_x], [0, scale, fixed_y - scale * moving_y], [0, 0, 1]])
    for grid in (fixed, moving):
        _refuse_antimeridian(grid, reprojected=fixed.crs != moving.crs)
    on_fixed, on_moving = _overlap_points(fixed, moving)
    if fixed.crs != moving.crs:
        return fit_homography(on_moving, on_fixed)
    half = Affine.translation(0.5, 0.5)
    return np.array(~half * ~fixed._geotransform() * moving._geotransform() * half, np.float64).reshape(3, 3)


def overlap_box(fixed: Grid, moving: Grid, margin: float = 0.0) -> Points:
    """Bound the part of a fixed image that a moving one can show, fixed px: [[x0, y0], [x1, y1]], pixel centres.

    Args:
        fixed: The fixed image's grid, with a georeference.
        moving: The moving image's grid, with a georeference.
        margin: Largest error of the georeferences, fixed px.

    Raises:
        InputError: The images do not overlap.
    """
    outline = between(_lattice(_extent(moving)), moving, fixed)
    outline = outline[np.isfinite(outline).all(axis=1)]
    if len(outline) == 0:
        raise _no_overlap(fixed, moving)
    low, high = _extent(fixed)
    return np.array([np.maximum(outline.min(axis=0) - margin, low), np.minimum(outline.max(axis=0) + margin, high)])


def _overlap_points(fixed: Grid, moving: Grid) -> tuple[Points, Points]:
    """Lay corresponding points (fixed px, moving px), (N, 2), over the overlap; beyond, curvature would bend a fit."""
    box = overlap_box(fixed, moving)
    if np.any(box[1] - box[0] < 1):
        raise _no_overlap(fixed, moving)
    on_fixed = _lattice(box)
    on_moving = between(on_fixed, fixed, moving)
    known = np.isfinite(on_moving).all(axis=1)
    low, high = _extent(moving)
    if not np.any(known & np.all((on_moving >= low) & (on_moving <= high), axis=1)):
        raise _no_overlap(fixed, moving)
    return on_fixed[known], on_moving[known]


def between(points: Points, source: Grid, target: Grid) -> Points:
    """Map pixels of one georeferenced grid to another's; not finite where the projection has no answer."""
    return target.map_to_pixel(_reproject(source.pixel_to_map(points), source.crs, target.crs))


def _reproject(points: Points, source: CRS, target: CRS) -> Points:
    if source == target:
        return points
    found = _reprojected(points, source, target)
    if found is None:  # one place without an answer is an error for all
        found = np.full((len(points), 2), np.inf)
        for row in range(len(points)):
            place = _reprojected(points[row : row + 1], source, target)
            found[row] = np.inf if place is None else place
    if len(found) and not np.isfinite(found).any():
        raise InputError(
            f"No place of an image in {_crs_name(source)} has coordinates in {_crs_name(target)}; check the CRS of both"
        )
    return found


def _reprojected(points: Points, source: CRS, target: CRS) -> Points | None:
    try:
        x, y = reproject_xy(source, target, points[:, 0], points[:, 1])[:2]
    except CPLE_BaseError:
        return None
    return np.column_stack([x, y]).astype(np.float64)


def _refuse_antimeridian(grid: Grid, reprojected: bool) -> None:
    """Refuse an image that crosses the antimeridian, if its coordinates, perhaps ``reprojected``, jump there."""
    if grid.crs is not None and grid.crs.is_geographic:
        left, _, right, _ = grid.bounds
        pixel = grid.gsd or 0.0
        jumps = any(left < side - pixel and right > side + pixel for side in (-180.0, 180.0))
    else:
        jumps = reprojected and _has_jump(grid)
    if jumps:
        raise InputError(
            f"An image in {_crs_name(grid.crs)} crosses the antimeridian (180 degrees of longitude), where coordinates "
            "jump; try `rio warp` to bring both to one projected CRS, such as UTM"
        )


def _has_jump(grid: Grid) -> bool:
    """Return true if longitudes of neighbouring places differ by half a turn or more."""
    places = _reproject(grid.pixel_to_map(_lattice(_extent(grid))), grid.crs, CRS.from_epsg(4326))
    longitude = places[:, 0].reshape(_LATTICE, _LATTICE)
    return any(bool(np.any(np.abs(np.diff(longitude, axis=axis)) > 180)) for axis in (0, 1))


def _extent(grid: Grid) -> Points:
    """Return the outer edges of the image, px: [[x0, y0], [x1, y1]]."""
    return np.array([[-0.5, -0.5], [grid.width - 0.5, grid.height - 0.5]])


def _lattice(box: Points, n: int = _LATTICE) -> Points:
    """Lay n x n points (n * n, 2) over a box, its corners included, row by row."""
    x, y = (np.linspace(box[0, axis], box[1, axis], n) for axis in (0, 1))
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _apply_affine(transform: Affine, points: Points) -> Points:
    a, b, c, d, e, f = list(transform)[:6]
    x, y = points[:, 0], points[:, 1]
    with np.errstate(invalid="ignore"):  # places off the globe are infinite
        return np.column_stack([a * x + b * y + c, d * x + e * y + f])


def crs_text(crs: CRS) -> str:
    """Write a CRS as text: as a short authority code if that means the very same, else in full."""
    text = str(crs.to_string())
    return text if CRS.from_user_input(text) == crs else str(crs.to_wkt())


def _crs_name(crs: CRS) -> str:
    text = crs_text(crs)
    return text if len(text) < 40 else "a CRS without a code"


def _no_overlap(fixed: Grid, moving: Grid) -> InputError:
    def ground(grid: Grid) -> str:
        """Put the bounds of a grid into words."""
        left, bottom, right, top = grid.bounds
        return f"x {left:.6g}..{right:.6g}, y {bottom:.6g}..{top:.6g} in {_crs_name(grid.crs)}"

    return InputError(
        f"The images do not overlap: the fixed one covers {ground(fixed)}, the moving one {ground(moving)}; "
        "check that both files and their georeferences belong together"
    )

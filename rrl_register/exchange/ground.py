"""Conversion between pixels and the coordinates in which other programs show them.

GIS programs show a grid without a geotransform with the top-left corner at (0, 0) and y upwards: the pixel (x, y) lies
at (x + 0.5, -y - 0.5) there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from affine import Affine
from numpy.typing import ArrayLike

# GDAL's errors of a transformation reach the caller of rasterio as they are.
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.warp import transform as reproject_xy

from rrl_register.errors import InputError
from rrl_register.geometry.arrays import Points
from rrl_register.raster.grid import Grid

MAP_DIGITS = 9
"""Digits of map coordinates; in degrees they resolve a tenth of a millimetre."""
LON_LAT = CRS.from_epsg(4326)
_PICTURE = Affine.scale(1, -1)


def to_map(grid: Grid, points: ArrayLike) -> Points:
    """Convert pixels ``(N, 2)`` to the grid's own map coordinates."""
    return _shown(grid).pixel_to_map(points)


def from_map(grid: Grid, points: ArrayLike, crs: CRS | None = None) -> Points:
    """Convert map coordinates ``(N, 2)`` to pixels.

    Args:
        grid: Grid of the pixels.
        points: Coordinates.
        crs: CRS of the coordinates; None, or if the grid has no CRS: the grid's own.
    """
    places = np.asarray(points, np.float64).reshape(-1, 2)
    if crs is not None and grid.georeferenced:
        places = _reprojected(places, crs, grid.crs)
    return _shown(grid).map_to_pixel(places)


def to_lon_lat(grid: Grid, points: ArrayLike) -> Points:
    """Convert pixels ``(N, 2)`` to longitude and latitude, degrees; without a CRS to the grid's map coordinates."""
    places = to_map(grid, points)
    return _reprojected(places, grid.crs, LON_LAT) if grid.georeferenced else places


def from_lon_lat(grid: Grid, points: ArrayLike) -> Points:
    """Convert the result of ``to_lon_lat`` back to pixels."""
    return from_map(grid, points, LON_LAT)


def to_gdal(points: Points) -> Points:
    """Convert pixels to GDAL's count in ground control points: (0, 0) is the corner of the top-left pixel."""
    return points + 0.5


def from_gdal(points: ArrayLike) -> Points:
    """Convert GDAL's count back to pixels."""
    return np.asarray(points, np.float64).reshape(-1, 2) - 0.5


def _shown(grid: Grid) -> Grid:
    return grid if grid.transform is not None else replace(grid, transform=_PICTURE)


def _reprojected(points: Points, source: CRS, target: CRS) -> Points:
    if source == target or not len(points):
        return points
    try:
        x, y = reproject_xy(source, target, points[:, 0], points[:, 1])[:2]
    except CPLE_BaseError as error:
        raise InputError(f"a place has no coordinates in the other CRS ({error}); check points and CRS") from error
    return np.column_stack([x, y]).astype(np.float64)

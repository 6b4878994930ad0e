"""Between pixels and the coordinates in which other programs show them.

A grid without a geotransform is shown by GIS programs with the top-left corner at (0, 0) and y upwards: a pixel (x, y)
lies at (x + 0.5, -y - 0.5) there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from affine import Affine
from numpy.typing import ArrayLike
from rasterio.crs import CRS
from rasterio.warp import transform as reproject_xy

from rrl_register.geometry.arrays import Points
from rrl_register.raster.grid import Grid

LON_LAT = CRS.from_epsg(4326)
_PICTURE = Affine.scale(1, -1)


def to_map(grid: Grid, points: ArrayLike) -> Points:
    """Pixels ``(N, 2)`` in the grid's own map coordinates."""
    return _shown(grid).pixel_to_map(points)


def from_map(grid: Grid, points: ArrayLike, crs: CRS | None = None) -> Points:
    """Map coordinates ``(N, 2)`` as pixels.

    Args:
        grid: Whose pixels.
        points: Coordinates.
        crs: Of the coordinates; None, or for a grid without one: the grid's own.
    """
    places = np.asarray(points, np.float64).reshape(-1, 2)
    if crs is not None and grid.georeferenced:
        places = _reprojected(places, crs, grid.crs)
    return _shown(grid).map_to_pixel(places)


def to_lon_lat(grid: Grid, points: ArrayLike) -> Points:
    """Pixels ``(N, 2)`` as longitude and latitude, degrees; for a grid without a CRS its own map coordinates."""
    places = to_map(grid, points)
    return _reprojected(places, grid.crs, LON_LAT) if grid.georeferenced else places


def from_lon_lat(grid: Grid, points: ArrayLike) -> Points:
    """The way back from ``to_lon_lat``."""
    return from_map(grid, points, LON_LAT)


def to_gdal(points: Points) -> Points:
    """Pixels as GDAL counts them in ground control points, where (0, 0) is the corner of the top-left pixel."""
    return points + 0.5


def from_gdal(points: ArrayLike) -> Points:
    """The way back from ``to_gdal``."""
    return np.asarray(points, np.float64).reshape(-1, 2) - 0.5


def _shown(grid: Grid) -> Grid:
    return grid if grid.transform is not None else replace(grid, transform=_PICTURE)


def _reprojected(points: Points, source: CRS, target: CRS) -> Points:
    if source == target or not len(points):
        return points
    x, y = reproject_xy(source, target, points[:, 0], points[:, 1])[:2]
    return np.column_stack([x, y]).astype(np.float64)

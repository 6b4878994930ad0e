"""Table of tie points and rejected candidates, with the reason of each rejection and places on the ground."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import ArrayLike, NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.warp import transform as reproject_xy

from rrl_register.config.files import MOST_POINTS
from rrl_register.errors import InputError
from rrl_register.exchange.registration import Registration, read_registration
from rrl_register.geometry.arrays import Points
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.tie_points import AGREEMENT_PX, TiePoints
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


PX_DIGITS = 3
"""Digits of pixels, those of RESULT.json: a result and its file have the same table."""

Flags = NDArray[np.bool_]


class Reason(StrEnum):
    """Reason for the rejection of a point."""

    REFUSED = "refused"
    """Its score is below ``--min-score``."""
    OUTLIER = "outlier"
    """It was matched, but its residual is above the threshold."""
    FAILED_FORWARD_BACKWARD = "failed forward-backward check"
    """It agrees with the transform, but the search back from the moving image ended elsewhere."""


@dataclass(frozen=True)
class Grids:
    """Pixel grids of both files."""

    fixed: Grid
    moving: Grid


@dataclass(frozen=True)
class PointTable:
    """``N`` pairs of points, px of the files, (0, 0) = centre of the top-left pixel.

    Attributes:
        fixed: ``(N, 2)`` (x, y) in the fixed image.
        moving: ``(N, 2)`` (x, y) in the moving image.
        enable: ``(N,)`` bool, True for points to fit; a person may change it.
        score: ``(N,)`` probability of a match by the network; NaN if unscored.
        inlier: ``(N,)`` bool, True for tie points that agree with the transform.
        residual_px: ``(N,)`` residuals, fixed px; NaN without a transform.
        away: ``(N, 2)`` residuals as vectors from the moving points, moving px; NaN without a transform.
        reason: ``(N,)`` reason of the rejection, one of ``Reason``; empty for fitted points.
    """

    fixed: Points
    moving: Points
    enable: Flags
    score: Points
    inlier: Flags
    residual_px: Points
    away: Points
    reason: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.enable)

    @property
    def enabled(self) -> TiePoints:
        """Enabled points; scores may be NaN."""
        return TiePoints(self.fixed, self.moving, self.score).at(self.enable)

    @classmethod
    def read(
        cls, fixed: ArrayLike, moving: ArrayLike, enable: Iterable[bool], score: ArrayLike | None = None
    ) -> PointTable:
        """Build a table from the points of a file; residuals are unknown, and enabled points count as inliers.

        Args:
            fixed: ``(N, 2)`` px.
            moving: ``(N, 2)`` px.
            enable: ``N`` flags.
            score: ``(N,)``; None: unscored.

        Raises:
            InputError: There are too many points, or one has no place.
        """
        places, pixels = (np.asarray(points, np.float64).reshape(-1, 2) for points in (fixed, moving))
        on, unknown = np.array(list(enable), bool), np.full(len(places), np.nan)
        if len(places) > MOST_POINTS:
            raise InputError(f"it holds more than {MOST_POINTS} points; choose the best of them")
        unplaced = np.flatnonzero(~np.isfinite(np.hstack([places, pixels])).all(axis=1))
        if len(unplaced):
            raise InputError(f"point {unplaced[0] + 1} lies at infinity, or outside the CRS of the fixed image")
        known = unknown if score is None else np.asarray(score, np.float64)
        return cls(places, pixels, on, known, on, unknown, np.full_like(places, np.nan), ("",) * len(places))

    @classmethod
    def of(cls, registration: Registration) -> PointTable:
        """Build a table from the tie points of a result and its rejected candidates."""
        tied, rejected = registration.tie_points, registration.rejected
        fixed, moving, score = (
            np.concatenate([getattr(tied, name), getattr(rejected, name)]).round(PX_DIGITS)
            for name in ("fixed", "moving", "score")
        )
        reason = _reasons(tied, registration.inlier) + [Reason.REFUSED] * len(rejected)
        residual, away = _errors(registration.transform, fixed, moving)
        return cls(
            fixed,
            moving,
            enable=np.array([not why for why in reason], bool),
            score=score,
            inlier=np.concatenate([registration.inlier, np.zeros(len(rejected), bool)]),
            residual_px=residual,
            away=away,
            reason=tuple(reason),
        )


def read_result(path: Path, grids: Grids) -> PointTable:
    """Read the tie points and the rejected candidates of a RESULT.json.

    Raises:
        InputError: It is no RESULT.json, or belongs to images of other sizes.
    """
    result = read_registration(path)
    images = (("fixed", result.fixed_grid, grids.fixed), ("moving", result.moving_grid, grids.moving))
    for name, seen, needed in images:
        if seen.shape != needed.shape:
            sizes = [f"{grid.width} x {grid.height} px" for grid in (seen, needed)]
            raise InputError(f"its {name} image has {sizes[0]}, this one {sizes[1]}; use points of this pair")
    return PointTable.of(result)


def _reasons(tied: TiePoints, inlier: Flags) -> list[str]:
    agreement = np.zeros(len(tied)) if tied.agreement_px is None else tied.agreement_px
    return [
        Reason.OUTLIER if not fits else "" if passed else Reason.FAILED_FORWARD_BACKWARD
        for fits, passed in zip(inlier.tolist(), (agreement <= AGREEMENT_PX).tolist(), strict=True)
    ]


def _errors(transform: Transform | None, fixed: Points, moving: Points) -> tuple[Points, Points]:
    if transform is None:
        return np.full(len(fixed), np.nan), np.full((len(fixed), 2), np.nan)
    return transform.residuals(moving, fixed).round(PX_DIGITS), (transform.backward(fixed) - moving).round(PX_DIGITS)

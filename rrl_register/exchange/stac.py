"""A STAC item that describes a warped image (extra ``stac``)."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from rrl_register.errors import UsageError
from rrl_register.exchange.registration import Registration
from rrl_register.exchange.table import to_lon_lat
from rrl_register.raster.grid import Grid

PREFIX = "rrl:"
"""Prefix of properties without an extension."""
_FIGURES = ("model", "confidence", "n_inliers", "rmse_px", "check_rmse_px", "uncertainty_px", "version")
_POINTS_PER_SIDE = 9
"""Points per side of the footprint, because straight sides on the map bend in longitude and latitude."""
_LON_LAT_DIGITS = 7
_TIMES: tuple[tuple[dict[str, str], str, str | None], ...] = (
    ({"ns": "IMAGERY"}, "ACQUISITIONDATETIME", None),
    ({}, "ACQUISITIONDATETIME", None),
    ({}, "TIFFTAG_DATETIME", "%Y:%m:%d %H:%M:%S"),
)
"""GDAL's tags for the time of an image: domain, name, and format if it is not ISO 8601; the most reliable first."""


def require_pystac() -> None:
    """Check that pystac is installed.

    Raises:
        UsageError: It is not installed.
    """
    if find_spec("pystac") is None:
        raise UsageError("--stac needs pystac, which is not installed; try: pip install 'rrl-register[stac]'")


def stac_item(
    path: Path,
    output: Path,
    registration: Registration,
    *,
    fixed: Path,
    moving: Path,
    result: Path | None = None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Describe a warped image as a STAC 1.1 item with version 2 of the projection extension.

    Its time is the acquisition time of the moving image if a tag has it, else ``now``. If the fixed image has no
    georeference, the item has no geometry, which STAC allows.

    Args:
        path: File of the item; links are relative to its folder.
        output: The warped image.
        registration: Transform and figures of the warped image.
        fixed: The fixed image.
        moving: The moving image.
        result: RESULT.json, listed beside the image; None: none.
        now: Time of creation; None: the present.
    """
    import pystac

    created = now or datetime.now(UTC)
    geometry, bbox = _place(registration.fixed_grid)
    item = pystac.Item(
        id=output.stem,
        geometry=geometry,
        bbox=bbox,
        datetime=acquired(moving) or created,
        properties={
            "created": pystac.utils.datetime_to_str(created),
            **{PREFIX + name: getattr(registration, name) for name in _FIGURES},
        },
    )
    _add_projection(item, registration.fixed_grid)
    item.add_asset("aligned", pystac.Asset(_href(output, path), media_type=pystac.MediaType.GEOTIFF, roles=["data"]))
    if result:
        asset = pystac.Asset(_href(result, path), media_type=pystac.MediaType.JSON, roles=["metadata"])
        item.add_asset("registration", asset)
    for title, source in (("fixed image", fixed), ("moving image", moving)):
        item.add_link(pystac.Link(pystac.RelType.DERIVED_FROM, _href(source, path), title=title))
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def acquired(path: Path) -> datetime | None:
    """Return the acquisition time of an image by its tags, UTC if they name no zone; None if no tag has it."""
    with rasterio.open(path) as source:
        for domain, name, layout in _TIMES:
            text = source.tags(**domain).get(name)
            try:
                found = text and (datetime.strptime(text, layout) if layout else datetime.fromisoformat(text))
            except ValueError:
                continue
            if found:
                return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def _add_projection(item: Any, grid: Grid) -> None:
    from pystac.extensions.projection import ProjectionExtension

    projection = ProjectionExtension.ext(item, add_if_missing=True)
    authority = grid.crs.to_authority() if grid.georeferenced and grid.crs else None
    projection.apply(code=":".join(authority) if authority else None, shape=list(grid.shape))
    if grid.georeferenced and grid.crs and grid.transform:
        projection.bbox = list(grid.bounds)
        projection.transform = list(grid.transform)[:6]
        if authority is None:
            projection.wkt2 = grid.crs.to_wkt(version="WKT2_2019")


def _place(grid: Grid) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Return the outline in longitude and latitude, anticlockwise if north is up, and its bounds; None without CRS."""
    if not grid.georeferenced:
        return None, None
    right, bottom = grid.width - 0.5, grid.height - 0.5
    corners = np.array([(-0.5, bottom), (right, bottom), (right, -0.5), (-0.5, -0.5), (-0.5, bottom)])
    sides = [np.linspace(a, b, _POINTS_PER_SIDE)[:-1] for a, b in pairwise(corners)]
    ring = to_lon_lat(grid, [*np.concatenate(sides), corners[-1]]).round(_LON_LAT_DIGITS)
    bounds = [*ring.min(axis=0).tolist(), *ring.max(axis=0).tolist()]
    return {"type": "Polygon", "coordinates": [ring.tolist()]}, bounds


def _href(target: Path, item: Path) -> str:
    """Return the path of a file relative to the item's folder; GDAL's own names stay unchanged."""
    if str(target).startswith("/vsi"):
        return str(target)
    try:
        relative = os.path.relpath(target.absolute(), item.absolute().parent)
    except ValueError:  # another drive
        return target.absolute().as_uri()
    return Path(relative).as_posix()

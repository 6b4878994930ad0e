"""GeoPackage, through pyogrio (extra ``vector``)."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS

from rrl_register.errors import InputError
from rrl_register.exchange.ground import from_map, to_map
from rrl_register.exchange.records import as_points, columns, table_of
from rrl_register.exchange.table import Grids, PointTable
from rrl_register.raster.grid import crs_text

LAYER = "tie_points"
_POINT = "<BIdd"
"""Well-known binary of a point: byte order (1: little-endian), type (1: point), x, y."""


def write(path: Path, table: PointTable, grids: Grids) -> None:
    """Write a layer of points on the fixed image's map, with all fields.

    Raises:
        OSError: It cannot be written.
    """
    from pyogrio import raw

    fields = columns(table, grids)
    values = [_array(name, column) for name, column in fields.items()]
    geometry = np.array([struct.pack(_POINT, 1, 1, *xy) for xy in to_map(grids.fixed, table.fixed)], object)
    crs = crs_text(grids.fixed.crs) if grids.fixed.georeferenced else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        raw.write(
            path,
            geometry,
            values,
            list(fields),
            layer=LAYER,
            driver="GPKG",
            geometry_type="Point",
            crs=crs,
            dataset_options={"VERSION": "1.2"},  # programs with an older GDAL warn of later ones
        )


def read(path: Path, grids: Grids) -> PointTable:
    """Read the layer ``tie_points``, else the first layer; the geometry is the place on the fixed image.

    Raises:
        InputError: It has no layer of points.
        OSError, ValueError: It cannot be read.
    """
    from pyogrio import errors, list_layers, raw

    try:
        layers = list_layers(path)[:, 0].tolist()
        meta, _, geometry, values = raw.read(path, layer=LAYER if LAYER in layers else 0, force_2d=True)
    except errors.DataSourceError as error:
        raise InputError(f"{error}; choose a file with a layer of points") from error
    names = meta["fields"].tolist()
    records = [dict(zip(names, row, strict=True)) for row in zip(*(column.tolist() for column in values), strict=True)]
    places = as_points([_point(shape) for shape in geometry])
    crs = CRS.from_user_input(meta["crs"]) if meta["crs"] else None
    return table_of(records, from_map(grids.fixed, places, crs))


def _array(name: str, column: list[Any]) -> np.ndarray:
    """Convert a column to an array of text, flags, or numbers with NaN for unknown ones."""
    if name in ("id", "reason"):
        return np.array(column, object)
    return np.array(column, bool if name in ("enable", "inlier") else np.float64)


def _point(shape: bytes | None) -> tuple[float, float]:
    if shape is None or len(shape) != struct.calcsize(_POINT):
        raise InputError("one geometry is no point; choose a layer of points")
    _, _, x, y = struct.unpack(_POINT if shape[0] == 1 else _POINT.replace("<", ">"), shape)
    return float(x), float(y)

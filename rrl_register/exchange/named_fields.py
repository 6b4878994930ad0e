"""Formats of tie points with named fields: CSV, GeoJSON and GeoPackage.

GeoJSON has a superset of the fields of ``rio gcps`` and of rasterio's ground control points. GeoPackage needs pyogrio
(extra ``vector``).
"""

from __future__ import annotations

import csv
import io
import json
import math
import sqlite3
import struct
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rrl_register.config.files import MOST_POINTS, parse_json, read_text, require_regular_file
from rrl_register.errors import InputError
from rrl_register.exchange.table import (
    MAP_DIGITS,
    Grids,
    PointTable,
    from_gdal,
    from_lon_lat,
    from_map,
    to_gdal,
    to_lon_lat,
    to_map,
)
from rrl_register.geometry.arrays import Points
from rrl_register.raster.crs import crs_from_text
from rrl_register.raster.grid import crs_text

_ON = {"1": True, "true": True, "yes": True, "": True, "0": False, "false": False, "no": False}
LAYER = "tie_points"
_MOST_FIELDS = 1000
_POINT = "<BIdd"
"""Well-known binary of a point: byte order (1: little-endian), type (1: point), x, y."""

Record = Mapping[str, Any]


def columns(table: PointTable, grids: Grids) -> dict[str, list[Any]]:
    """Return the fields of all points, each a list of ``N`` plain values; None for unknown ones.

    ``row``, ``col``, ``x`` and ``y`` are rasterio's ground control points: the place in the moving image, counted from
    the corner of its top-left pixel, and the place on the fixed image's map.
    """
    pixel, place = to_gdal(table.moving), to_map(grids.fixed, table.fixed).round(MAP_DIGITS)
    return {
        "id": [str(number) for number in range(1, len(table) + 1)],
        "row": pixel[:, 1].tolist(),
        "col": pixel[:, 0].tolist(),
        "x": place[:, 0].tolist(),
        "y": place[:, 1].tolist(),
        "fixed_x": table.fixed[:, 0].tolist(),
        "fixed_y": table.fixed[:, 1].tolist(),
        "moving_x": table.moving[:, 0].tolist(),
        "moving_y": table.moving[:, 1].tolist(),
        "enable": table.enable.tolist(),
        "score": _known(table.score),
        "residual_px": _known(table.residual_px),
        "inlier": table.inlier.tolist(),
        "reason": [str(reason) for reason in table.reason],
    }


def table_of(records: Sequence[Record], fixed: ArrayLike) -> PointTable:
    """Build a table from the records of a file.

    Args:
        records: Fields of ``N`` points.
        fixed: ``(N, 2)`` places in the fixed image, px.

    Raises:
        InputError: A field is missing or invalid; the message has the number of the point.
    """
    moving, enable, score = [], [], []
    for n, record in enumerate(records, 1):
        try:
            moving.append(moving_point(record))
            enable.append(is_enabled(record))
            score.append(number(record, "score") if _present(record, "score") else math.nan)
        except InputError as error:
            raise InputError(f"point {n}: {error}") from error
    return PointTable.read(fixed, moving, enable, score)


def moving_point(record: Record) -> tuple[float, float]:
    """Return the place in the moving image, px: ``moving_x`` and ``moving_y``, else rasterio's ``col`` and ``row``.

    Raises:
        InputError: Both pairs are missing, or one is no number.
    """
    if _present(record, "moving_x") and _present(record, "moving_y"):
        return number(record, "moving_x"), number(record, "moving_y")
    if _present(record, "col") and _present(record, "row"):
        x, y = from_gdal([(number(record, "col"), number(record, "row"))])[0].tolist()
        return x, y
    raise InputError("moving_x and moving_y, or col and row, are missing; every point needs one of these pairs")


def fixed_point(record: Record, grids: Grids) -> tuple[float, float]:
    """Return the place in the fixed image, px: ``fixed_x`` and ``fixed_y``, else ``x`` and ``y`` on its map.

    Raises:
        InputError: Both pairs are missing, or one is no number.
    """
    if _present(record, "fixed_x") and _present(record, "fixed_y"):
        return number(record, "fixed_x"), number(record, "fixed_y")
    if _present(record, "x") and _present(record, "y"):
        x, y = from_map(grids.fixed, [(number(record, "x"), number(record, "y"))])[0].tolist()
        return x, y
    raise InputError("fixed_x and fixed_y, or x and y, are missing; every point needs one of these pairs")


def is_enabled(record: Record) -> bool:
    """Return the field ``enable``; points without it are enabled.

    Raises:
        InputError: The field is neither yes nor no.
    """
    value = record.get("enable")
    text = "" if value is None else str(value).strip().lower()
    if text not in _ON:
        raise InputError(f"enable is {value!r}; use 1 or 0")
    return _ON[text]


def number(record: Record, name: str) -> float:
    """Return a field's value.

    Raises:
        InputError: It is no finite number.
    """
    try:
        value = float(record[name])
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name} is {record[name]!r}, which is no number")
    return value


def _present(record: Record, name: str) -> bool:
    value = record.get(name)
    return value not in (None, "") and not (isinstance(value, float) and math.isnan(value))


def _known(values: Points) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def write_csv(path: Path, table: PointTable, grids: Grids) -> None:
    """Write all fields, flags as 1 and 0, unknown values as empty cells."""
    fields = columns(table, grids)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(fields)
        for row in zip(*fields.values(), strict=True):
            writer.writerow([int(value) if isinstance(value, bool) else value for value in row])


def read_csv(path: Path, grids: Grids) -> PointTable:
    """Read a table with a header; the columns ``fixed_x,fixed_y,moving_x,moving_y`` are enough.

    Raises:
        InputError: A column or a value is missing.
        OSError, ValueError, csv.Error: It cannot be read.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
    if len(reader.fieldnames or ()) > _MOST_FIELDS:
        raise InputError(f"it has more than {_MOST_FIELDS} columns; remove those of no use")
    records = list(islice(reader, MOST_POINTS + 1))
    return table_of(records, [fixed_point(record, grids) for record in records])


def write_geojson(path: Path, table: PointTable, grids: Grids) -> None:
    """Write a collection of points at their places on the fixed image, in longitude and latitude.

    If the fixed image has no georeference, they lie where a GIS program shows the picture.
    """
    fields, crs = columns(table, grids), grids.fixed.crs
    names = [*fields, "info", "z", "crs"]
    rows = zip(*fields.values(), strict=True)
    of_all = (None, crs_text(crs) if crs else None)
    properties = [dict(zip(names, [*row, row[-1] or None, *of_all], strict=True)) for row in rows]
    places = to_lon_lat(grids.fixed, table.fixed).round(MAP_DIGITS).tolist()
    points = [{"type": "Point", "coordinates": place} for place in places]
    features = [
        {"type": "Feature", "id": each["id"], "geometry": point, "properties": each}
        for each, point in zip(properties, points, strict=True)
    ]
    lines = ",\n".join(json.dumps(feature, allow_nan=False) for feature in features)
    path.write_text(f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n', encoding="utf-8")


def read_geojson(path: Path, grids: Grids) -> PointTable:
    """Read a collection, or one feature per line as ``rio gcps`` prints it.

    The geometry is the place on the fixed image; ``moving_x`` and ``moving_y``, or ``col`` and ``row``, are the place
    in the moving image.

    Raises:
        InputError: It is no such GeoJSON.
        OSError, ValueError: It cannot be read, or is no JSON.
    """
    records = [_record(feature) for feature in _features(read_text(path))[: MOST_POINTS + 1]]
    places = [(number(record, "lon"), number(record, "lat")) for record in records]
    return table_of(records, from_lon_lat(grids.fixed, places))


def _features(text: str) -> list[Any]:
    if text.lstrip().startswith("{") and '"FeatureCollection"' in text:
        collection = parse_json(text)
        features = collection.get("features") if isinstance(collection, dict) else None
        if not isinstance(features, list):
            raise InputError("no features; choose a FeatureCollection of points")
        return features
    return [parse_json(line) for line in text.replace("\x1e", "\n").splitlines() if line.strip()]


def _record(feature: Any) -> Record:
    """Return the properties of a feature, with the coordinates of its point as ``lon`` and ``lat``."""
    try:
        geometry = feature["geometry"]
        if geometry["type"] != "Point":
            raise InputError(f"one feature is a {geometry['type']}; choose a file of points")
        lon, lat = geometry["coordinates"][:2]
        return {**feature["properties"], "lon": lon, "lat": lat}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"one feature is incomplete ({error!r}); choose points with properties") from error


def write_geopackage(path: Path, table: PointTable, grids: Grids) -> None:
    """Write a layer of points on the fixed image's map, with all fields.

    Raises:
        OSError: It cannot be written.
    """
    from pyogrio import raw

    fields = columns(table, grids)
    values = [_array(name, column) for name, column in fields.items()]
    geometry = np.array([struct.pack(_POINT, 1, 1, *xy) for xy in to_map(grids.fixed, table.fixed)], object)
    crs = crs_text(grids.fixed.crs) if grids.fixed.georeferenced else None
    # Version 1.2, because programs with an older GDAL warn of later ones.
    kind: dict[str, Any] = {"driver": "GPKG", "geometry_type": "Point", "dataset_options": {"VERSION": "1.2"}}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        raw.write(path, geometry, values, list(fields), layer=LAYER, crs=crs, **kind)


def read_geopackage(path: Path, grids: Grids) -> PointTable:
    """Read the layer ``tie_points``, else the first layer; the geometry is the place on the fixed image.

    Raises:
        InputError: It has no layer of points.
        OSError, ValueError: It cannot be read.
    """
    from pyogrio import list_layers, raw

    require_regular_file(path)
    try:
        _refuse_view(path, LAYER)
        layers = list_layers(path)[:, 0].tolist()
        layer = LAYER if LAYER in layers else str(next(iter(layers), LAYER))
        _refuse_view(path, layer)
        meta, _, geometry, values = raw.read(path, layer=layer, force_2d=True, max_features=MOST_POINTS + 1)
    except (RuntimeError, sqlite3.Error) as error:  # pyogrio's errors are RuntimeErrors
        raise InputError(f"{error}; choose a file with a layer of points") from error
    names = meta["fields"].tolist()
    records = [dict(zip(names, row, strict=True)) for row in zip(*(column.tolist() for column in values), strict=True)]
    crs = crs_from_text(meta["crs"]) if meta["crs"] else None
    return table_of(records, from_map(grids.fixed, [_point(shape) for shape in geometry], crs))


def _refuse_view(path: Path, layer: str) -> None:
    """Refuse a layer, or metadata, that is a query, because a query may never end."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        views = [str(name) for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'view'")]
    refused = [name for name in views if name.lower() == layer.lower() or name.lower().startswith("gpkg_")]
    if refused:
        raise InputError(f"{refused[0]} is a view; choose a file whose layers are tables")


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

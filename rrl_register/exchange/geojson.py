"""GeoJSON: a superset of the features of ``rio gcps`` and of rasterio's ground control points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rrl_register.errors import InputError
from rrl_register.exchange.ground import from_lon_lat, to_lon_lat
from rrl_register.exchange.records import MAP_DIGITS, Record, as_points, columns, number, table_of
from rrl_register.exchange.table import Grids, PointTable
from rrl_register.raster.grid import crs_text


def write(path: Path, table: PointTable, grids: Grids) -> None:
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


def read(path: Path, grids: Grids) -> PointTable:
    """Read a collection, or one feature per line as ``rio gcps`` prints it.

    The geometry is the place on the fixed image; ``moving_x`` and ``moving_y``, or ``col`` and ``row``, are the place
    in the moving image.

    Raises:
        InputError: It is no such GeoJSON.
        OSError, ValueError: It cannot be read, or is no JSON.
    """
    records = [_record(feature) for feature in _features(path.read_text(encoding="utf-8"))]
    places = as_points([(number(record, "lon"), number(record, "lat")) for record in records])
    return table_of(records, from_lon_lat(grids.fixed, places))


def _features(text: str) -> list[Any]:
    if text.lstrip().startswith("{") and '"FeatureCollection"' in text:
        collection = json.loads(text)
        features = collection.get("features") if isinstance(collection, dict) else None
        if not isinstance(features, list):
            raise InputError("no features; choose a FeatureCollection of points")
        return features
    return [json.loads(line) for line in text.replace("\x1e", "\n").splitlines() if line.strip()]


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

"""Fields of a point in the formats with named fields: GeoJSON, CSV and GeoPackage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rrl_register.errors import InputError
from rrl_register.exchange.ground import from_gdal, from_map, to_gdal, to_map
from rrl_register.exchange.table import Grids, PointTable
from rrl_register.geometry.arrays import Points

MAP_DIGITS = 9
"""Digits of map coordinates; in degrees they resolve a tenth of a millimetre."""
_ON = {"1": True, "true": True, "yes": True, "": True, "0": False, "false": False, "no": False}

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


def table_of(records: Sequence[Record], fixed: Points) -> PointTable:
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
    return PointTable.read(fixed, as_points(moving), enable, np.array(score, np.float64))


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
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name} is {record[name]!r}, which is no number")
    return value


def as_points(pairs: list[tuple[float, float]]) -> Points:
    """Convert pairs of numbers to ``(N, 2)`` float64."""
    return np.array(pairs, np.float64).reshape(-1, 2)


def _present(record: Record, name: str) -> bool:
    value = record.get(name)
    return value not in (None, "") and not (isinstance(value, float) and math.isnan(value))


def _known(values: Points) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]

"""GDAL's ground control points as options of its programs: ``gdal_translate --optfile points.gcp``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from rrl_register.errors import InputError
from rrl_register.exchange.ground import from_gdal, from_map, to_gdal, to_map
from rrl_register.exchange.records import MAP_DIGITS, as_points
from rrl_register.exchange.table import Grids, PointTable

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_GCP = re.compile(r"-gcp" + rf"\s+{_NUMBER}" * 4)


def write(path: Path, table: PointTable, grids: Grids) -> None:
    """Writes ``-gcp pixel line easting northing``, a line for each enabled point: GDAL cannot switch any off."""
    points = table.enabled
    numbers = np.column_stack([to_gdal(points.moving), to_map(grids.fixed, points.fixed)]).round(MAP_DIGITS)
    lines = [" ".join(["-gcp", *map(repr, row)]) + "\n" for row in numbers.tolist()]
    path.write_text("".join(lines), encoding="utf-8")


def read(path: Path, grids: Grids) -> PointTable:
    """Reads what ``write`` wrote, or any text with such options, such as a script.

    Raises:
        InputError: It holds none.
        OSError, ValueError: It cannot be read.
    """
    rows = [tuple(map(float, found)) for found in _GCP.findall(path.read_text(encoding="utf-8"))]
    if not rows:
        raise InputError("no -gcp pixel line easting northing; needed GDAL's ground control points")
    moving = from_gdal(as_points([(row[0], row[1]) for row in rows]))
    fixed = from_map(grids.fixed, as_points([(row[2], row[3]) for row in rows]))
    return PointTable.read(fixed, moving, [True] * len(rows))

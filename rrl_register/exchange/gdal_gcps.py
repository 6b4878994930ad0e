"""GDAL's ground control points as options of its programs: ``gdal_translate --optfile points.gcp``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from rrl_register.errors import InputError
from rrl_register.exchange.ground import from_gdal, from_map, to_gdal, to_map
from rrl_register.exchange.records import MAP_DIGITS
from rrl_register.exchange.table import Grids, PointTable

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_GCP = re.compile(r"-gcp" + rf"\s+{_NUMBER}" * 4)


def write(path: Path, table: PointTable, grids: Grids) -> None:
    """Write a line ``-gcp pixel line easting northing`` for each enabled point; GDAL cannot disable points."""
    points = table.enabled
    numbers = np.column_stack([to_gdal(points.moving), to_map(grids.fixed, points.fixed)]).round(MAP_DIGITS)
    lines = [" ".join(["-gcp", *map(repr, row)]) + "\n" for row in numbers.tolist()]
    path.write_text("".join(lines), encoding="utf-8")


def read(path: Path, grids: Grids) -> PointTable:
    """Read such options from any text, for example a script.

    Raises:
        InputError: It has none.
        OSError, ValueError: It cannot be read.
    """
    rows = np.array(_GCP.findall(path.read_text(encoding="utf-8")), np.float64)
    if not len(rows):
        raise InputError("no line '-gcp pixel line easting northing'; choose a file of GDAL's ground control points")
    fixed, moving = from_map(grids.fixed, rows[:, 2:]), from_gdal(rows[:, :2])
    return PointTable.read(fixed, moving, [True] * len(rows))

"""Control points of GDAL and of the QGIS Georeferencer.

GDAL's are options of its programs: ``gdal_translate --optfile points.gcp``. For QGIS the fixed image is its map, the
moving image its raster. QGIS writes the place in the raster in the raster's own map coordinates if it has some, else as
column and minus row.
"""

from __future__ import annotations

import math
import re
from itertools import islice
from pathlib import Path

import numpy as np
from rasterio.crs import CRS

from rrl_register.config.files import MOST_POINTS, read_text
from rrl_register.errors import InputError
from rrl_register.exchange.table import MAP_DIGITS, Grids, PointTable, from_gdal, from_map, to_gdal, to_map
from rrl_register.raster.crs import crs_from_text
from rrl_register.raster.grid import crs_text

_NUMBER = r"([-+]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,3})?)(?![\w.])"
_GCP = re.compile(r"-gcp" + rf"\s{{1,80}}{_NUMBER}" * 4)
HEADER = "mapX,mapY,sourceX,sourceY,enable,dX,dY,residual"
_CRS = "#CRS:"


def write_gdal(path: Path, table: PointTable, grids: Grids) -> None:
    """Write a line ``-gcp pixel line easting northing`` for each enabled point; GDAL cannot disable points."""
    points = table.enabled
    numbers = np.column_stack([to_gdal(points.moving), to_map(grids.fixed, points.fixed)]).round(MAP_DIGITS)
    lines = [" ".join(["-gcp", *map(repr, row)]) + "\n" for row in numbers.tolist()]
    path.write_text("".join(lines), encoding="utf-8")


def read_gdal(path: Path, grids: Grids) -> PointTable:
    """Read such options from any text, for example a script.

    Raises:
        InputError: It has none.
        OSError, ValueError: It cannot be read.
    """
    found = islice(_GCP.finditer(read_text(path)), MOST_POINTS + 1)
    rows = np.array([match.groups() for match in found], np.float64)
    if not np.isfinite(rows).all():
        raise InputError("a number is too large; choose a file of GDAL's ground control points")
    if not len(rows):
        raise InputError("no line '-gcp pixel line easting northing'; choose a file of GDAL's ground control points")
    fixed, moving = from_map(grids.fixed, rows[:, 2:]), from_gdal(rows[:, :2])
    return PointTable.read(fixed, moving, [True] * len(rows))


def write_qgis(path: Path, table: PointTable, grids: Grids) -> None:
    """Write all points, disabled if they were not fitted, with residuals in moving px as QGIS has them."""
    crs = grids.fixed.crs if grids.fixed.georeferenced else None
    # By the short code of RESULT.json, because the WKT of one CRS varies between files.
    first = f"{_CRS} {CRS.from_user_input(crs_text(crs)).to_wkt(version='WKT2_2019') if crs else ''}"
    numbers = np.column_stack([to_map(grids.fixed, table.fixed), to_map(grids.moving, table.moving)]).round(MAP_DIGITS)
    away = np.nan_to_num(table.away)
    errors = np.column_stack([away, np.hypot(*away.T).round(MAP_DIGITS)])
    lines = [
        ",".join(map(repr, [*places, int(on), *error]))
        for places, on, error in zip(numbers.tolist(), table.enable.tolist(), errors.tolist(), strict=True)
    ]
    path.write_text("\n".join([first, HEADER, *lines, ""]), encoding="utf-8")


def read_qgis(path: Path, grids: Grids) -> PointTable:
    """Read a points file of any QGIS: with or without a CRS, with commas or tabs.

    Raises:
        InputError: It is no points file.
        OSError, ValueError: It cannot be read.
    """
    lines = read_text(path).splitlines()[: MOST_POINTS + 3]
    crs = _crs(lines[0]) if lines and lines[0].startswith(_CRS) else None
    start = 1 if lines and lines[0].startswith("#") else 0
    if len(lines) <= start or not lines[start].lower().startswith("mapx"):
        raise InputError(f"no line {HEADER}; choose a points file of the QGIS Georeferencer")
    rows = [_numbers(line, number) for number, line in enumerate(lines, 1) if number > start + 1 and line.strip()]
    fixed = from_map(grids.fixed, [row[:2] for row in rows], crs)
    moving = from_map(grids.moving, [row[2:4] for row in rows])
    return PointTable.read(fixed, moving, (len(row) < 5 or row[4] != 0 for row in rows))


def _crs(line: str) -> CRS | None:
    text = line.removeprefix(_CRS).strip()
    if not text:
        return None
    try:
        return crs_from_text(text)
    except InputError as error:
        raise InputError(f"line 1: {error}") from error


def _numbers(line: str, number: int) -> list[float]:
    cells = line.split("," if "," in line else "\t")
    try:
        values = [float(cell) for cell in cells[:5]]
    except ValueError:
        values = []
    if len(values) < 4 or not all(map(math.isfinite, values)):
        raise InputError(f"line {number}: {line[:60]!r} has no numbers for {HEADER}")
    return values

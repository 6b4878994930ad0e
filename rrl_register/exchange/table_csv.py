"""CSV: a header, and one row per point."""

from __future__ import annotations

import csv
from pathlib import Path

from rrl_register.exchange.records import as_points, columns, fixed_point, table_of
from rrl_register.exchange.table import Grids, PointTable


def write(path: Path, table: PointTable, grids: Grids) -> None:
    """Write all fields, flags as 1 and 0, unknown values as empty cells."""
    fields = columns(table, grids)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(fields)
        for row in zip(*fields.values(), strict=True):
            writer.writerow([int(value) if isinstance(value, bool) else value for value in row])


def read(path: Path, grids: Grids) -> PointTable:
    """Read a table with a header; the columns ``fixed_x,fixed_y,moving_x,moving_y`` are enough.

    Raises:
        InputError: A column or a value is missing.
        OSError, ValueError, csv.Error: It cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = list(csv.DictReader(file, skipinitialspace=True))
    return table_of(records, as_points([fixed_point(record, grids) for record in records]))

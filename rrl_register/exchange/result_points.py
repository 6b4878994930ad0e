"""RESULT.json as a source of tie points."""

from __future__ import annotations

from pathlib import Path

from rrl_register.errors import InputError
from rrl_register.exchange.registration import read_registration
from rrl_register.exchange.table import Grids, PointTable
from rrl_register.raster.grid import Grid


def read(path: Path, grids: Grids) -> PointTable:
    """Read the tie points and the rejected candidates of a RESULT.json.

    Raises:
        InputError: It is no RESULT.json, or belongs to images of other sizes.
    """
    result = read_registration(path)
    images = (("fixed", result.fixed_grid, grids.fixed), ("moving", result.moving_grid, grids.moving))
    for name, seen, needed in images:
        if seen.shape != needed.shape:
            raise InputError(f"its {name} image has {_size(seen)}, this one {_size(needed)}; use points of this pair")
    return PointTable.of(result)


def _size(grid: Grid) -> str:
    return f"{grid.width} x {grid.height} px"

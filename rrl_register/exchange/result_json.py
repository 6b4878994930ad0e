"""The JSON file of a registration, as a source of tie points."""

from __future__ import annotations

from pathlib import Path

from rrl_register.errors import InputError
from rrl_register.exchange.registration import read_registration
from rrl_register.exchange.table import Grids, PointTable
from rrl_register.raster.grid import Grid


def read(path: Path, grids: Grids) -> PointTable:
    """Reads the tie points and the rejected candidates of a result.

    Raises:
        InputError: It is no result, or one of images of other sizes.
    """
    result = read_registration(path)
    for name, seen, needed in (
        ("fixed", result.fixed_grid, grids.fixed),
        ("moving", result.moving_grid, grids.moving),
    ):
        if seen.shape != needed.shape:
            raise InputError(f"it is of a {name} image of {_size(seen)}, this one has {_size(needed)}; needed the same")
    return PointTable.of(result)


def _size(grid: Grid) -> str:
    return f"{grid.width} x {grid.height} px"

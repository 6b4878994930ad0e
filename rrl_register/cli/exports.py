"""Outputs for other programs, that verbs share: tie points and a STAC item."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rrl_register.errors import UsageError
from rrl_register.exchange.formats import point_format, write_points
from rrl_register.options import FILE

if TYPE_CHECKING:
    from rrl_register.registration import Registration

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def export_options(function: Decorated) -> Decorated:
    """Add ``--tie-points`` and ``--stac``."""
    tie_points = click.option(
        "--tie-points",
        type=FILE,
        multiple=True,
        help="Write the tie points, rejected ones included, to this file: .geojson, .csv, .points (QGIS), .gpkg or "
        ".gcp (GDAL); may be repeated.",
    )
    stac = click.option(
        "--stac", type=FILE, metavar="ITEM", help="Describe the output by a STAC item in this JSON file."
    )
    return tie_points(stac(function))


def check_exports(tie_points: tuple[Path, ...], stac: Path | None, output: Path | None) -> None:
    """Refuse exports that could not be written.

    Raises:
        UsageError: A format is not known or not installed, or there is no output that the item could describe.
    """
    for path in tie_points:
        point_format(path)
    if stac:
        from rrl_register.exchange.stac import require_pystac

        require_pystac()
        if output is None:
            raise UsageError("--stac without -o; needed an output that the item describes; try -o aligned.tif")


def write_tie_points(paths: tuple[Path, ...], registration: Registration, overwrite: bool) -> None:
    """Write the tie points to each of the files, and print their paths."""
    if not paths:
        return
    from rrl_register.exchange.table import Grids, PointTable

    table, grids = PointTable.of(registration), Grids(registration.fixed_grid, registration.moving_grid)
    for path in paths:
        write_points(path, table, grids, overwrite)
        click.echo(path)


def write_item(
    stac: Path | None,
    output: Path | None,
    registration: Registration,
    fixed: Path,
    moving: Path,
    result: Path | None,
    overwrite: bool,
) -> None:
    """Write the STAC item of an output, if one was asked for, and print its path."""
    if stac is None or output is None:
        return
    from rrl_register.exchange.stac import stac_item
    from rrl_register.raster.writer import write_json

    item = stac_item(stac, output, registration, fixed=fixed, moving=moving, result=result)
    write_json(stac, item, overwrite)
    click.echo(stac)

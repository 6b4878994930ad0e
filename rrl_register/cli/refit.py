"""``rrl-register refit``: fit a transform to points that were edited or set by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rrl_register.cli.command import (
    config_options,
    overwrite_option,
    require_file,
    require_two_images,
    verbosity,
    verbosity_options,
)
from rrl_register.cli.outputs import Outputs, export_options, raster_options
from rrl_register.cli.register import summary
from rrl_register.config.option_types import FILE
from rrl_register.config.options import build_config
from rrl_register.exchange.formats import point_format, read_points


@click.command(no_args_is_help=True, short_help="Fit a transform to points that were edited or set by hand.")
@click.argument("points", type=FILE)
@click.argument("fixed", type=FILE)
@click.argument("moving", type=FILE)
@raster_options
@export_options
@overwrite_option
@config_options("estimate", "warp", "resources")
@verbosity_options
def refit(
    points: Path,
    fixed: Path,
    moving: Path,
    output: Path | None,
    result: Path | None,
    tie_points: tuple[Path, ...],
    stac: Path | None,
    overwrite: bool,
    **values: Any,
) -> None:
    """Fit a transform to the tie points of the file POINTS, without matching the images FIXED and MOVING.

    POINTS: .points (QGIS), .geojson, .csv, .gpkg, .gcp (GDAL), or RESULT.json. Disabled points ('enable' is 0) are left
    out. Pass at least one of -o and --json. The result has no confidence, because no search tested it.
    """
    outputs = Outputs(overwrite, output, result, tie_points=tie_points, stac=stac)
    require_file(points)
    point_format(points, to_write=False)
    require_two_images(fixed, moving)
    outputs.check([points, fixed, moving])
    config = build_config(values)
    from rrl_register.exchange.table import Grids
    from rrl_register.pipeline.refit import refit as fit_again
    from rrl_register.raster.reader import open_info

    grids = Grids(open_info(fixed).grid, open_info(moving).grid)
    registration = fit_again(read_points(points, grids), fixed, moving, config)
    outputs.write(registration, fixed, moving, config)
    if verbosity() >= 0:
        click.echo(summary(registration), err=True)

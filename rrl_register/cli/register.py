"""``rrl-register register`` and ``refit``: estimate a transform from images or from points, and write the outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rrl_register.cli.command import (
    RegistrationCommand,
    collect,
    config_options,
    overwrite_option,
    require_files,
    require_two_images,
    verbosity,
    verbosity_options,
)
from rrl_register.cli.outputs import Outputs, export_options, raster_options
from rrl_register.cli.progress import stages
from rrl_register.config.option_types import FILE
from rrl_register.config.options import build_config
from rrl_register.errors import InputError
from rrl_register.exchange.formats import point_format, read_points

if TYPE_CHECKING:
    from rrl_register.exchange.registration import Registration


@click.command(cls=RegistrationCommand, no_args_is_help=True, short_help="Bring MOVING onto FIXED's pixel grid.")
@click.argument("fixed", type=FILE)
@click.argument("moving", type=FILE)
@raster_options
@click.option("--preview", type=FILE, help="Draw a checkerboard of both images and their tie points to this PNG.")
@export_options
@click.option("--report", type=FILE, help="Show images, tie points and evidence on this HTML page, also of a failure.")
@overwrite_option
@config_options("read", "match", "estimate", "warp", "resources")
@verbosity_options
def register(fixed: Path, moving: Path, **values: Any) -> None:
    """Co-register two images: bring MOVING (the target) onto the pixel grid of FIXED (the reference).

    Pass at least one of -o and --json. All bands of MOVING are warped. The paths of the written files are printed, one
    per line. If the evidence is too weak, the command exits with code 4.
    """
    config = build_config(values)
    outputs = collect(Outputs, values)
    require_two_images(fixed, moving)
    like = config.warp.grid if isinstance(config.warp.grid, Path) else None
    further = [path for path in (config.match.weights, config.match.init_points, like) if path]
    require_files(*further)
    outputs.check([fixed, moving, *further])
    if like or config.warp.gcps_only:
        from rrl_register.warping.apply import require_writable_grid

        require_writable_grid(fixed, config.warp)
    try:
        with stages("load") as report_stage:
            from rrl_register.pipeline.register import register as run_pipeline

            similarity = bool(outputs.result or outputs.report)
            registration = run_pipeline(fixed, moving, config, watch=report_stage, similarity=similarity)
    except InputError as error:
        outputs.write_failure(str(error), fixed, moving, config)
        raise
    outputs.write(registration, fixed, moving, config)
    if verbosity() >= 0:
        click.echo(summary(registration), err=True)


@click.command(no_args_is_help=True, short_help="Fit a transform to points that were edited or set by hand.")
@click.argument("points", type=FILE)
@click.argument("fixed", type=FILE)
@click.argument("moving", type=FILE)
@raster_options
@export_options
@overwrite_option
@config_options("estimate", "warp", "resources")
@verbosity_options
def refit(points: Path, fixed: Path, moving: Path, **values: Any) -> None:
    """Fit a transform to the tie points of the file POINTS, without matching the images FIXED and MOVING.

    POINTS: .points (QGIS), .geojson, .csv, .gpkg, .gcp (GDAL), or RESULT.json. Disabled points ('enable' is 0) are left
    out. Pass at least one of -o and --json. The result has no confidence, because no search tested it.
    """
    outputs = collect(Outputs, values)
    require_files(points)
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


def summary(registration: Registration) -> str:
    """Summarise a registration in one line."""
    confidence = registration.confidence
    lengths = (("RMSE", registration.rmse_px), ("cross-validation RMSE", registration.check_rmse_px))
    errors = "".join(f", {name} {length:.2f} px" for name, length in lengths if length is not None)
    return (
        f"Registered with {registration.model}: {registration.n_inliers} inliers of {registration.n_tie_points} tie "
        f"points{errors}, confidence {'unknown' if confidence is None else f'{confidence:.2f}'}, "
        f"{sum(registration.seconds.values()):.1f} s."
    )

"""``rrl-register apply``, ``report`` and ``tie-points``: use a result that ``register --json`` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rrl_register.cli.command import config_options, overwrite_option, require_files, require_outputs, verbosity_options
from rrl_register.cli.outputs import POINT_SUFFIXES, write_tie_points
from rrl_register.cli.progress import stages
from rrl_register.config.option_types import FILE
from rrl_register.config.options import build_config
from rrl_register.exchange.formats import point_format


@click.command(no_args_is_help=True, short_help="Warp another file with a known transform.")
@click.argument("result", type=FILE, metavar="RESULT.json")
@click.argument("image", type=FILE)
@click.option(
    "-o", "--output", type=FILE, required=True, help="Write IMAGE, aligned with the fixed image, here (GeoTIFF)."
)
@click.option("--no-alpha", is_flag=True, help="Take a band that is tagged as alpha for a measurement.")
@overwrite_option
@config_options("warp", "resources")
@verbosity_options
def apply(result: Path, image: Path, output: Path, no_alpha: bool, overwrite: bool, **values: Any) -> None:
    """Warp IMAGE with the transform of RESULT.json, which 'register --json' wrote.

    IMAGE shows the ground of the moving image: another band of it, or the same ground at another resolution.
    """
    config = build_config(values)
    like = [config.warp.grid] if isinstance(config.warp.grid, Path) else []
    inputs = [result, image, *like]
    require_files(*inputs)
    require_outputs([output], inputs, overwrite)
    from rrl_register.exchange.registration import apply_transform, read_registration
    from rrl_register.raster.memory import bounded_block_cache
    from rrl_register.raster.reader import as_measurements

    registration = read_registration(result)
    with stages("warp"), as_measurements(image, wanted=no_alpha), bounded_block_cache(config.resources.max_memory):
        apply_transform(registration, image, output, config.warp, overwrite=overwrite)
    click.echo(output)


@click.command(no_args_is_help=True)
@click.argument("result", type=FILE, metavar="RESULT.json")
@click.argument("fixed", type=FILE)
@click.argument("moving", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="Write the report to this HTML file.")
@overwrite_option
@config_options("read")
@verbosity_options
def report(result: Path, fixed: Path, moving: Path, output: Path, overwrite: bool, **values: Any) -> None:
    """Show a result and its images on a page.

    'register --json' wrote RESULT.json for the images FIXED and MOVING. The page is one HTML file that works offline:
    both images to swipe, flicker and zoom, the tie points with their residuals, and the evidence. Failed registrations
    have a page too.
    """
    inputs = [result, fixed, moving]
    require_files(*inputs)
    require_outputs([output], inputs, overwrite)
    from rrl_register.report import read_case, write_report

    write_report(read_case(result, fixed, moving, build_config(values), settings_known=False), output, overwrite)
    click.echo(output)


@click.command("tie-points", no_args_is_help=True, short_help="Write the tie points of a result for other programs.")
@click.argument("result", type=FILE, metavar="RESULT.json")
@click.option(
    "-o",
    "--output",
    "outputs",
    type=FILE,
    required=True,
    multiple=True,
    help=f"Write them to this file: {POINT_SUFFIXES}; may be repeated.",
)
@overwrite_option
def tie_points(result: Path, outputs: tuple[Path, ...], overwrite: bool) -> None:
    """Write the tie points of RESULT.json, including rejected ones, in the formats of other programs.

    'register --tie-points' writes the same.
    """
    require_files(result)
    for output in outputs:
        point_format(output)
    require_outputs(list(outputs), [result], overwrite)
    from rrl_register.exchange.registration import read_registration

    write_tie_points(outputs, read_registration(result), overwrite)

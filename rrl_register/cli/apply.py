"""``rrl-register apply``: warp another file with a known transform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rrl_register.cli.command import config_options, overwrite_option, require_file, require_outputs, verbosity_options
from rrl_register.cli.progress import stages
from rrl_register.config.option_types import FILE
from rrl_register.config.options import build_config


@click.command(no_args_is_help=True, short_help="Warp another file with a known transform.")
@click.argument("result", type=FILE, metavar="RESULT.json")
@click.argument("image", type=FILE)
@click.option(
    "-o", "--output", type=FILE, required=True, help="Write IMAGE, aligned with the fixed image, here (GeoTIFF)."
)
@overwrite_option
@config_options("warp", "resources")
@verbosity_options
def apply(result: Path, image: Path, output: Path, overwrite: bool, **values: Any) -> None:
    """Warp IMAGE with the transform of RESULT.json, which 'register --json' wrote.

    IMAGE shows the ground of the moving image: another band of it, or the same ground at another resolution.
    """
    config = build_config(values)
    like = [config.warp.grid] if isinstance(config.warp.grid, Path) else []
    inputs = [result, image, *like]
    for path in inputs:
        require_file(path)
    require_outputs([output], inputs, overwrite)
    from rrl_register.exchange.registration import apply_transform, read_registration
    from rrl_register.raster.memory import bounded_block_cache

    registration = read_registration(result)
    with stages("warp"), bounded_block_cache(config.resources.max_memory):
        apply_transform(registration, image, output, config.warp, overwrite=overwrite)
    click.echo(output)

"""``rrl-register apply``: use a transform that was found before on another file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rrl_register.cli.checks import require_file, require_outputs
from rrl_register.cli.options import config_options, overwrite_option, set_up_logging, verbosity_options
from rrl_register.cli.progress import stages
from rrl_register.config.option_types import FILE
from rrl_register.config.options import build_config


@click.command(no_args_is_help=True, short_help="Warp another file with a transform found before.")
@click.argument("transform", type=FILE)
@click.argument("image", type=FILE)
@click.option(
    "-o", "--output", type=FILE, required=True, help="Write IMAGE, brought onto the fixed image, to this GeoTIFF."
)
@overwrite_option
@config_options("warp", "resources")
@verbosity_options
def apply(
    transform: Path, image: Path, output: Path, overwrite: bool, verbose: int, quiet: bool, **values: Any
) -> None:
    """Warp IMAGE with the transform that 'register --json' wrote to the file TRANSFORM.

    IMAGE shows what the moving image showed: another band of it, or the same ground at another resolution.
    """
    set_up_logging(verbose, quiet)
    require_file(transform)
    require_file(image)
    config = build_config(values)
    warp = config.warp
    like = [warp.grid] if isinstance(warp.grid, Path) else []
    for path in like:
        require_file(path)
    require_outputs([output], [transform, image, *like], overwrite)
    from rrl_register.exchange.registration import apply_transform, read_registration
    from rrl_register.raster.memory import bounded_block_cache

    registration = read_registration(transform)
    with stages("warp"), bounded_block_cache(config.resources.max_memory):
        apply_transform(registration, image, output, warp, overwrite=overwrite)
    click.echo(output)

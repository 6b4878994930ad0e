"""``rrl-register report``: make the page of a registration from its RESULT.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rrl_register.cli.command import config_options, overwrite_option, require_file, require_outputs, verbosity_options
from rrl_register.config.option_types import FILE
from rrl_register.config.options import build_config


@click.command(no_args_is_help=True)
@click.argument("result", type=FILE, metavar="RESULT.json")
@click.argument("fixed", type=FILE)
@click.argument("moving", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="Write the report to this HTML file.")
@overwrite_option
@config_options("read")
@verbosity_options
def report(
    result: Path,
    fixed: Path,
    moving: Path,
    output: Path,
    overwrite: bool,
    **values: Any,
) -> None:
    """Show a result and its images on a page.

    'register --json' wrote RESULT.json for the images FIXED and MOVING. The page is one HTML file that works offline:
    both images to swipe, flicker and zoom, the tie points with their residuals, and the evidence. Failed registrations
    have a page too.
    """
    inputs = [result, fixed, moving]
    for path in inputs:
        require_file(path)
    require_outputs([output], inputs, overwrite)
    from rrl_register.report import read_case, write_report

    write_report(read_case(result, fixed, moving, build_config(values), settings_known=False), output, overwrite)
    click.echo(output)

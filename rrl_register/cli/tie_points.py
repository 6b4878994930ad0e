"""``rrl-register tie-points``: write the tie points of a result for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from rrl_register.cli.command import overwrite_option, require_file, require_outputs
from rrl_register.cli.outputs import POINT_SUFFIXES, write_tie_points
from rrl_register.config.option_types import FILE
from rrl_register.exchange.formats import point_format


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
    require_file(result)
    for output in outputs:
        point_format(output)
    require_outputs(list(outputs), [result], overwrite)
    from rrl_register.exchange.registration import read_registration

    write_tie_points(outputs, read_registration(result), overwrite)

"""``rrl-register export``: write the network to one file, for this program or for others."""

from __future__ import annotations

from pathlib import Path

import click

from rrl_register.cli.command import overwrite_option, require_file, require_outputs, verbosity_options
from rrl_register.config.option_types import FILE, one_of
from rrl_register.nn.export_formats import ExportFormat, export_format


@click.command(no_args_is_help=True, short_help="Write the network to one file.")
@click.option("-o", "--output", type=FILE, required=True, help="Write the network to this file.")
@click.option(
    "--format",
    "asked",
    type=one_of(ExportFormat),
    show_default="by the suffix: .safetensors, .onnx, .pt or .ts",
    help="safetensors: weights for --weights; onnx, torchscript: weights and graph.",
)
@click.option(
    "--weights",
    type=FILE,
    show_default="those shipped",
    help="Weights (.safetensors), or the checkpoint.pt of a training.",
)
@click.option("--name", show_default="their own, or OUTPUT's", help="Name of the weights.")
@overwrite_option
@verbosity_options
def export(
    output: Path,
    asked: str | None,
    weights: Path | None,
    name: str | None,
    overwrite: bool,
) -> None:
    """Write the network's weights, or the network as ONNX or TorchScript, to one file.

    ONNX and TorchScript hold a function of 'visible' and 'other', patches (N, 1, 64, 64) with values from 0 to 1. It
    returns 'probability' (N,), that both show the same place, and the descriptors (N, 128) of both.
    """
    kind = export_format(output, None if asked is None else ExportFormat(asked))
    require_file(weights)
    require_outputs([output], [weights] if weights else [], overwrite)
    from rrl_register.training.export import export_weights, source_weights

    export_weights(source_weights(weights, name, new_name=output.stem), output, kind, overwrite)
    click.echo(output)

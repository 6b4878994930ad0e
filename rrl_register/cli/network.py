"""``rrl-register train`` and ``export``: train or fine-tune RRL-Net, and write it to one file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rrl_register.cli.command import overwrite_option, require_files, require_outputs, verbosity_options
from rrl_register.cli.progress import progress_bar
from rrl_register.config.option_types import FILE, one_of
from rrl_register.errors import UsageError
from rrl_register.nn.export_formats import ExportFormat, export_format

if TYPE_CHECKING:
    from rrl_register.training.config import TrainingConfig

RUN_FOLDER = Path("runs") / "training"


@click.command(no_args_is_help=True, short_help="Train or fine-tune the network.")
@click.argument("config", type=FILE, required=False)
@click.option(
    "--data",
    type=FILE,
    multiple=True,
    help="Folder of aligned pairs, instead of the configuration's data; may be repeated.",
)
@click.option("-o", "--output", type=FILE, help="Write the best weights to this .safetensors file.")
@click.option("--run", type=FILE, help=f"Folder of checkpoints and logs.  [default: the configuration's, {RUN_FOLDER}]")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting, such as losses.near_misses=false; may be repeated.",
)
@click.option("--name", help="Name of the weights.  [default: name of the output file]")
@click.option("--seconds", type=click.FloatRange(min=0), help="Stop after this time; the next call continues the run.")
@click.option("--print-config", is_flag=True, help="Print all settings as YAML and stop.")
@overwrite_option
@verbosity_options
def train(
    config: Path | None,
    data: tuple[Path, ...],
    output: Path | None,
    run: Path | None,
    changes: tuple[str, ...],
    name: str | None,
    seconds: float | None,
    print_config: bool,
    overwrite: bool,
) -> None:
    """Train RRL-Net with the settings of the YAML file CONFIG; without CONFIG, fine-tune the shipped weights on --data.

    A folder of pairs holds <name>_vis.tif and <name>_other.tif, any raster format, on one pixel grid; or a pairs.csv
    with the columns vis and other. If a run was stopped, the next call continues it from its checkpoint.
    """
    settings = _settings(config, data, run, changes)
    if print_config:
        import yaml

        click.echo(yaml.safe_dump(settings.settings(), sort_keys=False, default_flow_style=None, width=120), nl=False)
        return
    if output:
        require_outputs([output], [config] if config else [], overwrite)
    from rrl_register.training.loop import CHECKPOINT
    from rrl_register.training.loop import train as run_training

    checkpoint = settings.output / CHECKPOINT
    if checkpoint.exists():
        click.echo(f"Continuing the run in {settings.output}; name another folder with --run to start again.", err=True)
    with progress_bar(settings.total_steps) as bar:
        weights = run_training(
            settings,
            math.inf if seconds is None else seconds,
            lambda step, _, figures: bar.show(
                step, "  ".join(f"{name} {value:.2f}" for name, value in figures.items())
            ),
        )
    if weights is None:
        click.echo(f"Out of time; call again to continue. Checkpoint: {checkpoint}", err=True)
        return
    if output:
        from rrl_register.training.export import export_weights, source_weights

        export_weights(source_weights(weights, name or output.stem), output, ExportFormat.SAFETENSORS, overwrite)
    click.echo(output or weights)


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
def export(output: Path, asked: str | None, weights: Path | None, name: str | None, overwrite: bool) -> None:
    """Write the network's weights, or the network as ONNX or TorchScript, to one file.

    ONNX and TorchScript hold a function of 'visible' and 'other', patches (N, 1, 64, 64) with values from 0 to 1. It
    returns 'probability' (N,), that both show the same place, and the descriptors (N, 128) of both.
    """
    kind = export_format(output, None if asked is None else ExportFormat(asked))
    require_files(weights)
    require_outputs([output], [weights] if weights else [], overwrite)
    from rrl_register.training.export import export_weights, source_weights

    export_weights(source_weights(weights, name, new_name=output.stem), output, kind, overwrite)
    click.echo(output)


def _settings(
    config: Path | None, data: tuple[Path, ...], run: Path | None, changes: tuple[str, ...]
) -> TrainingConfig:
    from rrl_register.training.config import FINE_TUNING, load_training_config, make_training_config, parse_changes
    from rrl_register.training.settings import merged

    given: dict[str, Any] = parse_changes(changes)
    if data:
        given["data"] = [str(folder) for folder in data]
    if run:
        given["output"] = str(run)
    if config is None:
        if "data" not in given:
            raise UsageError("Neither CONFIG nor --data was given; pass training data, such as --data my_pairs/")
        base: Mapping[str, Any] = {**FINE_TUNING, "output": str(RUN_FOLDER)}
        return make_training_config(merged(base, given))
    require_files(config)
    return load_training_config(config, given)

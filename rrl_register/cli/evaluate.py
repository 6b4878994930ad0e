"""``rrl-register evaluate``: measure the network on labelled patches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rrl_register.cli.command import (
    config_options,
    overwrite_option,
    refuse_irrelevant_options,
    require_files,
    require_outputs,
)
from rrl_register.cli.progress import progress_bar
from rrl_register.config import Kind
from rrl_register.config.option_types import FILE, one_of
from rrl_register.config.options import build_config
from rrl_register.errors import UsageError

if TYPE_CHECKING:
    from rrl_register.training.evaluation.patch_set import Scores

SHIPPED = "shipped"
_FILES_ONLY = ("scenes", "other_kind")
_PAIRS_ONLY = ("support", "per_family", "near_miss", "save_patches", "families")
json_option = click.option("--json", "result", type=FILE, metavar="OUT", help="Also write the figures to this file.")


@click.group(no_args_is_help=True, short_help="Measure the network on patches.")
def evaluate() -> None:
    """Measure the network on patches: FPR95, the share of wrong pairs that pass if 95 % of the right ones do."""


@evaluate.command(no_args_is_help=True)
@click.argument("images", type=FILE, required=False, metavar="[IMAGES.npy")
@click.argument("labels", type=FILE, required=False, metavar="LABELS.npy]")
@click.option("--scenes", type=FILE, help="Scene of each pair, .npy (N,): prints the figures of each scene too.")
@click.option(
    "--other-kind",
    type=one_of(Kind),
    default=Kind.AUTO.value,
    show_default=True,
    help="Kind of the second patches. 'sar': linear amplitudes, to which a logarithm is applied; 'optical', 'ir': "
    "used unchanged, also right for SAR in decibels; 'auto': by the file's name and the values.",
)
@click.option("--pairs", type=FILE, metavar="PAIRS.json", help="Cut the patches from these image pairs instead.")
@click.option(
    "--support",
    type=click.Choice(["auto", "64", "96", "128"]),
    default="auto",
    show_default="128 for SAR, else 64",
    help="With --pairs: side of the ground that a patch covers, px.",
)
@click.option(
    "--per-family",
    type=click.IntRange(min=2),
    default=4000,
    show_default=True,
    help="With --pairs: pairs of patches per family, half of them matching.",
)
@click.option(
    "--near-miss",
    type=click.FloatRange(min=1),
    default=8.0,
    show_default=True,
    help="With --pairs: offset of near misses, px.",
)
@click.option("--families", metavar="A[,B...]", help="With --pairs: families to measure.  [default: all]")
@click.option("--save-patches", type=FILE, metavar="DIR", help="With --pairs: write the patches to this folder.")
@config_options("--device", "--weights")
@json_option
@click.option("--roc", type=FILE, metavar="OUT.png", help="Draw the ROC curves to this PNG or SVG.")
@overwrite_option
@click.pass_context
def patches(ctx: click.Context, /, images: Path | None, labels: Path | None, pairs: Path | None, **values: Any) -> None:
    """Measure FPR95 on labelled pairs of patches, or on patches cut from image pairs.

    IMAGES.npy is (N, 2, 64, 64), 8 bit or floats in [0, 1], the visible patch first; LABELS.npy is (N,), 1 where a pair
    matches, 0 elsewhere.

    PAIRS.json is a list of objects with id, family, fixed (the visible image), moving, landmarks_fixed and
    landmarks_moving (corresponding points [x, y], px; pairs without them are skipped); paths are relative to its
    folder. Wrong pairs come from other places, as many as right ones; those of 'near-miss' are a few px off instead.

    A scene of one class has no FPR95 (null in the JSON); a set of one class is refused.
    """
    if pairs:
        refuse_irrelevant_options(ctx, _FILES_ONLY, "without --pairs")
        if images:
            raise UsageError("Both patches and --pairs were given; leave IMAGES.npy LABELS.npy out")
        _evaluate_pairs(pairs, values)
        return
    refuse_irrelevant_options(ctx, _PAIRS_ONLY, "with --pairs")
    if images is None or labels is None:
        raise UsageError("IMAGES.npy or LABELS.npy is missing; pass both, or --pairs PAIRS.json")
    _evaluate_files(images, labels, values)


@evaluate.command("vis-nir", no_args_is_help=True)
@click.argument("folder", type=FILE)
@click.option(
    "--train", "train_scene", default="country", show_default=True, help="Scene for training, which is not tested."
)
@click.option("--config", "recipe", type=FILE, metavar="RECIPE.yaml", help="Settings of the training, as for 'train'.")
@click.option("--output", type=FILE, metavar="DIR", help="Folder of the training; the next call continues it.")
@click.option("--seconds", type=click.FloatRange(min=0), default=math.inf, help="Stop training after this time.")
@click.option("--weights", type=FILE, help=f"Test these (.safetensors, or '{SHIPPED}') instead of training.")
@config_options("--device")
@json_option
@overwrite_option
def vis_nir(
    folder: Path,
    train_scene: str,
    recipe: Path | None,
    output: Path | None,
    seconds: float,
    weights: Path | None,
    result: Path | None,
    overwrite: bool,
    **values: Any,
) -> None:
    """Run the protocol of the VIS-NIR benchmark: train on one scene, test on all others, average their FPR95.

    FOLDER holds <scene>_images.npy and <scene>_labels.npy of each scene. Without --weights, --output is required and a
    network is trained on the scene --train first. If the training ran out of time, the next call continues it.
    """
    require_files(folder, recipe, None if weights == Path(SHIPPED) else weights)
    if weights is None and output is None:
        raise UsageError("Neither --weights nor --output was given; pass weights to test, or a folder to train in")
    if weights is not None and (output or recipe):
        raise UsageError("With --weights, nothing is trained; leave --output and --config out, or --weights")
    require_outputs([result] if result else [], [path for path in (recipe, weights) if path], overwrite)
    from rrl_register.nn.inference.torch_backend import Scorer
    from rrl_register.training.evaluation import vis_nir as protocol

    scenes = protocol.find_scenes(folder)
    tested = protocol.split_scenes(scenes, train_scene, needs_training=output is not None)
    training_finished = None
    if output:
        trained = protocol.train_on(scenes[train_scene], output, recipe, seconds)
        weights, training_finished = trained.weights, trained.finished
        _say(f"trained: {weights}" if trained.finished else f"out of time, call again to continue; testing {weights}")
    scorer = Scorer(None if weights == Path(SHIPPED) else weights, build_config(values).match.device)
    figures = protocol.evaluate_scenes(tested, scorer, lambda row: _say(f"{row['name']}: {row['n']} pairs"))
    click.echo(protocol.scenes_table(figures))
    _write(result, {**figures, "trained_on": train_scene, "training_finished": training_finished}, overwrite)


def _evaluate_files(images: Path, labels: Path, values: Mapping[str, Any]) -> None:
    config, scenes, result, roc = build_config(values), values["scenes"], values["result"], values["roc"]
    _check_outputs(values, [path for path in (images, labels, scenes) if path])
    from rrl_register.nn.inference.torch_backend import Scorer
    from rrl_register.training.evaluation.figures import set_result, set_table
    from rrl_register.training.evaluation.patch_set import load_patch_set, score_patch_set

    loaded = load_patch_set(images, labels, scenes, Kind(values["other_kind"]))
    _say(f"{loaded.name}: {len(loaded)} pairs; kind of the second patches: {loaded.taken_as}")
    scorer = Scorer(config.match.weights, config.match.device)
    with progress_bar(len(loaded), "pairs scored") as bar:
        scores = score_patch_set(loaded, scorer, bar.advance)
    figures = set_result(loaded, scores, scorer)
    click.echo(set_table(figures))
    _write(result, figures, values["overwrite"])
    _draw(roc, {loaded.name: scores}, values["overwrite"])


def _evaluate_pairs(pairs: Path, values: Mapping[str, Any]) -> None:
    config, folder, overwrite = build_config(values), values["save_patches"], values["overwrite"]
    _check_outputs(values, [pairs])
    from rrl_register.nn.inference.torch_backend import Scorer
    from rrl_register.training.evaluation.figures import families_result, families_table, family_result
    from rrl_register.training.evaluation.pair_patches import (
        CutConfig,
        check_patch_files,
        cut_family,
        read_image_pairs,
        save_family,
    )
    from rrl_register.training.evaluation.patch_set import score_family

    support = None if values["support"] == "auto" else int(values["support"])
    cut = CutConfig(values["per_family"], values["near_miss"], support)
    families = read_image_pairs(pairs, tuple(values["families"].split(",")) if values["families"] else ())
    if folder:
        check_patch_files(folder, families, overwrite)
    scorer, results = Scorer(config.match.weights, config.match.device), []
    curves: dict[str, Scores] = {}
    for family, image_pairs in families.items():
        made = cut_family(family, image_pairs, cut)
        _say(f"{family}: {len(made)} places in {len(image_pairs)} image pairs, support {made.support} px")
        if folder:
            _say("\n".join(map(str, save_family(folder, made, overwrite))))
        random, near = score_family(made, scorer)
        results.append(family_result(made, random, near))
        curves[family] = random
    figures = families_result(results, {"near_miss_px": cut.near_miss, "per_family": cut.per_family}, scorer)
    click.echo(families_table(figures))
    _write(values["result"], figures, overwrite)
    _draw(values["roc"], curves, overwrite)


def _check_outputs(values: Mapping[str, Any], inputs: list[Path]) -> None:
    """Check inputs and outputs before any work."""
    weights: Path | None = build_config(values).match.weights
    inputs = [*inputs, weights] if weights else inputs
    require_files(*inputs)
    require_outputs([values[name] for name in ("result", "roc") if values[name]], inputs, values["overwrite"])
    if values["roc"]:
        from rrl_register.training.evaluation.figures import check_plot

        check_plot(values["roc"])


def _write(result: Path | None, figures: dict[str, Any], overwrite: bool) -> None:
    if result:
        from rrl_register.raster.writer import write_json

        write_json(result, figures, overwrite)
        click.echo(result)


def _draw(roc: Path | None, curves: dict[str, Scores], overwrite: bool) -> None:
    if roc:
        from rrl_register.training.evaluation.figures import draw_roc

        draw_roc(roc, curves, overwrite)
        click.echo(roc)


def _say(text: str) -> None:
    click.echo(text, err=True)

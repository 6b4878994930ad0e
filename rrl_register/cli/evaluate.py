"""``rrl-register evaluate``: how well the network tells matching patches from others."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rrl_register.cli.checks import require_file, require_outputs
from rrl_register.cli.options import overwrite_option
from rrl_register.config import Kind, RegisterConfig
from rrl_register.config.option_types import FILE, one_of
from rrl_register.config.options import CONFIG_OPTIONS, build_config
from rrl_register.errors import UsageError

if TYPE_CHECKING:
    from rrl_register.nn.inference.torch_backend import Scorer
    from rrl_register.training.evaluation.figures import Scores

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

SHIPPED = "shipped"
_FILES_ONLY = {"scenes": "--scenes", "other_kind": "--other-kind"}
_PAIRS_ONLY = {
    "support": "--support",
    "per_family": "--per-family",
    "near_miss": "--near-miss",
    "save_patches": "--save-patches",
    "families": "--families",
}


def network_options(*flags: str) -> Callable[[Decorated], Decorated]:
    """Add options of ``register`` that say which network runs where."""

    def decorate(function: Decorated) -> Decorated:
        """Add them in the order in which they are declared."""
        for option in reversed(CONFIG_OPTIONS):
            if option.flag in flags:
                function = option.decorate(function)
        return function

    return decorate


def json_option(function: Decorated) -> Decorated:
    """Add ``--json``."""
    return click.option("--json", "result", type=FILE, metavar="OUT", help="Write the figures to this file, too.")(
        function
    )


@click.group(no_args_is_help=True, short_help="Measure the network on patches.")
def evaluate() -> None:
    """Measure the network on patches: FPR95, the share of wrong pairs that pass where 95 % of the right ones do."""


@evaluate.command(no_args_is_help=True)
@click.argument("images", type=FILE, required=False, metavar="[IMAGES.npy")
@click.argument("labels", type=FILE, required=False, metavar="LABELS.npy]")
@click.option(
    "--scenes", type=FILE, help="MatchingContext of each pair, .npy (N,): figures of each scene are shown, too."
)
@click.option(
    "--other-kind",
    type=one_of(Kind),
    default=Kind.AUTO.value,
    show_default=True,
    help="What the second patches show. 'sar': linear amplitudes, a logarithm is applied; 'optical', 'ir': used as "
    "they are, which is right for SAR in decibels, too; 'auto': by the file's name and the values.",
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
    help="With --pairs: pairs of patches of each family, half of them matching.",
)
@click.option(
    "--near-miss",
    type=click.FloatRange(min=1),
    default=8.0,
    show_default=True,
    help="With --pairs: how far near misses are off the right place, px.",
)
@click.option("--families", metavar="A[,B...]", help="With --pairs: families to measure.  [default: all]")
@click.option("--save-patches", type=FILE, metavar="DIR", help="With --pairs: write the patches to this folder.")
@network_options("--device", "--weights")
@json_option
@click.option("--roc", type=FILE, metavar="OUT.png", help="Draw the ROC curves to this PNG or SVG.")
@overwrite_option
@click.pass_context
def patches(ctx: click.Context, /, images: Path | None, labels: Path | None, pairs: Path | None, **values: Any) -> None:
    """FPR95 of labelled pairs of patches, or of patches cut from image pairs.

    IMAGES.npy is (N, 2, 64, 64), 8 bit or floats in [0, 1], the visible patch first; LABELS.npy is (N,), 1 where a pair
    matches, 0 elsewhere.

    PAIRS.json is a list of objects with id, family, fixed (the visible image), moving, landmarks_fixed and
    landmarks_moving (corresponding points [x, y], px; pairs without are passed over); paths are relative to its folder.
    Wrong pairs are drawn from other places, as many as right ones; 'near-miss' are those that are a few px off instead.

    A scene of one class has no FPR95 (null in the JSON); a set of one class is refused.
    """
    require_no_strangers(ctx, _FILES_ONLY if pairs else _PAIRS_ONLY, "without --pairs" if pairs else "with --pairs")
    if pairs:
        if images:
            raise UsageError("both patches and --pairs were given; needed one of them; leave IMAGES.npy LABELS.npy out")
        _evaluate_pairs(pairs, values)
        return
    if images is None or labels is None:
        raise UsageError("IMAGES.npy or LABELS.npy is missing; needed both, or --pairs PAIRS.json; see the help")
    _evaluate_files(images, labels, values)


@evaluate.command("vis-nir", no_args_is_help=True)
@click.argument("folder", type=FILE)
@click.option(
    "--train",
    "train_scene",
    default="country",
    show_default=True,
    help="MatchingContext that is trained on and not tested.",
)
@click.option("--config", "recipe", type=FILE, metavar="RECIPE.yaml", help="Settings of the training, as of 'train'.")
@click.option("--output", type=FILE, metavar="DIR", help="Folder of the training; called again, it goes on there.")
@click.option("--seconds", type=click.FloatRange(min=0), default=math.inf, help="Stop training after this time.")
@click.option("--weights", type=FILE, help=f"Test these (.safetensors, or '{SHIPPED}') instead of training.")
@network_options("--device")
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
    """The protocol of the VIS-NIR benchmark: train on one scene, test on all others, mean of their FPR95.

    FOLDER holds <scene>_images.npy and <scene>_labels.npy of each scene. Without --weights, --output is needed and a
    network is trained on the scene --train first. Called again, a training that ran out of time goes on.
    """
    _check_vis_nir(folder, recipe, output, weights)
    require_outputs([result] if result else [], [path for path in (recipe, weights) if path], overwrite)
    from rrl_register.nn.inference.torch_backend import Scorer
    from rrl_register.training.evaluation import vis_nir as protocol

    scenes = protocol.find_scenes(folder)
    tested = protocol.split_scenes(scenes, train_scene, needs_training=output is not None)
    training_finished = None
    if output:
        trained = protocol.train_on(scenes[train_scene], output, recipe, seconds)
        weights, training_finished = trained.weights, trained.finished
        _say(f"trained: {weights}" if trained.finished else f"out of time, call again to go on; testing {weights}")
    scorer = Scorer(None if weights == Path(SHIPPED) else weights, build_config(values).match.device)
    figures = protocol.evaluate_scenes(tested, scorer, lambda row: _say(f"{row['name']}: {row['n']} pairs"))
    click.echo(protocol.scenes_table(figures))
    _write(result, {**figures, "trained_on": train_scene, "training_finished": training_finished}, overwrite)


def require_no_strangers(ctx: click.Context, strangers: Mapping[str, str], where: str) -> None:
    """Refuse options that would have no effect.

    Args:
        ctx: Of the command.
        strangers: Parameters that have no place here, and their flags.
        where: Where they do have one, in words.

    Raises:
        UsageError: One was given.
    """
    given = click.core.ParameterSource.COMMANDLINE
    for parameter, flag in strangers.items():
        if ctx.get_parameter_source(parameter) is given:
            raise UsageError(f"{flag} has an effect {where} only; leave it out")


def _evaluate_files(images: Path, labels: Path, values: Mapping[str, Any]) -> None:
    config, scenes, result, roc = build_config(values), values["scenes"], values["result"], values["roc"]
    inputs = [path for path in (images, labels, scenes) if path]
    _check_outputs(values, inputs)
    from rrl_register.training.evaluation.patch_set import load_patch_set
    from rrl_register.training.evaluation.report import set_result, set_table
    from rrl_register.training.evaluation.scoring import score_patch_set

    loaded = load_patch_set(images, labels, scenes, Kind(values["other_kind"]))
    _say(f"{loaded.name}: {len(loaded)} pairs; the second patches are taken for {loaded.taken_as}")
    scorer = _scorer(config)
    with click.progressbar(length=len(loaded), label="scoring", file=sys.stderr) as bar:
        scores = score_patch_set(loaded, scorer, bar.update)
    figures = set_result(loaded, scores, scorer)
    click.echo(set_table(figures))
    _write(result, figures, values["overwrite"])
    _draw(roc, {loaded.name: scores}, values["overwrite"])


def _evaluate_pairs(pairs: Path, values: Mapping[str, Any]) -> None:
    config, folder, overwrite = build_config(values), values["save_patches"], values["overwrite"]
    _check_outputs(values, [pairs])
    from rrl_register.training.evaluation.cutting import CutConfig, cut_family
    from rrl_register.training.evaluation.image_pairs import read_image_pairs
    from rrl_register.training.evaluation.report import families_result, families_table, family_result
    from rrl_register.training.evaluation.saving import check_patch_files, save_family
    from rrl_register.training.evaluation.scoring import score_family

    support = None if values["support"] == "auto" else int(values["support"])
    cut = CutConfig(values["per_family"], values["near_miss"], support)
    families = read_image_pairs(pairs, tuple(values["families"].split(",")) if values["families"] else ())
    if folder:
        check_patch_files(folder, families, overwrite)
    scorer, results = _scorer(config), []
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


def _check_vis_nir(folder: Path, recipe: Path | None, output: Path | None, weights: Path | None) -> None:
    for path in (folder, recipe, None if weights == Path(SHIPPED) else weights):
        if path:
            require_file(path)
    if weights is None and output is None:
        raise UsageError("neither --weights nor --output was given; needed weights to test, or a folder to train in")
    if weights is not None and (output or recipe):
        raise UsageError(
            "--weights was given, so that nothing is trained; leave --output and --config out, or --weights"
        )


def _check_outputs(values: Mapping[str, Any], inputs: list[Path]) -> None:
    """Refuse weights that are not there, and outputs that could not be made."""
    weights: Path | None = build_config(values).match.weights
    for path in [*inputs, weights]:
        if path:
            require_file(path)
    outputs = [values[name] for name in ("result", "roc") if values[name]]
    require_outputs(outputs, [*inputs, weights] if weights else inputs, values["overwrite"])
    if values["roc"]:
        from rrl_register.training.evaluation.plot import check_plot

        check_plot(values["roc"])


def _scorer(config: RegisterConfig) -> Scorer:
    from rrl_register.nn.inference.torch_backend import Scorer

    return Scorer(config.match.weights, config.match.device)


def _write(result: Path | None, figures: dict[str, Any], overwrite: bool) -> None:
    if result:
        from rrl_register.raster.writer import write_json

        write_json(result, figures, overwrite)
        click.echo(result)


def _draw(roc: Path | None, curves: dict[str, Scores], overwrite: bool) -> None:
    if roc:
        from rrl_register.training.evaluation.plot import draw_roc

        draw_roc(roc, curves, overwrite)
        click.echo(roc)


def _say(text: str) -> None:
    click.echo(text, err=True)

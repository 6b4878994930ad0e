"""Figures of scored patches (FPR95, AUC), as JSON, as plain text tables, and as ROC curves drawn by Matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import __version__
from rrl_register.errors import UsageError
from rrl_register.raster.writer import atomic_path
from rrl_register.training.validation import RECALL, auc, fpr95, roc_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rrl_register.nn.inference.torch_backend import Scorer
    from rrl_register.training.evaluation.pair_patches import FamilyPatches
    from rrl_register.training.evaluation.patch_set import PatchSet, Scores


Row = dict[str, Any]

_DIGITS = 4


def figures(scores: Scores) -> Row:
    """Compute numbers of pairs, FPR95 (per cent) and AUC (0 to 1); None if all pairs are of one class."""
    counts: Row = {"n": len(scores.labels), "n_matching": int(scores.labels.sum())}
    names = ("fpr95", "auc", "descriptor_fpr95", "descriptor_auc")
    if not counts["n_matching"] or scores.labels.all():
        return {**counts, **dict.fromkeys(names)}
    values = (measure(scores.labels, by) for by in (scores.network, scores.descriptor) for measure in (fpr95, auc))
    return {**counts, **{name: round(value, _DIGITS) for name, value in zip(names, values, strict=True)}}


def scene_rows(scores: Scores) -> list[Row]:
    """Compute the figures of each scene, sorted by name; empty if scenes are unknown."""
    if scores.scenes is None:
        return []
    return [{"name": str(name), **figures(scores.subset(scores.scenes == name))} for name in np.unique(scores.scenes)]


def mean_figures(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, float | None]:
    """Average figures over the rows that have them, such as the per-scene FPR95."""
    listed = list(rows)
    known = {key: [row[key] for row in listed if row[key] is not None] for key in keys}
    return {key: round(float(np.mean(values)), _DIGITS) if values else None for key, values in known.items()}


SET_MEANS = ("fpr95", "descriptor_fpr95")
FAMILY_MEANS = ("fpr95", "near_miss_fpr95", "descriptor_fpr95", "descriptor_near_miss_fpr95")


def provenance(scorer: Scorer) -> Row:
    """Return weights, device and version."""
    return {"weights": scorer.name, "device": scorer.device.type, "version": __version__}


def set_result(patches: PatchSet, scores: Scores, scorer: Scorer) -> Row:
    """Summarise one set of patches: figures of all pairs, of each scene, and the means over scenes."""
    rows = scene_rows(scores)
    whole = {"name": patches.name, **figures(scores), "other_kind": patches.taken_as, "scenes": rows}
    return {**whole, "scene_mean": mean_figures(rows, SET_MEANS) if rows else None, **provenance(scorer)}


def set_table(result: Mapping[str, Any]) -> str:
    """Format a ``set_result``: a row for each scene, if scenes are known, their mean, and all pairs."""
    rows = [_set_row(row) for row in result["scenes"]]
    if result["scene_mean"]:
        mean = result["scene_mean"]
        rows.append(["mean of scenes", None, None, mean["fpr95"], None, mean["descriptor_fpr95"]])
    rows.append(_set_row({**result, "name": f"all of {result['name']}" if rows else result["name"]}))
    return text_table(["set", "pairs", "matching", "FPR95, %", "AUC", "descriptor FPR95, %"], rows)


def _set_row(row: Mapping[str, Any]) -> list[str | int | float | None]:
    area = None if row["auc"] is None else f"{row['auc']:.4f}"
    return [row["name"], row["n"], row["n_matching"], row["fpr95"], area, row["descriptor_fpr95"]]


def family_result(patches: FamilyPatches, random: Scores, near: Scores) -> Row:
    """Summarise a family of image pairs: figures of all its places, and of each image pair."""
    scenes = [
        {"family": patches.family, **_with_near(one, two)}
        for one, two in zip(scene_rows(random), scene_rows(near), strict=True)
    ]
    together = {"name": patches.family, "support": patches.support, **_with_near(figures(random), figures(near))}
    return {**together, "scene_mean": mean_figures(scenes, FAMILY_MEANS), "scenes": scenes}


def _with_near(random: Row, near: Row) -> Row:
    """Join the figures with random negatives and those with near misses."""
    return {**random, **{key.replace("fpr95", "near_miss_fpr95"): near[key] for key in ("fpr95", "descriptor_fpr95")}}


def families_result(families: Sequence[Row], settings: Row, scorer: Scorer) -> Row:
    """Summarise several families: means over families, then each family, then each image pair.

    Args:
        families: Results of ``family_result``.
        settings: Settings of the patches.
        scorer: The network.
    """
    counts = {key: sum(family[key] for family in families) for key in ("n", "n_matching")}
    return {
        **mean_figures(families, (*FAMILY_MEANS, "auc", "descriptor_auc")),
        **counts,
        **settings,
        "families": [{key: value for key, value in family.items() if key != "scenes"} for family in families],
        "scenes": [row for family in families for row in family["scenes"]],
        **provenance(scorer),
    }


def families_table(result: Mapping[str, Any]) -> str:
    """Format a ``families_result``: a row for each family, and their mean if there are several."""
    header = ["family", "support", "pairs", "FPR95, %", "near-miss", "descriptor FPR95, %", "near-miss"]
    rows = [[row["name"], row["support"], row["n"], *(row[key] for key in FAMILY_MEANS)] for row in result["families"]]
    if len(rows) > 1:
        rows.append(["mean", None, None, *(result[key] for key in FAMILY_MEANS)])
    return text_table(header, rows)


Cell = str | int | float | None
_ALL_ON_ONE_LINE = 100_000


def text_table(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Lay out rows in columns, two spaces apart.

    Args:
        header: Names of the columns.
        rows: Text is shown unchanged, floats with two decimals, None as ``-``; columns of text only are left-aligned.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(header):
        is_text = bool(cells) and all(isinstance(row[number], str) for row in cells)
        table.add_column(Text(name), justify="left" if is_text else "right", no_wrap=True)
    for row in cells:
        shown = ("-" if cell is None else f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row)
        table.add_row(*map(Text, shown))
    console = Console(width=_ALL_ON_ONE_LINE, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


SUFFIXES = (".png", ".svg")
_DPI = 150


def check_plot(output: Path) -> None:
    """Check that a plot can be drawn, before long computations.

    Raises:
        UsageError: Matplotlib is missing, or the suffix is neither .png nor .svg.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"the picture {output} ends in {output.suffix!r}; needed .png or .svg; choose another name")
    if find_spec("matplotlib") is None:
        raise UsageError("Matplotlib is missing; needed to draw a picture; try pip install 'rrl-register[train]'")


def draw_roc(output: Path, sets: Mapping[str, Scores], overwrite: bool = False) -> None:
    """Draw the ROC curves of sets, the network's solid and the descriptor's dashed, and the recall of FPR95.

    Args:
        output: A .png or .svg file.
        sets: Scores by name.
        overwrite: Replace an existing file.

    Raises:
        UsageError: See ``check_plot``; or the file cannot be written there.
        OutputExistsError: The output exists and must not be replaced.
    """
    check_plot(output)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # The logarithmic axis begins below the smallest rate of the largest set.
    left = float(10.0 ** np.floor(np.log10(1 / max(int((~scores.labels).sum()) for scores in sets.values()))))
    for i, (name, scores) in enumerate(sets.items()):
        _draw_curve(axes, scores, scores.network, f"{name}: network", f"C{i}", "-", left)
        _draw_curve(axes, scores, scores.descriptor, f"{name}: descriptor", f"C{i}", "--", left)
    axes.axhline(RECALL, color="0.4", linewidth=0.8, linestyle=":")
    axes.annotate("95 % recall", (left, RECALL), (4, 3), textcoords="offset points", color="0.4", fontsize=8)
    axes.set_xscale("log")
    axes.set(xlim=(left, 1), ylim=(0, 1.02), xlabel="false-positive rate", ylabel="true-positive rate (recall)")
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    with atomic_path(output, overwrite) as temporary:
        figure.savefig(temporary, dpi=_DPI)


def _draw_curve(
    axes: Axes, scores: Scores, values: NDArray[np.float32], name: str, colour: str, style: str, left: float
) -> None:
    false, true = roc_curve(scores.labels, values)
    label = f"{name}, FPR95 {fpr95(scores.labels, values):.2f} %"
    # A logarithmic axis has no zero: the curve starts at its left end instead.
    axes.plot(np.maximum(false, left), true, style, color=colour, linewidth=1.5, label=label)

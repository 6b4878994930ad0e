"""ROC curves as pictures; needs Matplotlib, which the extra ``train`` brings."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rrl_register.errors import UsageError
from rrl_register.raster.writer import atomic_path
from rrl_register.training.evaluation.figures import Scores
from rrl_register.training.metrics import RECALL, fpr95, roc_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    left = _left_end(sets)
    for i, (name, scores) in enumerate(sets.items()):
        _draw_curve(axes, scores, scores.network, f"{name}: network", f"C{i}", "-", left)
        _draw_curve(axes, scores, scores.descriptor, f"{name}: descriptor", f"C{i}", "--", left)
    _label(axes, left)
    with atomic_path(output, overwrite) as temporary:
        figure.savefig(temporary, dpi=_DPI)


def _left_end(sets: Mapping[str, Scores]) -> float:
    """Return the left end of the logarithmic axis, below the smallest rate of the largest set."""
    most = max(int((~scores.labels).sum()) for scores in sets.values())
    return float(10.0 ** np.floor(np.log10(1 / most)))


def _draw_curve(
    axes: Axes, scores: Scores, values: NDArray[np.float32], name: str, colour: str, style: str, left: float
) -> None:
    false, true = roc_curve(scores.labels, values)
    label = f"{name}, FPR95 {fpr95(scores.labels, values):.2f} %"
    # A logarithmic axis has no zero: the curve starts at its left end instead.
    axes.plot(np.maximum(false, left), true, style, color=colour, linewidth=1.5, label=label)


def _label(axes: Axes, left: float) -> None:
    axes.axhline(RECALL, color="0.4", linewidth=0.8, linestyle=":")
    axes.annotate("95 % recall", (left, RECALL), (4, 3), textcoords="offset points", color="0.4", fontsize=8)
    axes.set_xscale("log")
    axes.set(xlim=(left, 1), ylim=(0, 1.02), xlabel="false-positive rate", ylabel="true-positive rate (recall)")
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)

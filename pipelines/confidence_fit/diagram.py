"""Reliability diagrams as pictures; needs Matplotlib, which the extra ``train`` brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from confidence_fit.calibration import ReliabilityBin
from rrl_register.raster.writer import atomic_path
from rrl_register.training.evaluation.figures import check_plot

_DPI = 150


def draw_reliability(output: Path, bins: Sequence[ReliabilityBin], overwrite: bool = False) -> None:
    """Draw the share of correct registrations against the confidence, with the number in each bin.

    Args:
        output: A .png or .svg file.
        bins: The bins to draw.
        overwrite: Replace an existing file.

    Raises:
        UsageError: See ``check_plot``; or the file cannot be written there.
        OutputExistsError: The output exists and must not be replaced.
    """
    check_plot(output)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], ":", color="0.4", linewidth=0.8, label="ideal")
    axes.plot([one.confidence for one in bins], [one.share_right for one in bins], "o-", label="scenes left out")
    for one in bins:
        axes.annotate(str(one.n), (one.confidence, one.share_right), (5, -10), textcoords="offset points", fontsize=8)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="mean confidence", ylabel="share of registrations right")
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    with atomic_path(output, overwrite) as temporary:
        figure.savefig(temporary, dpi=_DPI)

"""Progress on stderr, for a person at a terminal; nothing elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from rrl_register.cli.command import verbosity

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

ReportStage = Callable[[str], None]

_STAGES = {
    "load": "Loading the network",
    "read": "Reading the images",
    "prepare": "Preparing the images",
    "coarse": "Searching for rotation, scale and shift",
    "keypoints": "Comparing keypoints",
    "guided": "Comparing patches",
    "windows": "Comparing windows at full resolution",
    "estimate": "Fitting the transform",
    "warp": "Warping",
    "preview": "Drawing the preview",
    "report": "Drawing the report",
}
"""Stages of the pipeline in words."""
_SECONDS_OF_RATE = 3600.0
"""Period of the rate that the time left is computed from; scenes and steps may take minutes."""


@contextmanager
def stages(first: str) -> Iterator[ReportStage]:
    """Show the current stage and its time while the block of a command runs.

    Nothing is shown if stderr is no terminal that can redraw a line, with ``-q``, or with ``-v``, because its log has
    more. Do not print within the block, because the line is redrawn all the time.

    Args:
        first: Name of the stage that the block begins with.

    Yields:
        A function that reports the name of each further stage.
    """
    if not _is_watched() or verbosity() > 0:
        yield lambda stage: None
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with _open_line(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as line:
        task = line.add_task(_in_words(first), total=None)
        yield lambda stage: line.update(task, description=_in_words(stage))


class Bar:
    """A bar of finished steps, with text behind it.

    Args:
        total: Number of steps.
        text: First text.
        line: Line on the terminal; None: nothing is shown.
    """

    def __init__(self, total: int, text: str, line: Progress | None) -> None:
        self._line = line
        self._task = line.add_task(text, total=total) if line else None

    def show(self, finished: int, text: str) -> None:
        """Set the number of finished steps and the text."""
        if self._line and self._task is not None:
            self._line.update(self._task, completed=finished, description=text)

    def advance(self, steps: int) -> None:
        """Add finished steps."""
        if self._line and self._task is not None:
            self._line.advance(self._task, steps)

    def print(self, text: str) -> None:
        """Print a line to stderr, above the bar if it is shown."""
        if self._line:
            self._line.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(text, err=True)


@contextmanager
def progress_bar(total: int, text: str = "") -> Iterator[Bar]:
    """Show a bar of finished steps, and the time left, while the block of a command runs.

    Nothing is shown if stderr is no terminal that can redraw a line, or with ``-q``. Within the block, print through
    the bar.
    """
    if not _is_watched():
        yield Bar(total, text, None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False), TimeRemainingColumn()
    with _open_line(*columns) as line:
        yield Bar(total, text, line)


def _is_watched() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and verbosity() >= 0  # a dumb one cannot redraw


def _open_line(*columns: ProgressColumn) -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        speed_estimate_period=_SECONDS_OF_RATE,
        redirect_stdout=False,  # else text for stdout would come out on stderr
        redirect_stderr=False,
    )


def _in_words(stage: str) -> str:
    return _STAGES.get(stage, stage.capitalize())

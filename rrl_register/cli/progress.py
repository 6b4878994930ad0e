"""What is being done, for a person who waits: one line on a terminal, nothing elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

Tell = Callable[[str], None]

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
"""The pipeline's stages in words."""


@contextmanager
def stages(first: str) -> Iterator[Tell]:
    """Show the present stage and the time gone by, on stderr, while the block of a command runs.

    Silent where stderr is no terminal that can redraw a line, with ``-q``, and with ``-v``, whose log tells more.
    Nothing may be printed within the block: the line is redrawn all the time.

    Args:
        first: Name of the stage that the block begins with.

    Yields:
        A function that is told the name of each further stage.
    """
    given = click.get_current_context().params
    watched = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if given.get("quiet") or given.get("verbose") or not watched:
        yield lambda stage: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    console = Console(stderr=True)
    # Redirected, what is printed to stdout would come out on stderr.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as progress:
        task = progress.add_task(_words(first), total=None)
        yield lambda stage: progress.update(task, description=_words(stage))


def _words(stage: str) -> str:
    return _STAGES.get(stage, stage.capitalize())

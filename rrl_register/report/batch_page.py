"""The report of a batch: a page for each scene, and one that lists all scenes, worst first."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from rrl_register.batch.executors import ProcessPool, in_turn
from rrl_register.batch.journal import FAILED, FIGURES, OK, Outcome, Summary, outputs_of
from rrl_register.batch.manifest import BatchItem
from rrl_register.config import __version__
from rrl_register.errors import RegistrationError
from rrl_register.raster.writer import atomic_path
from rrl_register.report.charts import confidence_histogram
from rrl_register.report.inputs import ReportInput, read_report_input
from rrl_register.report.pictures import read_pictures, thumbnail
from rrl_register.report.scene_page import render, report_page, write_page
from rrl_register.report.text import CONFIDENT, KINDS, Figure, split_reason

FILE_NAME = "report.html"
FOLDER = "reports"
MAX_INLINE = 500
"""Scenes up to which the thumbnails are part of the page; with more, the page loads those that come into view."""
ROWS_SHOWN = 100
"""Rows that the page shows at first, and adds on demand."""


@dataclass(frozen=True)
class Row:
    """A scene in the list.

    Attributes:
        id: Identifier of the scene.
        state: ``good``, ``doubtful`` or ``failed``.
        link: Address of the scene's report; None if it could not be made.
        thumbnail: Address of its picture; None if there is none.
        outcome: Outcome of its registration.
        kinds: Kinds of both images.
    """

    id: str
    state: str
    link: str | None
    thumbnail: str | None
    outcome: Outcome
    kinds: str

    @property
    def figures(self) -> dict[str, Any]:
        """Values of ``FIGURES``; None for unknown ones."""
        return {**dict.fromkeys(FIGURES), **self.outcome.figures}

    @property
    def confidence(self) -> float:
        """Confidence of the transform; 0 without a transform."""
        return float(self.figures["confidence"] or 0.0)

    @property
    def check_rmse_px(self) -> float | None:
        """Cross-validation RMSE, fixed px."""
        check: float | None = self.figures["check_rmse_px"]
        return check

    @property
    def reason(self) -> str:
        """Reason of the failure, without the advice, which the scene's report shows."""
        return split_reason(self.outcome.reason)[0]

    @property
    def sort_key(self) -> tuple[bool, int, float, float]:
        """Key that sorts the worst first: failures by exit code, then low confidence, then large RMSE."""
        check = self.check_rmse_px
        return self.outcome.ok, self.outcome.exit_code, self.confidence, -(math.inf if check is None else check)


def write_batch_report(summary: Summary, workers: int = 1) -> Path:
    """Write the reports of a batch's scenes, as far as they are missing or outdated, and a page that lists them all.

    A scene is listed without a report if that cannot be made, for example because its images are gone.

    Args:
        summary: The batch's outcomes.
        workers: Number of processes.

    Returns:
        The page ``report.html`` in the batch's folder. Reports of scenes are in the folder ``reports`` beside it.

    Raises:
        WriteError, UsageError: The pages cannot be written.
    """
    folder = summary.folder / FOLDER
    folder.mkdir(exist_ok=True)
    for scene, outcome in summary.pairs:
        if not outcome.ok and not outputs_of(scene.id, summary.folder)[1].exists():
            inputs = ReportInput(scene.fixed, scene.moving, None, scene.config, failure=outcome.reason)
            _write_scene(inputs, scene.id, folder)
    outdated = []
    for scene, _ in summary.pairs:
        result, page = outputs_of(scene.id, summary.folder)[1], folder / f"{scene.id}.html"
        if result.exists() and not (page.exists() and page.stat().st_mtime_ns >= result.stat().st_mtime_ns):
            outdated.append(scene)
    work = partial(report_scene, folder=summary.folder)
    executor = ProcessPool(work, workers) if workers > 1 and len(outdated) > 1 else in_turn(work)
    for _ in executor(outdated):
        pass
    output = summary.folder / FILE_NAME
    write_page(output, list_page(summary), overwrite=True)
    return output


def report_scene(scene: BatchItem, folder: Path) -> Outcome:
    """Write the report and the thumbnail of a scene whose result is in the batch's folder.

    Args:
        scene: Its images and settings.
        folder: The batch's folder.

    Returns:
        ``OK``, or ``FAILED`` with the reason.
    """
    _, result = outputs_of(scene.id, folder)
    try:
        inputs = read_report_input(result, scene.fixed, scene.moving, scene.config)
        _write_scene(inputs, scene.id, folder / FOLDER)
    except RegistrationError as error:
        return Outcome(scene.id, FAILED, str(error), error.exit_code)
    return Outcome(scene.id, OK)


def list_page(summary: Summary) -> str:
    """Fill the page that lists the scenes of a batch."""
    inline = len(summary.pairs) <= MAX_INLINE
    rows = sorted(_rows(summary, inline), key=lambda row: row.sort_key)
    good, doubtful, failed = (sum(row.state == state for row in rows) for state in ("good", "doubtful", "failed"))
    checks = [row.check_rmse_px for row in rows if row.outcome.ok and row.check_rmse_px is not None]
    check = f"{median(checks):.2f} px" if checks else "–"
    seconds = sum(row.outcome.seconds for row in rows)
    time = f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
    tiles = [
        Figure("Scenes", str(len(rows)), "in total"),
        Figure("Registered", str(good + doubtful), f"{doubtful or 'none'} of them with low confidence"),
        Figure("Failed", str(failed), "for the reasons below"),
        Figure("Cross-validation RMSE", check, "median of the registered scenes"),
        Figure("Time", f"{seconds:.0f} s" if seconds < 90 else time, "sum over all scenes"),
    ]
    return render(
        "index.html.j2",
        "index.js",
        image_sources="data:" if inline else "'self' file: data:",
        version=__version__,
        source=summary.source,
        rows=rows,
        shown=ROWS_SHOWN,
        tiles=tiles,
        confidences=confidence_histogram([row.confidence for row in rows]),
    )


def _write_scene(inputs: ReportInput, name: str, folder: Path) -> None:
    """Write thumbnail and page; the page last, because its time of change stands for both."""
    pictures = read_pictures(inputs)
    small = thumbnail(pictures)
    picture = folder / f"{name}.webp"
    if small is None:
        picture.unlink(missing_ok=True)
    else:
        with atomic_path(picture, overwrite=True) as temporary:
            temporary.write_bytes(small)
    write_page(folder / f"{name}.html", report_page(inputs, pictures, back=f"../{FILE_NAME}"), overwrite=True)


def _rows(summary: Summary, inline: bool) -> Iterator[Row]:
    folder = summary.folder / FOLDER
    for scene, outcome in summary.pairs:
        page, picture = folder / f"{scene.id}.html", folder / f"{scene.id}.webp"
        small = None
        if picture.exists():
            encoded = base64.b64encode(picture.read_bytes()).decode() if inline else ""
            small = f"data:image/webp;base64,{encoded}" if inline else _address(picture)
        confident = (outcome.figures.get("confidence") or 0) >= CONFIDENT
        state = ("good" if confident else "doubtful") if outcome.ok else "failed"
        kinds = (outcome.figures.get(name) for name in ("fixed_kind", "moving_kind"))
        shown_kinds = " / ".join(KINDS[kind] for kind in kinds if kind)
        yield Row(scene.id, state, _address(page) if page.exists() else None, small, outcome, shown_kinds)


def _address(path: Path) -> str:
    return f"{FOLDER}/{quote(path.name)}"

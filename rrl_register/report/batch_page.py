"""The report of a batch: a page for each scene, and one that lists them all, worst first."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from rrl_register.batch.executors import ProcessPool, in_turn
from rrl_register.batch.manifest import BatchItem
from rrl_register.batch.outcome import FAILED, FIGURES, OK, Outcome
from rrl_register.batch.summary import Summary
from rrl_register.batch.work import outputs_of
from rrl_register.config.version import __version__
from rrl_register.errors import RegistrationError
from rrl_register.raster.writer import atomic_path
from rrl_register.report.charts import confidence_histogram
from rrl_register.report.inputs import Case, read_case
from rrl_register.report.pictures import read_pictures, thumbnail
from rrl_register.report.rendering import render, write_page
from rrl_register.report.scene_page import report_page
from rrl_register.report.text import KINDS, SURE, Figure, split_reason

FILE_NAME = "report.html"
FOLDER = "reports"
MOST_INLINE = 500
"""Scenes up to which the thumbnails lie in the page itself; beyond, the page loads those that come into view."""
SHOWN = 100
"""Rows that are laid out at first, and that the page adds when asked for more."""


@dataclass(frozen=True)
class Row:
    """A scene in the list.

    Attributes:
        id: Of the scene.
        state: ``good``, ``doubtful`` or ``failed``.
        link: Address of its own report; None where it could not be made.
        thumbnail: Address of its picture, if there is one.
        outcome: What became of it.
        kinds: What the images were taken for.
    """

    id: str
    state: str
    link: str | None
    thumbnail: str | None
    outcome: Outcome
    kinds: str

    @property
    def figures(self) -> dict[str, Any]:
        """Value of each of ``FIGURES``; None for what is not known."""
        return {**dict.fromkeys(FIGURES), **self.outcome.figures}

    @property
    def confidence(self) -> float:
        """Of the transform; 0 where there is none."""
        return float(self.figures["confidence"] or 0.0)

    @property
    def check_rmse_px(self) -> float | None:
        """Of points kept out of the fit, fixed px."""
        check: float | None = self.figures["check_rmse_px"]
        return check

    @property
    def why(self) -> str:
        """Why it failed, without what to try, which its own report tells."""
        return split_reason(self.outcome.reason)[0]

    @property
    def badness(self) -> tuple[bool, int, float, float]:
        """Sorts the worst first: bugs, unusable images, refusals, then by confidence and held-out error."""
        check = self.check_rmse_px
        return self.outcome.ok, self.outcome.exit_code, self.confidence, -(math.inf if check is None else check)


def write_batch_report(summary: Summary, workers: int = 1) -> Path:
    """Write a report of each scene of a batch, as far as it is not there yet, and a page that lists them all.

    A scene whose report cannot be made, because its images are gone for instance, is listed without.

    Args:
        summary: How the batch went.
        workers: Processes, each on one report at a time.

    Returns:
        The page: ``report.html`` in the batch's folder. Reports of scenes are in ``reports`` beside it.

    Raises:
        WriteError, UsageError: The pages cannot be written.
    """
    folder = summary.folder / FOLDER
    folder.mkdir(exist_ok=True)
    for scene, outcome in summary.pairs:
        if not outcome.ok and not outputs_of(scene.id, summary.folder)[1].exists():
            _report(Case(scene.fixed, scene.moving, None, scene.config, failure=outcome.reason), scene.id, folder)
    stale = [scene for scene, _ in summary.pairs if _is_stale(scene, summary.folder)]
    work = partial(report_scene, folder=summary.folder)
    executor = ProcessPool(work, workers) if workers > 1 and len(stale) > 1 else in_turn(work)
    for _ in executor(stale):
        pass
    output = summary.folder / FILE_NAME
    write_page(output, index_page(summary), overwrite=True)
    return output


def report_scene(scene: BatchItem, folder: Path) -> Outcome:
    """Write the report and the thumbnail of a scene whose result is in the batch's folder.

    Args:
        scene: Its images and settings.
        folder: Of the batch.

    Returns:
        Whether that was possible.
    """
    _, result = outputs_of(scene.id, folder)
    try:
        case = read_case(result, scene.fixed, scene.moving, scene.config)
        _report(case, scene.id, folder / FOLDER)
    except RegistrationError as error:
        return Outcome(scene.id, FAILED, str(error), error.exit_code)
    return Outcome(scene.id, OK)


def index_page(summary: Summary) -> str:
    """Fill the page that lists the scenes of a batch."""
    inline = len(summary.pairs) <= MOST_INLINE
    rows = sorted(_rows(summary, inline), key=lambda row: row.badness)
    return render(
        "index.html.j2",
        "index.js",
        image_sources="data:" if inline else "'self' file: data:",
        version=__version__,
        source=summary.source,
        rows=rows,
        shown=SHOWN,
        tiles=_tiles(rows),
        confidences=confidence_histogram([row.confidence for row in rows]),
    )


def _report(case: Case, name: str, folder: Path) -> None:
    """Write page and thumbnail; the page last, for by its time it is known whether both are there."""
    pictures = read_pictures(case)
    small = thumbnail(pictures)
    picture = folder / f"{name}.webp"
    if small is None:
        picture.unlink(missing_ok=True)
    else:
        with atomic_path(picture, overwrite=True) as temporary:
            temporary.write_bytes(small)
    write_page(folder / f"{name}.html", report_page(case, pictures, back=f"../{FILE_NAME}"), overwrite=True)


def _is_stale(scene: BatchItem, folder: Path) -> bool:
    """Whether a scene's result is newer than its report."""
    result, page = outputs_of(scene.id, folder)[1], folder / FOLDER / f"{scene.id}.html"
    if not result.exists():
        return False
    return not page.exists() or page.stat().st_mtime_ns < result.stat().st_mtime_ns


def _rows(summary: Summary, inline: bool) -> Iterator[Row]:
    folder = summary.folder / FOLDER
    for scene, outcome in summary.pairs:
        page, picture = folder / f"{scene.id}.html", folder / f"{scene.id}.webp"
        yield Row(
            scene.id,
            _state(outcome),
            _address(page) if page.exists() else None,
            _thumbnail(picture, inline) if picture.exists() else None,
            outcome,
            _kinds(outcome),
        )


def _thumbnail(picture: Path, inline: bool) -> str:
    if not inline:
        return _address(picture)
    return "data:image/webp;base64," + base64.b64encode(picture.read_bytes()).decode()


def _address(path: Path) -> str:
    return f"{FOLDER}/{quote(path.name)}"


def _state(outcome: Outcome) -> str:
    if not outcome.ok:
        return "failed"
    return "good" if (outcome.figures.get("confidence") or 0) >= SURE else "doubtful"


def _kinds(outcome: Outcome) -> str:
    kinds = [outcome.figures.get(name) for name in ("fixed_kind", "moving_kind")]
    return " / ".join(KINDS[kind] for kind in kinds if kind)


def _tiles(rows: Iterable[Row]) -> list[Figure]:
    listed = list(rows)
    count = {state: sum(row.state == state for row in listed) for state in ("good", "doubtful", "failed")}
    checks = [row.check_rmse_px for row in listed if row.outcome.ok and row.check_rmse_px is not None]
    return [
        Figure("Scenes", str(len(listed)), "in all"),
        Figure("Registered", str(count["good"] + count["doubtful"]), f"{count['doubtful'] or 'none'} of them doubtful"),
        Figure("Failed", str(count["failed"]), "with their reasons below"),
        Figure("Held-out error", f"{median(checks):.2f} px" if checks else "–", "median of the scenes registered"),
        Figure("Time", _duration(sum(row.outcome.seconds for row in listed)), "of work on all scenes together"),
    ]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

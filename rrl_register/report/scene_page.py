"""The report of one registration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrl_register.config.version import __version__
from rrl_register.exchange.registration import Registration
from rrl_register.report import text as wording
from rrl_register.report.charts import residual_histogram, score_histogram, spread_of
from rrl_register.report.command import apply_command, register_command, settings
from rrl_register.report.inputs import Case
from rrl_register.report.pictures import Pictures, Visible, data_uri, read_pictures
from rrl_register.report.rendering import render, write_page
from rrl_register.report.tie_point_marks import Marks, marks_of

_DRAWN_BESIDE = 400
"""Tie points at most that are drawn on the two images side by side."""


@dataclass(frozen=True)
class Shown:
    """An image as the page shows it.

    Attributes:
        source: The image within an address.
        width, height: Px.
        dots: Tie points on it: x, y and colour.
    """

    source: str
    width: int
    height: int
    dots: list[tuple[float, float, int]]


def write_report(case: Case, output: Path, overwrite: bool = False) -> None:
    """Write the report of a registration, of one that failed as well, as one HTML file that needs nothing else.

    Args:
        case: The images and the result.
        output: The file to write.
        overwrite: Whether an existing file may be replaced.

    Raises:
        InputError: A registered image cannot be read any more.
        UsageError: A band does not exist, or the output cannot be written there.
        OutputExistsError: The output exists and may not be replaced.
    """
    write_page(output, report_page(case, read_pictures(case)), overwrite)


def report_page(case: Case, pictures: Pictures, back: str | None = None) -> str:
    """Fill the page of a registration.

    Args:
        case: The images and the result.
        pictures: What ``read_pictures`` made of the images.
        back: Address of the page that lists all scenes, if there is one.
    """
    found = case.registration
    marks = marks_of(found) if found else None
    return render(
        "report.html.j2",
        "viewer.js",
        case=case,
        back=back,
        version=__version__,
        registration=found,
        verdict=wording.verdict(case),
        figures=wording.figures(case),
        movement=wording.movement(found) if found else [],
        similarity=wording.similarity_rows(found) if found else [],
        evidence=wording.evidence(found, case.config.estimate.threshold) if found else [],
        model=wording.MODELS.get(found.model or "") if found else None,
        kinds=[wording.KINDS[kind] for kind in case.kinds],
        settings=settings(case.config),
        commands={"register": register_command(case), "apply": apply_command(case)},
        marks=marks,
        images=_images(pictures, marks),
        data=_viewer_data(case, pictures, marks),
        **_charts(found, pictures, marks),
    )


def _charts(found: Registration | None, pictures: Pictures, marks: Marks | None) -> dict[str, Any]:
    """Histograms and the map of the spread; None for what there is nothing to show of."""
    charts: dict[str, Any] = {"residuals": None, "scores": None, "spread": None}
    if found is None or marks is None or not len(marks.score):
        return charts
    charts["scores"] = score_histogram(marks)
    if pictures.fixed is not None and pictures.overlap is not None:
        charts["residuals"] = residual_histogram(marks, found)
        charts["spread"] = spread_of(marks, pictures.overlap, pictures.fixed.factor, found)
    return charts


def _images(pictures: Pictures, marks: Marks | None) -> dict[str, Shown | None]:
    fixed_points = marks.fixed if marks else None
    return {
        "fixed": _shown(pictures.fixed, marks, fixed_points),
        "moving": _shown(pictures.moving, marks, marks.moving if marks else None),
        "aligned": _shown(pictures.aligned, None, None),
    }


def _shown(image: Visible | None, marks: Marks | None, points: Any) -> Shown | None:
    if image is None:
        return None
    dots = []
    if marks is not None and len(points):
        every = -(-len(points) // _DRAWN_BESIDE)
        places = (points[::every] + 0.5) / image.factor
        dots = [(round(x, 1), round(y, 1), int(c)) for (x, y), c in zip(places, marks.level[::every], strict=True)]
    return Shown(data_uri(image.pixels), *image.size, dots)


def _viewer_data(case: Case, pictures: Pictures, marks: Marks | None) -> dict[str, Any] | None:
    """What the script draws; None where there is nothing to compare."""
    if pictures.fixed is None or pictures.aligned is None or marks is None:
        return None
    width, height = pictures.fixed.size
    return {
        "width": width,
        "height": height,
        "factor": pictures.fixed.factor,
        "metres": case.fixed_metres,
        "zoom": marks.zoom,
        "points": marks.rows(pictures.fixed.factor),
    }

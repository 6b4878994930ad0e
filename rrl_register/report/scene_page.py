"""The page of one registration, and the rendering of pages: values are escaped, and nothing else is loaded."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rrl_register.config import __version__
from rrl_register.config.files import printable
from rrl_register.errors import WriteError
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.arrays import Points
from rrl_register.raster.writer import atomic_path
from rrl_register.report import text
from rrl_register.report.charts import TiePointMarks, inlier_map, residual_histogram, score_histogram, tie_point_marks
from rrl_register.report.inputs import ReportInput, apply_command, register_command, settings
from rrl_register.report.pictures import Picture, Pictures, data_uri, read_pictures

_MOST_DOTS = 400
"""Tie points that are drawn on each of the images side by side."""


class ImagePanel(NamedTuple):
    """An image of the page, with tie points.

    Attributes:
        source: The image as a data URI.
        width, height: Its size, px.
        dots: Tie points: x, y and state, see ``TiePointMarks.state``.
    """

    source: str
    width: int
    height: int
    dots: list[tuple[float, float, int]]


def write_report(case: ReportInput, output: Path, overwrite: bool = False) -> None:
    """Write the report of a registration, successful or failed, as one self-contained HTML file.

    Args:
        case: The images and the result.
        output: The file to write.
        overwrite: Replace an existing file.

    Raises:
        InputError: A registered image cannot be read any more.
        UsageError: A band does not exist, or the output cannot be written there.
        OutputExistsError: The output exists and must not be replaced.
    """
    write_page(output, report_page(case, read_pictures(case)), overwrite)


def report_page(inputs: ReportInput, pictures: Pictures, back: str | None = None) -> str:
    """Fill the page of a registration.

    Args:
        inputs: The images and the result.
        pictures: The images' pictures, by ``read_pictures``.
        back: Address of the batch page, if there is one.
    """
    found = inputs.registration
    marks = tie_point_marks(found) if found else None
    data = None
    if pictures.fixed and pictures.aligned and marks:
        (width, height), factor = pictures.fixed.size, pictures.fixed.factor
        data = {"width": width, "height": height, "factor": factor, "points": marks.rows(factor)}
    return render(
        "report.html.j2",
        "viewer.js",
        inputs=inputs,
        back=back,
        version=__version__,
        registration=found,
        verdict=text.verdict(inputs),
        figures=text.figures(inputs),
        movement=text.movement(found) if found else [],
        similarity=text.similarity_rows(found) if found else [],
        evidence=text.evidence(found, inputs.config.estimate.threshold) if found else [],
        model=text.MODELS.get(found.model or "") if found else None,
        kinds=[text.KINDS[kind] for kind in inputs.kinds],
        settings=settings(inputs.config),
        commands={"register": register_command(inputs), "apply": apply_command(inputs)},
        marks=marks,
        images={
            "fixed": _panel(pictures.fixed, marks, marks.fixed if marks else None),
            "moving": _panel(pictures.moving, marks, marks.moving if marks else None),
            "aligned": _panel(pictures.aligned, None, None),
        },
        data=data,
        **_charts(found, pictures, marks),
    )


def _charts(found: Registration | None, pictures: Pictures, marks: TiePointMarks | None) -> dict[str, Any]:
    """Make the histograms and the map of inliers; None for those without data."""
    charts: dict[str, Any] = {"residuals": None, "scores": None, "spread": None}
    if found is None or marks is None or not len(marks.score):
        return charts
    charts["scores"] = score_histogram(marks)
    if pictures.fixed is not None and pictures.overlap is not None:
        charts["residuals"] = residual_histogram(marks, found)
        charts["spread"] = inlier_map(marks, pictures.overlap, pictures.fixed.factor, found)
    return charts


def _panel(image: Picture | None, marks: TiePointMarks | None, points: Points | None) -> ImagePanel | None:
    if image is None:
        return None
    dots = []
    if marks is not None and points is not None and len(points):
        every = -(-len(points) // _MOST_DOTS)
        places = ((points[::every] + 0.5) / image.factor).round(1).tolist()
        dots = [(x, y, state) for (x, y), state in zip(places, marks.state[::every].tolist(), strict=True)]
    return ImagePanel(data_uri(image.pixels), *image.size, dots)


def render(template: str, script: str, image_sources: str = "data:", **context: Any) -> str:
    """Fill a template.

    Args:
        template: Its file name.
        script: File name of the page's script.
        image_sources: Sources of images, as in a content security policy.
        context: Values of the template.
    """
    environment = _environment()
    assert environment.loader is not None
    style, code = (environment.loader.get_source(environment, name)[0] for name in ("style.css", script))
    policy = (
        f"default-src 'none'; img-src {image_sources}; style-src {_digest(style)}; script-src {_digest(code)}; "
        "base-uri 'none'; form-action 'none'"
    )
    # Both files belong to the package; a browser compares their bytes with the digests, so they are not escaped.
    filled = environment.get_template(template)
    return filled.render(policy=policy, style=Markup(style), script=Markup(code), **context)


def write_page(output: Path, page: str, overwrite: bool = False) -> None:
    """Write a page atomically.

    Raises:
        OutputExistsError, UsageError, WriteError: See ``raster.writer.atomic_path``.
    """
    with atomic_path(output, overwrite) as temporary:
        try:
            temporary.write_text(page, encoding="utf-8", newline="\n")
        except OSError as error:
            raise WriteError(
                f"cannot write {output} ({error.strerror}); needed write access and disk space; try another folder"
            ) from error


def _digest(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    loader = PackageLoader("rrl_register.report")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,  # what is Markup stays
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": text.number, "percent": text.percent}
    return environment

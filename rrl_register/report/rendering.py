"""Filling templates: everything is escaped, styles and scripts lie in the page, and the page may load nothing else."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rrl_register.errors import WriteError
from rrl_register.raster.writer import atomic_path
from rrl_register.report.text import percent

_PACKAGE = "rrl_register.report"


def render(template: str, script: str, image_sources: str = "data:", **context: Any) -> str:
    """Fill a template.

    Args:
        template: Its name.
        script: Name of the script that goes with it.
        image_sources: Where the page may take images from, as a content security policy says it.
        context: What the template asks for.
    """
    style, code = _source("style.css"), _source(script)
    policy = (
        f"default-src 'none'; img-src {image_sources}; style-src {_digest(style)}; script-src {_digest(code)}; "
        "base-uri 'none'; form-action 'none'"
    )
    # Both files are the package's own; a browser compares them byte by byte with their digests.
    filled = _environment().get_template(template)
    return filled.render(policy=policy, style=Markup(style), script=Markup(code), **context)


def write_page(output: Path, page: str, overwrite: bool = False) -> None:
    """Write a page wholly or not at all.

    Raises:
        OutputExistsError, UsageError, WriteError: As ``raster.writer.atomic_path``.
    """
    with atomic_path(output, overwrite) as temporary:
        try:
            temporary.write_text(page, encoding="utf-8", newline="\n")
        except OSError as error:
            raise WriteError(
                f"cannot write {output} ({error.strerror}); needed write access and room; try another folder"
            ) from error


def _digest(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _source(name: str) -> str:
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "percent": percent}
    return environment


def _number(value: float | None, digits: int = 2) -> str:
    """A number with so many decimals; a dash for what is not known."""
    return "–" if value is None else f"{value:.{digits}f}"

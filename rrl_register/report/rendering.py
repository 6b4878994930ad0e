"""Rendering of pages: values are escaped, styles and scripts are inline, and the page may load nothing else."""

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
    environment = Environment(
        loader=PackageLoader("rrl_register.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "percent": percent}
    return environment


def _number(value: float | None, digits: int = 2) -> str:
    """Format a number with fixed decimals; a dash if it is unknown."""
    return "–" if value is None else f"{value:.{digits}f}"

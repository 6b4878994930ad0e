"""Types of options: each reads a text of the command line, of a table or of a settings file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import click

from rrl_register.config import OutputGrid

FILE = click.Path(path_type=Path)
_NUMBER = r"(\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})"


def band_list(text: str) -> tuple[int, ...]:
    """Read band numbers, 1-based: ``4`` or ``3,2,1``."""
    if not re.fullmatch(r"[1-9]\d{0,8}(,[1-9]\d{0,8})*", text):
        raise click.BadParameter(f"{text!r} is no list of bands; use numbers from 1 on, such as 4 or 3,2,1.")
    return tuple(int(number) for number in text.split(","))


def distance(text: str) -> str:
    """Check a length in pixels or metres, ``80px`` or ``500m``, and return the text."""
    match = re.fullmatch(rf"{_NUMBER}(px|m)", text)
    if not match or float(match[1]) == 0:
        raise click.BadParameter(f"{text!r} is no distance; use a positive number with its unit, such as 80px or 500m.")
    return text


def rotation(text: str) -> str:
    """Check a rotation, ``auto``, ``none`` or degrees, and return the text."""
    if text not in ("auto", "none") and not (_is_number(text) and abs(float(text)) <= 360):
        raise click.BadParameter(f"{text!r} is no rotation; use auto, none or degrees from -360 to 360, such as 90.")
    return text


def scale(text: str) -> str:
    """Check a scale, ``auto``, ``none`` or a factor, and return the text."""
    if text not in ("auto", "none") and not (_is_number(text) and 0.3 <= float(text) <= 3.5):
        raise click.BadParameter(f"{text!r} is no scale; use auto, none or a factor from 0.3 to 3.5, such as 2.")
    return text


def _is_number(text: str) -> bool:
    return re.fullmatch(rf"[+-]?{_NUMBER}", text) is not None


def creation_option(text: str) -> tuple[str, str]:
    """Split a GDAL creation option, ``NAME=VALUE``, at the first equals sign."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{text!r} is no creation option; use NAME=VALUE, such as COMPRESS=ZSTD.")
    return name, value


def block_side(text: str | int) -> int:
    """Read the side of a block, a multiple of 16 because TIFF requires that of its tiles."""
    if not re.fullmatch(r"[1-9]\d{0,8}", str(text)) or int(text) % 16:
        raise click.BadParameter(f"{text!r} is no side of a block; use a multiple of 16, such as 512.")
    return int(text)


def output_grid(text: str) -> OutputGrid | Path:
    """Read the output grid: ``fixed``, ``moving``, or the path of a raster."""
    return OutputGrid(text) if text in tuple(OutputGrid) else Path(text)


def size(text: str | int) -> int:
    """Read an amount of memory, ``512MiB`` or ``2GiB``; a bare number counts bytes."""
    match = re.fullmatch(rf"{_NUMBER}\s?([KMGT]i?)?B?", str(text))
    if not match:
        raise click.BadParameter(
            f"{text!r} is no amount of memory; use a number with its unit, such as 512MiB or 2GiB."
        )
    prefix = match[2] or ""
    return int(float(match[1]) * (1024 if prefix.endswith("i") else 1000) ** " KMGT".index(prefix[:1] or " "))


def size_text(n_bytes: int) -> str:
    """Write an amount of memory in its largest even unit, as ``size`` reads it."""
    for unit in ("GiB", "MiB", "KiB"):
        if n_bytes and n_bytes % size(f"1{unit}") == 0:
            return f"{n_bytes // size(f'1{unit}')}{unit}"
    return str(n_bytes)


def one_of(values: Iterable[StrEnum]) -> click.Choice[str]:
    """Offer the values of an enum, because click offers the names of an enum."""
    return click.Choice([value.value for value in values])

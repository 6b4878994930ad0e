"""Texts at the border: they are opened only if they are files, and are read and parsed within bounds."""

from __future__ import annotations

import errno
import json
import re
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 48 * 1024**2
"""Largest text: a RESULT.json of as many tie points as are read has half of it."""
MOST_POINTS = 100_000
"""Largest number of tie points in a file."""
MOST_SETTINGS = 1024**2
"""Bytes of the largest file of settings."""
_INTEGER_DIGITS = 18
"""Longer integers are read as floats, which end at infinity."""

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def is_special(path: Path) -> bool:
    """Return True for devices, pipes and sockets: reading them may never end."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def require_regular_file(path: Path) -> None:
    """Refuse to open a device, a pipe or a socket.

    Raises:
        OSError: It is one.
    """
    if is_special(path):
        raise OSError(errno.EINVAL, "It is a device or a pipe, not a file", str(path))


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Read a text in UTF-8, with or without a byte order mark.

    Raises:
        OSError: It cannot be read, is no file, or is larger than ``most_bytes``.
        UnicodeDecodeError: It is no text in UTF-8.
    """
    require_regular_file(path)
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"More than {most_bytes // 1024**2} MiB are too many here", str(path))
    return content.decode("utf-8-sig")


def printable(text: str) -> str:
    """Write characters as escapes that steer a terminal, turn the direction of writing or are no text; keep lines."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: It is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text, parse_int=lambda digits: (int if len(digits) <= _INTEGER_DIGITS else float)(digits))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error

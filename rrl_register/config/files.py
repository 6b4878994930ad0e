"""Small text files at the border: refused before they are opened if they are no files, and read up to a bound."""

from __future__ import annotations

import stat
from pathlib import Path

from rrl_register.errors import InputError

MOST_BYTES = 64 * 1024**2
"""Largest text that is read: a RESULT.json of 100,000 tie points has a fifth of it."""


def require_regular_file(path: Path) -> None:
    """Refuse folders, devices, pipes and sockets: reading them may never end.

    Raises:
        InputError: It is one of them.
        OSError: There is no such file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path} is a folder, a device or a pipe; name a file")


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Read a text in UTF-8, with or without a byte order mark.

    Raises:
        InputError: It is no regular file, or larger than ``most_bytes``.
        OSError, UnicodeDecodeError: It cannot be read.
    """
    require_regular_file(path)
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise InputError(f"{path} is larger than {most_bytes // 1024} KiB, too large for what it should hold")
    return content.decode("utf-8-sig")

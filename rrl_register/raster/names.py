"""GDAL's names of files in archives and on the network, which ``pathlib`` changes."""

from __future__ import annotations

import re
from pathlib import Path

_VIRTUAL = "/vsi"
_ARCHIVES = re.compile(r"^(/vsi(?:zip|gzip|tar|7z|rar)/)(?=[^/{])(.+)$")
_SCHEME = re.compile(r"(https?|ftp|s3|gs):/(?!/)")


def is_virtual(path: Path) -> bool:
    """Whether a path is one of GDAL's own (``/vsizip/...``, ``/vsicurl/...``), which the file system does not know."""
    return str(path).startswith(_VIRTUAL)


def gdal_name(path: Path) -> str:
    """Return the name by which GDAL opens a path.

    A ``Path`` keeps only one of two slashes. GDAL needs both: after ``https:``, and before an archive that is named
    from the root of the file system (``/vsizip//data/scenes.zip/a.tif``) or lies behind another such name.
    """
    text = str(path)
    if not is_virtual(path):
        return text
    text = _SCHEME.sub(r"\1://", text)
    in_archive = _ARCHIVES.match(text)
    if in_archive is None:
        return text
    prefix, rest = in_archive.groups()
    if rest.startswith("vsi"):
        return prefix + gdal_name(Path("/", rest))
    from_root = not _leads_to_file(Path(rest)) and _leads_to_file(Path("/", rest))
    return f"{prefix}/{rest}" if from_root else text


def _leads_to_file(path: Path) -> bool:
    """Whether a path or the beginning of it is a file."""
    return any(part.is_file() for part in (path, *path.parents))

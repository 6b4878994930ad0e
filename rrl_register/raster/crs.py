"""Coordinate reference systems as text: read from files without the network and without other files."""

from __future__ import annotations

import json
import re
from typing import Any

from rasterio.crs import CRS
from rasterio.errors import CRSError

from rrl_register.errors import InputError

_CODE = re.compile(r"(urn:ogc:def:crs:)?[A-Za-z]\w{1,30}:[\w.:+]{1,60}", re.ASCII)
_WKT = re.compile(r"[A-Z_]{4,30}\s{0,9}[\[(]")
_NULL = r'"?@null(?![\w,])'
_FILES = re.compile(
    rf'grids"?\s*[=,]\s*(?!{_NULL})|(file|init)\s*=|parameterfile(?!\["[^"]{{0,99}}",{_NULL})|"value":\s*"(?!@null")',
    re.IGNORECASE,
)
"""A parameter that names a file, in PROJ's own text (within WKT), in WKT or in PROJJSON."""


def crs_from_text(text: Any) -> CRS:
    """Read the CRS that a file states: AUTHORITY:CODE, WKT or PROJJSON.

    All else that GDAL takes is refused, because it opens a file or asks a server: paths, addresses, grids of shifts.

    Raises:
        InputError: It is something else, or invalid.
    """
    if not isinstance(text, str) or len(text) > 65_536:
        raise InputError("the CRS is no text of at most 65,536 characters; use a code such as EPSG:32633")
    try:
        # Parsed and written again, because escapes could hide a name.
        text = json.dumps(json.loads(text)) if text.lstrip().startswith("{") else text.strip()
        wkt = _WKT.match(text)
        if not (wkt or text[:1] == "{" or _CODE.fullmatch(text)) or _FILES.search(text):
            raise InputError(
                f"the CRS {text[:60]!r} is no code such as EPSG:32633, nor WKT or PROJJSON that names no file"
            )
        return CRS.from_wkt(text) if wkt else CRS.from_user_input(text)
    except (CRSError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the CRS is invalid ({reason}); use WKT or a code such as EPSG:32633") from error

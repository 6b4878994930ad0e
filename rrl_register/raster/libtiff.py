"""Silence for libtiff: on a write that fails it prints a line of its own on stderr, past GDAL, rasterio and logging.

GDAL has the error, too, and rasterio raises it, so that nothing is lost with those lines. No option of GDAL reaches
libtiff's handler, hence ctypes.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import rasterio.shutil

SetHandler = Callable[[int | None], int | None]
"""libtiff's ``TIFFSetErrorHandler``: takes the address of a handler, None for silence; returns the previous one."""

_lock = threading.Lock()
_n_silent = 0
"""Blocks that are open, in any thread."""
_printing: int | None = None
"""The handler that the first of them has replaced, and that the last one restores."""


@contextmanager
def libtiff_silent() -> Iterator[None]:
    """Let libtiff print no errors within the block; a libtiff that cannot be reached, inside GDAL, still prints."""
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(step: int) -> None:
    global _n_silent, _printing
    set_handler = _set_handler()
    if set_handler is None:
        return
    with _lock:
        if _n_silent == 0:
            _printing = set_handler(None)
        _n_silent += step
        if _n_silent == 0:
            set_handler(_printing)


@cache
def _set_handler() -> SetHandler | None:
    """Reach the libtiff that rasterio's GDAL was linked with: a library's symbols include its dependencies'."""
    try:
        set_handler = ctypes.CDLL(rasterio.shutil.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError):
        return None
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    return set_handler

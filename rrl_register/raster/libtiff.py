"""Keeping libtiff quiet: of a write that fails it prints a line of its own on stderr, past GDAL, rasterio and logging.

GDAL is told of the failure, too, and rasterio raises it, so that nothing is lost with those lines.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import rasterio._err

SetHandler = Callable[[int | None], int | None]


class Silence:
    """Takes away the handler that prints, as long as at least one block of any thread wants that.

    Args:
        set_handler: libtiff's ``TIFFSetErrorHandler``: takes the address of a handler, None for silence, and returns
            that of the one before.
    """

    def __init__(self, set_handler: SetHandler) -> None:
        self._set_handler = set_handler
        self._lock = threading.Lock()
        self._holders = 0
        self._printing: int | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have silence within the block."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, step: int) -> None:
        with self._lock:
            if self._holders == 0:
                self._printing = self._set_handler(None)
            self._holders += step
            if self._holders == 0:
                self._set_handler(self._printing)


@contextmanager
def libtiff_silent() -> Iterator[None]:
    """Let libtiff print no errors within the block; one that cannot be reached, inside GDAL, goes on printing."""
    silence = _silence()
    if silence is None:
        yield
        return
    with silence.held():
        yield


@cache
def _silence() -> Silence | None:
    """Reach the libtiff that rasterio's GDAL was linked with: a library's symbols include its dependencies'."""
    try:
        set_handler = ctypes.CDLL(rasterio._err.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError):
        return None
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    return Silence(set_handler)

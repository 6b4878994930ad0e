"""GDAL's writing made safe: one error in one line, warnings only on success, and no file that lacks its last tiles."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from logging.handlers import BufferingHandler
from pathlib import Path

import rasterio
import rasterio.shutil

# GDAL's errors on closing a COG reach the caller of rasterio as they are; rasterio has no public name for their type.
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from rrl_register.errors import UsageError, WriteError

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


_GDAL_LOG = logging.getLogger("rasterio._env")
_FULL_BYTES = 64 * 1024
"""A disk with fewer bytes free is full: GDAL does not report so itself."""
_REFUSED_OPTION = ("CPLE_NotSupported", "CPLE_IllegalArg")


@contextmanager
def write_guard(output: Path) -> Iterator[None]:
    """Let GDAL write within the block, masks into the file itself.

    GDAL's warnings are passed on only if the block ends well; else its error suffices.

    Args:
        output: The name to use in errors.

    Raises:
        WriteError: GDAL could not write.
    """
    try:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), libtiff_silent(), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with _collected_warnings() as collected:
                _GDAL_LOG.propagate = False
                try:
                    yield
                finally:
                    _GDAL_LOG.propagate = True
    except (RasterioError, CPLE_BaseError, UnicodeEncodeError) as error:  # GDAL takes names in UTF-8 alone
        raise _unwritable(output, " ".join(str(error.__cause__ or error).split())) from error
    for record in collected:
        _GDAL_LOG.handle(record)


@contextmanager
def refused_options(driver: str) -> Iterator[None]:
    """Refuse creation options that GDAL ignores, with a warning, within the block.

    Raises:
        UsageError: The driver does not know an option or its value.
    """
    with _collected_warnings() as collected:
        yield
    messages = [record.getMessage() for record in collected]
    refused = [text.partition(" in ")[2] for text in messages if text.startswith(_REFUSED_OPTION)]
    if refused:
        raise UsageError(f"GDAL's {driver} driver refuses a creation option ({refused[0]}); check --co")


@contextmanager
def _collected_warnings() -> Iterator[list[logging.LogRecord]]:
    """Collect GDAL's warnings."""
    collector = BufferingHandler(capacity=1 << 20)
    collector.setLevel(logging.WARNING)
    _GDAL_LOG.addHandler(collector)
    try:
        yield collector.buffer
    finally:
        _GDAL_LOG.removeHandler(collector)


def require_complete(path: Path, output: Path) -> None:
    """Check that every tile lies within the file: if the disk is full on closing, GDAL reports no error.

    Args:
        path: A TIFF; its masks and overviews are checked, too.
        output: The name to use in errors.

    Raises:
        WriteError: A tile is missing.
    """
    size = path.stat().st_size
    for directory in count(1):
        try:
            part = rasterio.open(f"GTIFF_DIR:{directory}:{path}")
        except RasterioError:
            if directory == 1:
                raise
            return
        with part:
            if any(start + length > size or length == 0 for start, length in _tile_places(part)):
                raise _unwritable(output, f"the file ended at {size} bytes, before its last tile")


def _tile_places(dataset: DatasetReader) -> Iterator[tuple[int, int]]:
    """Yield offset and length of each tile in the file, bytes."""
    planes = range(1, dataset.count + 1) if dataset.interleaving.name == "band" else (1,)
    for band in planes:
        for (row, column), _ in dataset.block_windows(band):
            names = (f"BLOCK_{figure}_{column}_{row}" for figure in ("OFFSET", "SIZE"))
            start, length = (int(dataset.get_tag_item(name, "TIFF", bidx=band) or 0) for name in names)
            yield start, length


def _unwritable(output: Path, reason: str) -> WriteError:
    with suppress(OSError):
        if shutil.disk_usage(output.parent).free < _FULL_BYTES:
            reason = os.strerror(errno.ENOSPC)
    return WriteError(f"Cannot write {output} ({reason}); check write access, free space and creation options")

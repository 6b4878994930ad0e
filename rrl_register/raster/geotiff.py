"""The GeoTIFF that an image is written to: its layout, what it inherits, and how it says "no data"."""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count as counted
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError  # some of GDAL's errors reach the caller of rasterio as they are
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, DatasetWriter

from rrl_register.config import RasterFormat, WarpConfig
from rrl_register.errors import InputError, UsageError, WriteError
from rrl_register.raster.grid import Grid
from rrl_register.raster.libtiff import libtiff_silent

_TILE = 512
_MAX_PIXEL_INTERLEAVED = 4
"""With more bands, a tile that holds all of them would cost too much memory."""
_TAKE_PREDICTOR = ("DEFLATE", "LZW", "ZSTD")
_GDAL_LOG = logging.getLogger("rasterio._env")
_NO_ROOM = 64 * 1024
"""A disk with fewer bytes free is full: GDAL does not say so itself."""
_NOT_UNDERSTOOD = ("CPLE_NotSupported", "CPLE_IllegalArg")


@dataclass(frozen=True)
class NodataPolicy:
    """How pixels without data are marked.

    Attributes:
        fill: Value that they are given.
        declared: Whether the file declares that value as nodata.
        mask: Whether the file gets a mask of its own, so that ``fill`` stays a valid value elsewhere.
    """

    fill: float
    declared: bool
    mask: bool


def choose_nodata(source: DatasetReader, config: WarpConfig) -> NodataPolicy:
    """Decide how the output says "no data": as configured, else as the source does, else by a mask.

    Without nodata value and alpha band in the source, the file gets a mask; under it lie zeros, or NaN for floats.

    Raises:
        UsageError: The configured value does not fit the pixel type.
    """
    dtype = source.dtypes[0]
    if config.nodata is not None:
        if not fits(config.nodata, dtype):
            raise UsageError(f"nodata {config.nodata:g} does not fit {dtype} pixels; needed a value that does; try 0")
        return NodataPolicy(config.nodata, declared=True, mask=False)
    if source.nodata is not None and fits(source.nodata, dtype):
        return NodataPolicy(source.nodata, declared=True, mask=False)
    if ColorInterp.alpha in source.colorinterp:
        return NodataPolicy(0, declared=False, mask=False)
    return NodataPolicy(math.nan if dtype.startswith("float") else 0, declared=False, mask=True)


def fits(value: float, dtype: str) -> bool:
    """Whether a value can be stored in pixels of a type (rasterio's name)."""
    if dtype.startswith(("float", "complex")):
        return not math.isinf(np.float32(value)) or math.isinf(value) or dtype in ("float64", "complex128")
    limits = np.iinfo(dtype)
    return math.isfinite(value) and float(value).is_integer() and limits.min <= int(value) <= limits.max


def create_profile(source: DatasetReader, grid: Grid, nodata: NodataPolicy, config: WarpConfig) -> dict[str, Any]:
    """Lay out the output: tiled, compressed without loss, BigTIFF when it may become large.

    Raises:
        InputError: The bands of the source differ in type.
    """
    if len(set(source.dtypes)) > 1:
        raise InputError(
            f"{source.name} has bands of the types {', '.join(sorted(set(source.dtypes)))}; needed a single type; "
            "convert it first, as with `gdal_translate -ot`"
        )
    declared = nodata.fill if nodata.declared else None
    return layout(grid, source.count, source.dtypes[0], declared) | creation_options(source, config)


def layout(grid: Grid, count: int, dtype: str, nodata: float | None) -> dict[str, Any]:
    """What a GeoTIFF holds, as rasterio has it; how it is stored comes on top (``storage_options``)."""
    profile = {
        "driver": "GTiff",
        "width": grid.width,
        "height": grid.height,
        "count": count,
        "dtype": dtype,
        "crs": grid.crs,
        "nodata": nodata,
    }
    if grid.transform is not None:
        profile["transform"] = grid.transform
    return profile


def creation_options(source: DatasetReader, config: WarpConfig) -> dict[str, str]:
    """Creation options of GDAL's GTiff driver for a file like the source.

    A file that is only to become a COG is compressed quickly; what is configured is for the COG.
    """
    if config.format is RasterFormat.COG:
        config = replace(config, creation_options=(("ZLEVEL", "1"),))
    return storage_options(source.count, source.dtypes[0], config, _photometric(source))


def storage_options(count: int, dtype: str, config: WarpConfig, photometric: str | None = None) -> dict[str, str]:
    """Creation options of GDAL's GTiff driver: the defaults below, replaced by the configured ones."""
    tile = str(math.gcd(config.block_size, _TILE))
    options = {
        "TILED": "YES",
        "BLOCKXSIZE": tile,
        "BLOCKYSIZE": tile,
        "COMPRESS": "DEFLATE",
        "BIGTIFF": "IF_SAFER",
        "INTERLEAVE": "PIXEL" if count <= _MAX_PIXEL_INTERLEAVED else "BAND",
    }
    if photometric is not None:
        options["PHOTOMETRIC"] = photometric
    options |= _configured(config)
    if "PREDICTOR" not in options and options["COMPRESS"].upper() in _TAKE_PREDICTOR:
        options["PREDICTOR"] = _predictor(dtype)
    return options


def cog_options(dtype: str, config: WarpConfig) -> dict[str, str]:
    """Creation options of GDAL's COG driver: the defaults below, replaced by the configured ones."""
    options = {"COMPRESS": "DEFLATE", "BIGTIFF": "IF_SAFER"} | _configured(config)
    if "PREDICTOR" not in options and options["COMPRESS"].upper() in _TAKE_PREDICTOR:
        options["PREDICTOR"] = "NO" if dtype.startswith("complex") else "YES"
    return options


def _configured(config: WarpConfig) -> dict[str, str]:
    return {name.upper(): value for name, value in config.creation_options}


@contextmanager
def create(path: Path, output: Path, source: DatasetReader, profile: dict[str, Any]) -> Iterator[DatasetWriter]:
    """Create the file, give it what the source says about its bands, and see that it is complete in the end.

    Args:
        path: Where to write.
        output: The name that errors speak of.
        source: The raster whose names, tags, colours, scales and units are taken over.
        profile: As from ``create_profile``.

    Raises:
        WriteError, UsageError: As ``create_empty``.
    """
    with create_empty(path, output, profile) as target:
        _inherit(source, target)
        yield target


@contextmanager
def create_empty(path: Path, output: Path, profile: dict[str, Any]) -> Iterator[DatasetWriter]:
    """Create the file; see that it is complete when the block ends.

    Args:
        path: Where to write.
        output: The name that errors speak of.
        profile: As from ``create_profile``.

    Raises:
        WriteError: The file could not be written completely.
        UsageError: GDAL does not know a creation option or its value.
    """
    with gdal_writes(output):
        with _open_for_writing(path, profile) as target:
            yield target
        require_complete(path, output)


@contextmanager
def gdal_writes(output: Path) -> Iterator[None]:
    """Let GDAL write within the block, masks into the file itself.

    Args:
        output: The name that errors speak of.

    Raises:
        WriteError: GDAL could not write.
    """
    try:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), _warnings_held_back(), libtiff_silent():
            yield
    except (RasterioError, CPLE_BaseError) as error:
        raise _unwritable(output, " ".join(str(error.__cause__ or error).split())) from error


@contextmanager
def _warnings_held_back() -> Iterator[None]:
    """Pass on what GDAL warns of only if the block ends well: else its error says it all, in one line."""
    collector = _Collector()
    _GDAL_LOG.addHandler(collector)
    _GDAL_LOG.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    finally:
        _GDAL_LOG.removeHandler(collector)
        _GDAL_LOG.propagate = True
    for record in collector.records:
        _GDAL_LOG.handle(record)


@contextmanager
def options_understood(driver: str) -> Iterator[None]:
    """Refuse creation options that GDAL passes over, with a warning, within the block.

    Raises:
        UsageError: The driver does not know an option or its value.
    """
    collector = _Collector()
    _GDAL_LOG.addHandler(collector)
    try:
        yield
    finally:
        _GDAL_LOG.removeHandler(collector)
    messages = (record.getMessage() for record in collector.records)
    said = [text.partition(" in ")[2] for text in messages if text.startswith(_NOT_UNDERSTOOD)]
    if said:
        raise UsageError(
            f"GDAL does not take a creation option ({said[0]}); needed one of its {driver} driver's; check --co"
        )


def _open_for_writing(path: Path, profile: dict[str, Any]) -> DatasetWriter:
    """Create the file, and refuse options that GDAL would pass over with a warning."""
    with options_understood("GTiff"):
        return rasterio.open(path, "w", **profile)


class _Collector(logging.Handler):
    """Keeps what GDAL warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message of rasterio's log."""
        self.records.append(record)


def _photometric(source: DatasetReader) -> str | None:
    colours = source.colorinterp
    if ColorInterp.palette in colours:
        return None
    is_rgb = colours[:3] == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    return "RGB" if is_rgb else "MINISBLACK"


def _predictor(dtype: str) -> str:
    if dtype.startswith("float"):
        return "3"
    return "1" if dtype.startswith("complex") else "2"


def _inherit(source: DatasetReader, target: DatasetWriter) -> None:
    target.colorinterp = source.colorinterp
    target.descriptions = source.descriptions
    target.update_tags(**_lasting(source.tags()))
    if any(scale != 1 for scale in source.scales) or any(offset != 0 for offset in source.offsets):
        target.scales, target.offsets = source.scales, source.offsets
    if any(source.units):
        target.units = [unit or "" for unit in source.units]
    for band, colour in enumerate(source.colorinterp, start=1):
        target.update_tags(band, **_lasting(source.tags(band)))
        if colour is ColorInterp.palette:
            target.write_colormap(band, source.colormap(band))


def _lasting(tags: dict[str, str]) -> dict[str, str]:
    """Tags that hold for the warped image too: no statistics of the old pixels, nothing of the old grid."""
    return {key: value for key, value in tags.items() if not key.startswith("STATISTICS_") and key != "AREA_OR_POINT"}


def require_complete(path: Path, output: Path) -> None:
    """Check that every tile lies within the file: GDAL reports a full disk to nobody when it closes a file.

    Args:
        path: A TIFF; its masks and overviews are looked at, too.
        output: The name that errors speak of.

    Raises:
        WriteError: A tile is missing.
    """
    size = path.stat().st_size
    for directory in counted(1):
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
    """Offset and length of each tile in the file, bytes."""
    planes = range(1, dataset.count + 1) if dataset.interleaving.name == "band" else (1,)
    for band in planes:
        for (row, column), _ in dataset.block_windows(band):
            names = (f"BLOCK_{what}_{column}_{row}" for what in ("OFFSET", "SIZE"))
            start, length = (int(dataset.get_tag_item(name, "TIFF", bidx=band) or 0) for name in names)
            yield start, length


def _unwritable(output: Path, said: str) -> WriteError:
    with suppress(OSError):
        if shutil.disk_usage(output.parent).free < _NO_ROOM:
            said = os.strerror(errno.ENOSPC)
    return WriteError(f"cannot write {output} ({said}); needed write access, room and valid options; check the disk")

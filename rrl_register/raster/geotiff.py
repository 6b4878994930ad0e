"""The GeoTIFF that a warped image is written to: its layout, what it inherits, and how it says "no data"."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError  # some of GDAL's errors reach the caller of rasterio as they are
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, DatasetWriter

from rrl_register.config import WarpConfig
from rrl_register.errors import InputError, UsageError, WriteError
from rrl_register.raster.grid import Grid
from rrl_register.raster.reader import open_dataset

_TILE = 512
_MAX_PIXEL_INTERLEAVED = 4
"""With more bands, a tile that holds all of them would cost too much memory."""


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
    """GDAL's creation options for a file like the source."""
    return storage_options(source.count, source.dtypes[0], config, _photometric(source))


def storage_options(count: int, dtype: str, config: WarpConfig, photometric: str | None = None) -> dict[str, str]:
    """GDAL's creation options: the defaults below, replaced by the configured ones."""
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
    options |= {name.upper(): value for name, value in config.creation_options}
    if "PREDICTOR" not in options and options["COMPRESS"].upper() in ("DEFLATE", "LZW", "ZSTD"):
        options["PREDICTOR"] = _predictor(dtype)
    return options


@contextmanager
def create(path: Path, output: Path, source: DatasetReader, profile: dict[str, Any]) -> Iterator[DatasetWriter]:
    """Create the file and give it what the source says about its bands.

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
    try:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), _open_for_writing(path, profile) as target:
            yield target
    except (RasterioError, CPLE_BaseError) as error:
        raise _unwritable(output, " ".join(str(error.__cause__ or error).split())) from error
    _require_complete(path, output)


def _open_for_writing(path: Path, profile: dict[str, Any]) -> DatasetWriter:
    """Create the file, and refuse options that GDAL would pass over with a warning."""
    complaints = _Complaints()
    gdal_log = logging.getLogger("rasterio._env")
    gdal_log.addHandler(complaints)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            target = rasterio.open(path, "w", **profile)
    finally:
        gdal_log.removeHandler(complaints)
    if complaints.said:
        target.close()
        raise UsageError(
            f"GDAL does not take a creation option ({complaints.said[0]}); needed one of its GTiff driver's; check --co"
        )
    return target


class _Complaints(logging.Handler):
    """Collects what GDAL says about options that it does not understand."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(("CPLE_NotSupported", "CPLE_IllegalArg")):
            self.said.append(message.partition(" in ")[2])


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


def _require_complete(path: Path, output: Path) -> None:
    """Check that every tile lies within the file: GDAL reports a full disk to nobody when it closes a file."""
    size = path.stat().st_size
    with open_dataset(path) as written:
        planes = range(1, written.count + 1) if written.interleaving.name == "band" else (1,)
        for band in planes:
            for (row, column), _ in written.block_windows(band):
                start, length = _tile_place(written, band, row, column)
                if start + length > size or length == 0:
                    raise _unwritable(output, f"the file ended at {size} bytes, before its last tile")


def _tile_place(dataset: DatasetReader, band: int, row: int, column: int) -> tuple[int, int]:
    """Offset and length of a tile in the file, bytes."""
    name = f"{column}_{row}"
    start, length = (dataset.get_tag_item(f"BLOCK_{what}_{name}", "TIFF", bidx=band) for what in ("OFFSET", "SIZE"))
    return int(start or 0), int(length or 0)


def _unwritable(output: Path, said: str) -> WriteError:
    return WriteError(f"cannot write {output} ({said}); needed write access, room and valid options; check the disk")

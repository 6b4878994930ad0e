"""The GeoTIFF that an image is written to: its layout, its nodata value, and the metadata that it inherits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.io import DatasetReader, DatasetWriter, MemoryFile

from rrl_register import config as settings
from rrl_register.config import RasterFormat, WarpConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.raster.grid import Grid
from rrl_register.raster.memory import WRITE_CACHE, limited_block_cache
from rrl_register.raster.write_guard import refused_options, require_complete, write_guard
from rrl_register.raster.writer import atomic_path, scratch_path

_SMALLEST_OVERVIEW = 512
"""An image whose longer side is at most this, px, needs no further overview."""


@contextmanager
def stored_raster(
    output: Path, source: DatasetReader, grid: Grid, nodata: NodataPolicy, config: WarpConfig, overwrite: bool
) -> Iterator[DatasetWriter]:
    """Open a raster for writing; when the block ends well, it is finished as configured and appears under its name.

    Args:
        output: The file to appear.
        source: The raster whose bands are written, warped or not.
        grid: Size and georeference of the output.
        nodata: The mark of pixels without data.
        config: Format, overviews and creation options.
        overwrite: Whether an existing output may be replaced.

    Raises:
        InputError: The bands of the source differ in type.
        OutputExistsError: The output exists and may not be replaced.
        UsageError: GDAL does not know a creation option or its value.
        WriteError: The file could not be written completely.
    """
    profile = create_profile(source, grid, nodata, config)
    resampling = overview_resampling(source, config)
    with limited_block_cache(WRITE_CACHE), atomic_path(output, overwrite) as temporary:
        if config.format is RasterFormat.COG:
            options = cog_options(source.dtypes[0], config) | {"OVERVIEW_RESAMPLING": resampling.name.upper()}
            _try_cog(profile, options, output)
            with scratch_path(output) as tiles:
                with create(tiles, output, profile, source) as target:
                    yield target
                # A copy, because rasterio's COG driver, written to directly, would hold all of it in memory.
                with write_guard(output):
                    rasterio.shutil.copy(tiles, temporary, driver="COG", **options)
                    require_complete(temporary, output)
        else:
            with create(temporary, output, profile, source) as target:
                yield target
            if config.overviews:
                _add_overviews(temporary, resampling, output)


def overview_resampling(source: DatasetReader, config: WarpConfig) -> Resampling:
    """Choose average for measurements; nearest for palettes, classes and complex pixels, which have no mean."""
    without_mean = (
        ColorInterp.palette in source.colorinterp
        or source.dtypes[0].startswith("complex")
        or config.resampling is settings.Resampling.NEAREST
    )
    return Resampling.nearest if without_mean else Resampling.average


def overview_factors(shape: tuple[int, int]) -> list[int]:
    """List the reductions by 2, 4, ... down to an image that is small."""
    halvings = math.ceil(math.log2(max(1, max(shape) / _SMALLEST_OVERVIEW)))
    return [2**n for n in range(1, halvings + 1)]


def _add_overviews(path: Path, resampling: Resampling, output: Path) -> None:
    with write_guard(output):
        with rasterio.open(path, "r+") as dataset:
            if factors := overview_factors(dataset.shape):
                dataset.build_overviews(factors, resampling)
        require_complete(path, output)


def _try_cog(profile: dict[str, Any], options: dict[str, str], output: Path) -> None:
    """Make a tiny COG, so that options that GDAL refuses are reported before the work and not after it."""
    tiny = {"driver": "GTiff", "width": 16, "height": 16, "count": profile["count"], "dtype": profile["dtype"]}
    with write_guard(output), refused_options("COG"), MemoryFile() as source, MemoryFile() as target:
        with source.open(**tiny):
            pass
        rasterio.shutil.copy(source.name, target.name, driver="COG", **options)


_TILE = 512
_MAX_PIXEL_INTERLEAVED = 4
"""With more bands, a tile that holds all of them would cost too much memory."""
_TAKE_PREDICTOR = ("DEFLATE", "LZW", "ZSTD")


@dataclass(frozen=True)
class NodataPolicy:
    """The mark of pixels without data.

    Attributes:
        fill: Value that they get.
        declared: Whether the file declares that value as nodata.
        mask: Whether the file gets a mask of its own, so that ``fill`` stays a valid value elsewhere.
    """

    fill: float
    declared: bool
    mask: bool


def choose_nodata(source: DatasetReader, config: WarpConfig) -> NodataPolicy:
    """Decide how the output marks pixels without data: as configured, else as the source does, else by a mask.

    If the source has neither nodata value nor alpha band, the file gets a mask; under it lie zeros, or NaN for floats.

    Raises:
        UsageError: The configured value does not fit the pixel type.
    """
    dtype = source.dtypes[0]
    if config.nodata is not None:
        if not fits(config.nodata, dtype):
            raise UsageError(f"Nodata {config.nodata:g} does not fit {dtype} pixels; try 0")
        return NodataPolicy(config.nodata, declared=True, mask=False)
    inherited = _nodata_of(source)
    if inherited is not None:
        return NodataPolicy(inherited, declared=True, mask=False)
    if ColorInterp.alpha in source.colorinterp:
        return NodataPolicy(0, declared=False, mask=False)
    return NodataPolicy(math.nan if dtype.startswith("float") else 0, declared=False, mask=True)


def inherited_nodata(source: DatasetReader) -> NodataPolicy:
    """Describe how a source marks pixels without data, for a copy of its pixels."""
    nodata = _nodata_of(source)
    by_mask = MaskFlags.per_dataset in source.mask_flag_enums[0] and ColorInterp.alpha not in source.colorinterp
    return NodataPolicy(0.0 if nodata is None else nodata, nodata is not None, by_mask)


def _nodata_of(source: DatasetReader) -> float | None:
    """Return the first band's nodata value that the pixel type can hold; a GeoTIFF has one for all bands."""
    return next((value for value in source.nodatavals if value is not None and fits(value, source.dtypes[0])), None)


def fits(value: float, dtype: str) -> bool:
    """Return true if pixels of a type (rasterio's name) can store a value."""
    if dtype.startswith(("float", "complex")):
        with np.errstate(over="ignore"):
            return not math.isinf(np.float32(value)) or math.isinf(value) or dtype in ("float64", "complex128")
    limits = np.iinfo(dtype)
    return math.isfinite(value) and float(value).is_integer() and limits.min <= int(value) <= limits.max


def create_profile(source: DatasetReader, grid: Grid, nodata: NodataPolicy, config: WarpConfig) -> dict[str, Any]:
    """Lay out an output like the source: tiled, compressed without loss, BigTIFF if it may become large.

    A file that is only to become a COG is compressed quickly; the configured creation options are for the COG.

    Raises:
        InputError: The bands of the source differ in type.
    """
    if len(set(source.dtypes)) > 1:
        raise InputError(
            f"{source.name} has bands of the types {', '.join(sorted(set(source.dtypes)))}; a single type is needed; "
            "convert it first, as with `gdal_translate -ot`"
        )
    colours = source.colorinterp
    is_rgb = colours[:3] == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    photometric = None if ColorInterp.palette in colours else "RGB" if is_rgb else "MINISBLACK"
    configured = {"ZLEVEL": "1"} if config.format is RasterFormat.COG else _configured(config)
    dtype, declared = source.dtypes[0], nodata.fill if nodata.declared else None
    stored = _storage_options(source.count, dtype, config.block_size, configured, photometric)
    return layout(grid, source.count, dtype, declared) | stored


def layout(grid: Grid, count: int, dtype: str, nodata: float | None) -> dict[str, Any]:
    """Describe the content of a GeoTIFF for rasterio; ``storage_options`` describes how it is stored."""
    profile = {"driver": "GTiff", "width": grid.width, "height": grid.height, "count": count, "dtype": dtype}
    profile |= {"crs": grid.crs, "nodata": nodata}
    return profile if grid.transform is None else profile | {"transform": grid.transform}


def storage_options(count: int, dtype: str, config: WarpConfig) -> dict[str, str]:
    """Choose creation options of GDAL's GTiff driver: the defaults below, replaced by the configured ones."""
    return _storage_options(count, dtype, config.block_size, _configured(config))


def _storage_options(
    count: int, dtype: str, block_size: int, configured: dict[str, str], photometric: str | None = None
) -> dict[str, str]:
    tile = str(math.gcd(block_size, _TILE))
    options = {"TILED": "YES", "BLOCKXSIZE": tile, "BLOCKYSIZE": tile, "COMPRESS": "DEFLATE", "BIGTIFF": "IF_SAFER"}
    options["INTERLEAVE"] = "PIXEL" if count <= _MAX_PIXEL_INTERLEAVED else "BAND"
    if photometric is not None:
        options["PHOTOMETRIC"] = photometric
    return _with_predictor(options | configured, "3" if dtype.startswith("float") else "2", "1", dtype)


def cog_options(dtype: str, config: WarpConfig) -> dict[str, str]:
    """Choose creation options of GDAL's COG driver: the defaults below, replaced by the configured ones."""
    return _with_predictor({"COMPRESS": "DEFLATE", "BIGTIFF": "IF_SAFER"} | _configured(config), "YES", "NO", dtype)


def _configured(config: WarpConfig) -> dict[str, str]:
    return {name.upper(): value for name, value in config.creation_options}


def _with_predictor(options: dict[str, str], predictor: str, none: str, dtype: str) -> dict[str, str]:
    """Add a predictor to a compression that takes one; complex pixels take none."""
    if "PREDICTOR" in options or options["COMPRESS"].upper() not in _TAKE_PREDICTOR:
        return options
    return options | {"PREDICTOR": none if dtype.startswith("complex") else predictor}


@contextmanager
def create(
    path: Path, output: Path, profile: dict[str, Any], source: DatasetReader | None = None
) -> Iterator[DatasetWriter]:
    """Create a file; check that it is complete when the block ends.

    Args:
        path: Where to write.
        output: The name to use in errors.
        profile: As from ``create_profile``.
        source: The raster whose names, tags, colours, scales and units are taken over; None: none.

    Raises:
        WriteError: The file could not be written completely.
        UsageError: GDAL does not know a creation option or its value.
    """
    with write_guard(output):
        with refused_options("GTiff"):
            target = rasterio.open(path, "w", **profile)
        with target:
            if source is not None:
                _inherit(source, target)
            yield target
        require_complete(path, output)


def _inherit(source: DatasetReader, target: DatasetWriter) -> None:
    """Take over what describes the bands, but no statistics of the old pixels and nothing of the old grid."""

    def lasting(tags: dict[str, str]) -> dict[str, str]:
        """Leave out tags that do not hold for the new pixels."""
        return {key: text for key, text in tags.items() if not key.startswith("STATISTICS_") and key != "AREA_OR_POINT"}

    target.colorinterp = source.colorinterp
    target.descriptions = source.descriptions
    target.update_tags(**lasting(source.tags()))
    if any(scale != 1 for scale in source.scales) or any(offset != 0 for offset in source.offsets):
        target.scales, target.offsets = source.scales, source.offsets
    if any(source.units):
        target.units = [unit or "" for unit in source.units]
    for band, colour in enumerate(source.colorinterp, start=1):
        target.update_tags(band, **lasting(source.tags(band)))
        if colour is ColorInterp.palette:
            target.write_colormap(band, source.colormap(band))

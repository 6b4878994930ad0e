"""Putting a raster in place: written beside its name, given overviews or made a COG, renamed when it is complete."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp, Resampling
from rasterio.io import DatasetReader, DatasetWriter, MemoryFile

from rrl_register import config as settings
from rrl_register.config import RasterFormat, WarpConfig
from rrl_register.raster.geotiff import (
    NodataPolicy,
    cog_options,
    create,
    create_profile,
    gdal_writes,
    options_understood,
    require_complete,
)
from rrl_register.raster.grid import Grid
from rrl_register.raster.writer import atomic_path, scratch_path

_SMALLEST_OVERVIEW = 512
"""Longer side, px, from which on an image needs no further overview."""
_CACHE_BYTES = 256 * 1024**2
"""What GDAL keeps of all files at most; by itself it takes a twentieth of the machine's memory."""


@contextmanager
def stored_raster(
    output: Path, source: DatasetReader, grid: Grid, nodata: NodataPolicy, config: WarpConfig, overwrite: bool
) -> Iterator[DatasetWriter]:
    """Give a raster to write to; when the block ends well, it is finished as asked for and appears under its name.

    Args:
        output: The file to appear.
        source: The raster whose bands are written, warped or not.
        grid: Size and georeference of the output.
        nodata: How pixels without data are marked.
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
    with rasterio.Env(GDAL_CACHEMAX=_cache_bytes()), atomic_path(output, overwrite) as temporary:
        if config.format is RasterFormat.COG:
            options = cog_options(source.dtypes[0], config) | {"OVERVIEW_RESAMPLING": resampling.name.upper()}
            _try_cog(profile, options, output)
            with scratch_path(output) as tiles:
                with create(tiles, output, source, profile) as target:
                    yield target
                _copy_to_cog(tiles, temporary, options, output)
        else:
            with create(temporary, output, source, profile) as target:
                yield target
            if config.overviews:
                _add_overviews(temporary, resampling, output)


def _cache_bytes() -> int:
    """The bound of an environment around, if there is a lower one."""
    outer = rasterio.env.getenv().get("GDAL_CACHEMAX") if rasterio.env.hasenv() else None
    return min(int(outer or _CACHE_BYTES), _CACHE_BYTES)


def overview_resampling(source: DatasetReader, config: WarpConfig) -> Resampling:
    """Average for measurements; nearest for what has no mean: palettes, classes, and phases, which would cancel."""
    without_mean = (
        ColorInterp.palette in source.colorinterp
        or source.dtypes[0].startswith("complex")
        or config.resampling is settings.Resampling.NEAREST
    )
    return Resampling.nearest if without_mean else Resampling.average


def overview_factors(shape: tuple[int, int]) -> list[int]:
    """Reductions by 2, 4, ... down to an image that is small."""
    halvings = math.ceil(math.log2(max(1, max(shape) / _SMALLEST_OVERVIEW)))
    return [2**n for n in range(1, halvings + 1)]


def _add_overviews(path: Path, resampling: Resampling, output: Path) -> None:
    with gdal_writes(output):
        with rasterio.open(path, "r+") as dataset:
            factors = overview_factors(dataset.shape)
            if factors:
                dataset.build_overviews(factors, resampling)
        require_complete(path, output)


def _copy_to_cog(tiles: Path, path: Path, options: dict[str, str], output: Path) -> None:
    """Copy a finished GeoTIFF: rasterio's COG driver, written to directly, would hold all of it in memory."""
    with gdal_writes(output):
        rasterio.shutil.copy(tiles, path, driver="COG", **options)
        require_complete(path, output)


def _try_cog(profile: dict[str, Any], options: dict[str, str], output: Path) -> None:
    """Make a tiny COG, so that options which GDAL does not take are refused before the work and not after it."""
    tiny = {"driver": "GTiff", "width": 16, "height": 16, "count": profile["count"], "dtype": profile["dtype"]}
    with gdal_writes(output), options_understood("COG"), MemoryFile() as source, MemoryFile() as target:
        with source.open(**tiny):
            pass
        rasterio.shutil.copy(source.name, target.name, driver="COG", **options)

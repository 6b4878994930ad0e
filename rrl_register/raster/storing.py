"""Store a raster: write it beside its name, add overviews or make it a COG, rename it when it is complete."""

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
from rrl_register.raster.geotiff import NodataPolicy, cog_options, create, create_profile
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
            factors = overview_factors(dataset.shape)
            if factors:
                dataset.build_overviews(factors, resampling)
        require_complete(path, output)


def _try_cog(profile: dict[str, Any], options: dict[str, str], output: Path) -> None:
    """Make a tiny COG, so that options that GDAL refuses are reported before the work and not after it."""
    tiny = {"driver": "GTiff", "width": 16, "height": 16, "count": profile["count"], "dtype": profile["dtype"]}
    with write_guard(output), refused_options("COG"), MemoryFile() as source, MemoryFile() as target:
        with source.open(**tiny):
            pass
        rasterio.shutil.copy(source.name, target.name, driver="COG", **options)

"""Reading rasters: what a file holds, its bands at a bounded size, and which of its pixels mean something."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rrl_register.errors import InputError, UsageError
from rrl_register.raster.amplitudes import read_amplitudes
from rrl_register.raster.fill import bridge_lines, find_missing
from rrl_register.raster.grid import MIN_CONTROL_POINTS, Grid, grid_from_control
from rrl_register.raster.names import gdal_name, is_virtual

_LARGEST_VALUE = 1e37
"""Beyond this no measurement lies: undeclared fill values such as -3.4e38 do."""
_opening = threading.Lock()
"""Python's filters of warnings are the whole process's: one thread at a time changes them and puts them back."""
_GLANCE_STEP = 16
"""Every so many rows and columns show, of almost any image, that it has content."""


@dataclass(frozen=True)
class RasterInfo:
    """What a raster file says about itself.

    Attributes:
        path: The file.
        grid: Size and georeference.
        count: Bands, alpha included.
        dtype: Numpy's name of the first band's type.
        nodata: Value of the first band that stands for no data, if declared.
        descriptions: Name of each band, or None.
        colorinterp: GDAL's colour interpretation of each band, such as ``red``, ``gray``, ``alpha``.
        alpha_band: 1-based band that holds opacity, if any.
        tags: Metadata of the file.
        band_tags: Metadata of each band.
        lossy: Whether the pixels went through a lossy compression.
    """

    path: Path
    grid: Grid
    count: int
    dtype: str
    nodata: float | None
    descriptions: tuple[str | None, ...]
    colorinterp: tuple[str, ...]
    alpha_band: int | None
    tags: dict[str, str]
    band_tags: tuple[dict[str, str], ...]
    lossy: bool

    @property
    def data_bands(self) -> tuple[int, ...]:
        """All bands but alpha, 1-based."""
        return tuple(band for band in range(1, self.count + 1) if band != self.alpha_band)


class Bands(NamedTuple):
    """Bands as read for matching.

    Attributes:
        values: (B, h, w) float32, in the file's units; 0 where not valid.
        valid: (h, w) bool, where every band holds a measurement.
        factor: Pixels of the file per pixel of the arrays; ``x_read = (x_file + 0.5) / factor - 0.5``.
    """

    values: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    factor: float


@contextmanager
def open_dataset(path: Path) -> Iterator[DatasetReader]:
    """Open a raster, or say in one line why that is not possible.

    Raises:
        InputError: The file is missing, no image, damaged, or holds no band, or reading fails within the block.
    """
    try:
        with open_quietly(gdal_name(path)) as dataset:
            _require_bands(path, dataset)
            yield dataset
    except (RasterioError, OSError) as error:
        raise unreadable(path, error) from error


def open_info(path: Path) -> RasterInfo:
    """Read what a raster says about itself; no pixel is read.

    Raises:
        InputError: As ``open_dataset``.
    """
    with open_dataset(path) as dataset:
        return _describe(path, dataset)


def grid_of(dataset: DatasetReader) -> Grid:
    """Size and georeference of an open raster; GDAL's identity geotransform stands for none.

    A raster with ground control points and no geotransform, as SAR products are, gets the affine one that comes nearest
    to them.
    """
    if not dataset.transform.is_identity:
        return Grid(dataset.width, dataset.height, dataset.crs or None, dataset.transform)
    points, crs = dataset.gcps
    if crs and len(points) >= MIN_CONTROL_POINTS:
        pixels, places = (np.array([(getattr(p, x), getattr(p, y)) for p in points]) for x, y in (("col", "row"), "xy"))
        return grid_from_control(dataset.width, dataset.height, crs, pixels, places)
    return Grid(dataset.width, dataset.height, dataset.crs or None)


def read_bands(
    path: Path,
    bands: tuple[int, ...] = (),
    *,
    max_side: int | None = None,
    factor: float | None = None,
    part: tuple[float, float, float, float] | None = None,
) -> Bands:
    """Read bands for matching, averaged down to a bounded size; complex bands are read as amplitudes.

    GDAL averages piece by piece, from overviews where there are some, so that no more than the result and GDAL's block
    cache is ever held.

    A pixel is valid where the file's nodata values, alpha band and mask say so, every band is finite, and it belongs to
    no undeclared gap: a black border, a missing line or a missing block. Narrow missing lines are interpolated and
    count as valid (see ``rrl_register.raster.fill``).

    Args:
        path: The file.
        bands: 1-based bands; empty: all but alpha.
        max_side: Longest side of the arrays, px; None: as ``factor`` says.
        factor: File pixels per array pixel, >= 1; None: as ``max_side`` says, else 1.
        part: Left and top edge, width and height of the part of the file to read, px; None: all of it. Other than a
            whole file it may turn out to be empty.

    Raises:
        InputError: The file cannot be read, or, read whole, has no valid pixel or is the same everywhere.
        UsageError: A band does not exist.
    """
    with open_dataset(path) as dataset:
        grid = grid_of(dataset)
        step = _reduction_factor(grid, max_side, factor)
        values, valid = _read_region(dataset, _describe(path, dataset), bands, _reduced_region(grid, step, part))
    read = Bands(values, valid, step)
    if part is None:
        require_content(path, read)
    return read


def has_content(bands: Bands) -> bool:
    """Whether there are valid pixels, and not all of them the same."""
    return any(_differ(bands.values[:, ::step, ::step], bands.valid[::step, ::step]) for step in (_GLANCE_STEP, 1))


def _differ(values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> bool:
    """Whether some band ``(B, H, W)`` has two values where it is valid."""
    inside = values[:, valid]
    return bool(inside.size) and not np.all(inside.min(axis=1) == inside.max(axis=1))


def read_sample(path: Path, bands: tuple[int, ...] = (), side: int = 1024) -> Bands:
    """Read the middle of a raster at full resolution, where noise has its true nature.

    Args:
        path: The file.
        bands: 1-based bands; empty: all but alpha.
        side: Longest side of the part to read, px.

    Returns:
        The bands, with ``factor`` 1; perhaps without a single valid pixel.

    Raises:
        InputError: The file cannot be read.
        UsageError: A band does not exist.
    """
    with open_dataset(path) as dataset:
        region = _middle_region(grid_of(dataset), side)
        values, valid = _read_region(dataset, _describe(path, dataset), bands, region)
    return Bands(values, valid, 1.0)


def unreadable(path: Path, error: Exception) -> InputError:
    """Say in one line why a raster cannot be read, given what GDAL said."""
    # The path may be one of GDAL's own names (/vsizip/..., a subdataset), so the file system is asked only afterwards.
    if not path.exists() and not is_virtual(path):
        return InputError(f"there is no file {path}; needed a raster that GDAL reads; check the path")
    if path.is_dir():
        return InputError(f"{path} is a folder; needed a raster file; name a file in it")
    if path.is_file() and path.stat().st_size == 0:
        return InputError(f"{path} is empty; needed a raster that GDAL reads; copy the file again")
    said = " ".join(str(error.__cause__ or error).split())
    return InputError(f"cannot read {path} ({said}); needed an intact raster that GDAL reads; try `rio info` on it")


def open_quietly(name: Path | str) -> DatasetReader:
    """Open what GDAL has a name for, without rasterio's warning of what has no georeference; in any thread."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(name)


def _require_bands(path: Path, dataset: DatasetReader) -> None:
    if dataset.count > 0:
        return
    parts = dataset.subdatasets
    hint = f"try one of its {len(parts)} parts, such as {parts[0]}" if parts else "try another file"
    raise InputError(f"{path} holds no band of its own; needed at least one; {hint}")


def _describe(path: Path, dataset: DatasetReader) -> RasterInfo:
    colours = dataset.colorinterp
    compression = dataset.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "")
    return RasterInfo(
        path=path,
        grid=grid_of(dataset),
        count=dataset.count,
        dtype=dataset.dtypes[0],
        nodata=dataset.nodata,
        descriptions=tuple(dataset.descriptions),
        colorinterp=tuple(colour.name for colour in colours),
        alpha_band=colours.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in colours else None,
        tags=dict(dataset.tags()),
        band_tags=tuple(dict(dataset.tags(band)) for band in range(1, dataset.count + 1)),
        lossy=dataset.driver == "JPEG" or "JPEG" in compression,
    )


def checked_bands(info: RasterInfo, bands: tuple[int, ...]) -> tuple[int, ...]:
    """The bands to read, 1-based: those asked for, or all but alpha.

    Raises:
        InputError: There is none but alpha.
        UsageError: One does not exist.
    """
    missing = [band for band in bands if not 1 <= band <= info.count]
    if missing:
        raise UsageError(f"{info.path} has no band {missing[0]}; needed one of 1 to {info.count}; choose another")
    chosen = bands or info.data_bands
    if not chosen:
        raise InputError(f"{info.path} holds an alpha band only; needed a band of data; try another file")
    return chosen


def _reduction_factor(grid: Grid, max_side: int | None, factor: float | None) -> float:
    if factor is not None:
        return max(1.0, float(factor))
    return 1.0 if max_side is None else max(1.0, max(grid.shape) / max_side)


class _Region(NamedTuple):
    """A part of a file, px of the file, and the (rows, columns) of the arrays that it is averaged down to."""

    window: Window
    shape: tuple[int, int]


def _reduced_region(grid: Grid, factor: float, part: tuple[float, float, float, float] | None) -> _Region:
    left, top, width, height = part or (0, 0, grid.width, grid.height)
    rows, columns = (max(1, math.floor(side / factor + 1e-9)) for side in (height, width))
    return _Region(Window(left, top, min(columns * factor, width), min(rows * factor, height)), (rows, columns))


def _middle_region(grid: Grid, side: int) -> _Region:
    width, height = min(side, grid.width), min(side, grid.height)
    return _Region(Window((grid.width - width) // 2, (grid.height - height) // 2, width, height), (height, width))


def _read_region(
    dataset: DatasetReader, info: RasterInfo, bands: tuple[int, ...], region: _Region
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    chosen = checked_bands(info, bands)
    values = _read_values(dataset, chosen, region)
    valid = _declared_valid(dataset, info, chosen, region)
    if not all(dataset.dtypes[band - 1].startswith(("int", "uint")) for band in chosen):
        valid &= np.all(np.abs(values) < _LARGEST_VALUE, axis=0)  # neither is what is not finite
    bridge_lines(values, valid)
    valid &= ~find_missing(values, tolerance=_black_level(info), grow=4 if info.lossy else 2)
    if not valid.all():
        values[:, ~valid] = 0
    return values, valid


def _read_values(dataset: DatasetReader, bands: tuple[int, ...], region: _Region) -> npt.NDArray[np.float32]:
    if not dataset.dtypes[0].startswith("complex"):
        return _read_average(dataset, bands, region)
    if region.shape != (region.window.height, region.window.width):
        return read_amplitudes(dataset, bands, region.window, region.shape)
    amplitude: npt.NDArray[np.float32] = np.abs(dataset.read(bands, window=region.window)).astype(np.float32)
    return amplitude


def _read_average(dataset: DatasetReader, bands: tuple[int, ...], region: _Region) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = dataset.read(
        bands,
        window=region.window,
        out_shape=(len(bands), *region.shape),
        resampling=Resampling.average,
        out_dtype="float32",
    )
    return values


def _declared_valid(
    dataset: DatasetReader, info: RasterInfo, bands: tuple[int, ...], region: _Region
) -> npt.NDArray[np.bool_]:
    """Where nodata values, mask and alpha leave at least half of a (reduced) pixel, in every band."""
    if info.alpha_band is None and all(dataset.mask_flag_enums[band - 1] == [MaskFlags.all_valid] for band in bands):
        return np.ones(region.shape, bool)
    masks = dataset.read_masks(
        bands, window=region.window, out_shape=(len(bands), *region.shape), resampling=Resampling.average
    )
    valid: npt.NDArray[np.bool_] = np.all(masks >= 128, axis=0)
    if info.alpha_band is not None:
        # Opacity is not always announced as the mask of the other bands.
        valid &= _read_average(dataset, (info.alpha_band,), region)[0] > 0
    return valid


def _black_level(info: RasterInfo) -> float:
    """Largest value that may belong to black fill: a lossy compression rings into it, be it of an earlier file."""
    return 8.0 if info.dtype == "uint8" else 0.0


def require_content(path: Path, bands: Bands) -> None:
    """Refuse a file that holds nothing.

    Raises:
        InputError: It has no valid pixel, or is the same everywhere.
    """
    if has_content(bands):
        return
    if not bands.valid.any():
        raise InputError(f"{path} has no valid pixel (all nodata, masked or black); needed an image; try another file")
    raise InputError(
        f"{path} has the same value in all its {bands.valid.sum()} valid pixels; needed content; try other bands"
    )

"""Reading rasters: opening them with errors in one line, what they declare, and their bands at a bounded size."""

from __future__ import annotations

import logging
import math
import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rrl_register.config.files import is_special
from rrl_register.errors import InputError, UsageError
from rrl_register.raster.alpha import alpha_band, measures, untagged_bands, without_alpha
from rrl_register.raster.grid import Grid, grid_of
from rrl_register.raster.region import Region, is_lossy, read_average, valid_pixels

logger = logging.getLogger(__name__)

_LOOKED_AT = 256
"""Longest side at which a band is searched for content, px."""
_ARCHIVES = re.compile(r"^(/vsi(?:zip|gzip|tar|7z|rar)/)(?=[^/{])(.+)$")
_UNREACHABLE = "127.0.0.1:9"
"""A proxy that does not exist: a request ends there, before a name is looked up."""
_SCHEME = re.compile(r"(https?|ftp|s3|gs):/(?!/)")


def is_virtual(path: Path) -> bool:
    """Return true for one of GDAL's own paths (``/vsizip/...``, ``/vsicurl/...``), unknown to the file system."""
    return str(path).startswith("/vsi")


def gdal_name(path: Path) -> str:
    """Return the name by which GDAL opens a path.

    A ``Path`` keeps only one of two slashes. GDAL needs both: after ``https:``, and before an archive that is named
    from the root of the file system (``/vsizip//data/scenes.zip/a.tif``) or lies behind another such name.
    """
    text = str(path)
    if not is_virtual(path):
        return text
    text = _SCHEME.sub(r"\1://", text)
    in_archive = _ARCHIVES.match(text)
    if in_archive is None:
        return text
    prefix, rest = in_archive.groups()
    if rest.startswith("vsi"):
        return prefix + gdal_name(Path("/", rest))
    from_root = not _leads_to_file(Path(rest)) and _leads_to_file(Path("/", rest))
    return f"{prefix}/{rest}" if from_root else text


def _leads_to_file(path: Path) -> bool:
    """Return true if a path or the beginning of it is a file."""
    return any(part.is_file() for part in (path, *path.parents))


_OFFLINE = {"CPL_VSIL_CURL_ALLOWED_FILENAME": "none", "GDAL_HTTP_PROXY": _UNREACHABLE, "GDAL_HTTPS_PROXY": _UNREACHABLE}
_opening = threading.Lock()
"""Python's filters of warnings belong to the process: one thread at a time changes and restores them."""
_SPARSE_STEP = 16
"""Every so many rows and columns show, of almost any image, that it has content."""


@dataclass(frozen=True)
class RasterInfo:
    """The declarations of a raster file.

    Attributes:
        path: The file.
        grid: Size and georeference.
        count: Bands, alpha included.
        dtype: Numpy's name of the first band's type.
        nodata: Value of the first band that stands for no data, if declared.
        descriptions: Name of each band, or None.
        colorinterp: GDAL's colour interpretation of each band, such as ``red``, ``gray``, ``alpha``.
        alpha_band: 1-based band that holds opacity, if any.
        untagged: 1-based bands that are tagged as alpha and hold measurements.
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
    untagged: tuple[int, ...]
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


def open_quietly(name: Path | str) -> DatasetReader:
    """Open a raster by GDAL's name for it, without rasterio's warning if it has no georeference; in any thread.

    A band that is tagged as alpha and holds measurements, by what it holds or ``as_measurements``, is one like others.
    """
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = rasterio.open(name)
        alpha = alpha_band(dataset)
        if alpha is None or not (_measured[str(name)] > 0 or measures(dataset, alpha)):
            return dataset
        with dataset:
            return rasterio.open(without_alpha(dataset))


_measured: Counter[str] = Counter()
"""GDAL's names of the files whose bands all hold measurements, for now."""


@contextmanager
def as_measurements(*paths: Path, wanted: bool = True) -> Iterator[None]:
    """Read no band of these files as alpha within the block, in any thread, if that is wanted."""
    names = Counter(gdal_name(path) for path in paths if wanted)
    _measured.update(names)
    try:
        yield
    finally:
        _measured.subtract(names)


def gdal_offline(path: Path) -> rasterio.Env:
    """Return an environment in which GDAL asks no server, unless the path is one of its own names.

    A file can name addresses: as a source of a VRT, or as a description of a web service.
    """
    return rasterio.Env(**({} if is_virtual(path) else _OFFLINE))


@contextmanager
def open_dataset(path: Path) -> Iterator[DatasetReader]:
    """Open a raster, or raise an error of one line.

    Raises:
        InputError: The file is missing, no image, damaged, or holds no band, or reading fails within the block.
    """
    if is_special(path):
        raise InputError(f"{path} is a device or a pipe; name a raster file")
    try:
        with gdal_offline(path), open_quietly(gdal_name(path)) as dataset:
            if dataset.count == 0:
                parts = dataset.subdatasets
                hint = f"try one of its {len(parts)} parts, such as {parts[0]}" if parts else "try another file"
                raise InputError(f"{path} holds no band of its own; {hint}")
            yield dataset
    except (RasterioError, OSError, UnicodeEncodeError) as error:  # GDAL takes names in UTF-8 alone
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> InputError:
    """Explain in one line why a raster cannot be read, given GDAL's error."""
    # The path may be one of GDAL's own names (/vsizip/..., a subdataset), so the file system is consulted only now.
    if not path.exists() and not is_virtual(path):
        return InputError(f"There is no file {path}; check the path")
    if path.is_dir():
        return InputError(f"{path} is a folder; name a raster file in it")
    if path.is_file() and path.stat().st_size == 0:
        return InputError(f"{path} is empty; copy the file again")
    reason = " ".join(str(error.__cause__ or error).split())
    return InputError(f"Cannot read {path} ({reason}); GDAL has to be able to read it; try `rio info` on it")


def open_info(path: Path) -> RasterInfo:
    """Read the declarations of a raster; no pixel is read.

    Raises:
        InputError: As ``open_dataset``.
    """
    with open_dataset(path) as dataset:
        return _describe(path, dataset)


def _describe(path: Path, dataset: DatasetReader) -> RasterInfo:
    return RasterInfo(
        path=path,
        grid=grid_of(dataset),
        count=dataset.count,
        dtype=dataset.dtypes[0],
        nodata=dataset.nodata,
        descriptions=tuple(dataset.descriptions),
        colorinterp=tuple(colour.name for colour in dataset.colorinterp),
        alpha_band=alpha_band(dataset),
        untagged=untagged_bands(dataset),
        tags=dict(dataset.tags()),
        band_tags=tuple(dict(dataset.tags(band)) for band in range(1, dataset.count + 1)),
        lossy=is_lossy(dataset),
    )


def chosen_bands(info: RasterInfo, bands: tuple[int, ...]) -> tuple[int, ...]:
    """Choose the bands to read, 1-based: those given, or all but alpha.

    Raises:
        InputError: There is none but alpha.
        UsageError: One does not exist.
    """
    missing = [band for band in bands if not 1 <= band <= info.count]
    if missing:
        raise UsageError(f"{info.path} has no band {missing[0]}; choose from 1 to {info.count}")
    chosen = bands or info.data_bands
    if not chosen:
        raise InputError(f"{info.path} holds an alpha band only; try another file")
    return chosen


def read_bands(
    path: Path,
    bands: tuple[int, ...] = (),
    *,
    max_side: int | None = None,
    factor: float | None = None,
    part: tuple[float, float, float, float] | None = None,
    refuse: bool = True,
) -> Bands:
    """Read bands for matching, averaged down to a bounded size; complex bands are read as amplitudes.

    A pixel is valid if the file's nodata values, alpha band and mask allow it, every band is finite, and it belongs to
    no undeclared gap: a black border, a missing line or a missing block. Narrow missing lines are interpolated and
    count as valid (see ``rrl_register.raster.region``).

    Args:
        path: The file.
        bands: 1-based bands; empty: all but alpha.
        max_side: Longest side of the arrays, px; None: determined by ``factor``.
        factor: File pixels per array pixel, >= 1; None: determined by ``max_side``, else 1.
        part: Left and top edge, width and height of the part of the file to read, px; None: all of it. Unlike a whole
            file it may be empty.
        refuse: Refuse a whole file without content.

    Raises:
        InputError: The file cannot be read, or, read whole, has no valid pixel or is the same everywhere.
        UsageError: A band does not exist.
    """
    with open_dataset(path) as dataset:
        if factor is None:
            factor = 1.0 if max_side is None else max(dataset.shape) / max_side
        step = max(1.0, float(factor))
        left, top, width, height = part or (0, 0, dataset.width, dataset.height)
        rows, columns = (max(1, math.floor(side / step + 1e-9)) for side in (height, width))
        window = Window(left, top, min(columns * step, width), min(rows * step, height))
        read = _read_region(path, dataset, bands, Region(window, (rows, columns)), step)
    if part is None and refuse:
        require_content(path, read)
    return read


def read_sample(path: Path, bands: tuple[int, ...] = (), side: int = 1024) -> Bands:
    """Read the middle of a raster at full resolution, where noise keeps its statistics.

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
        width, height = min(side, dataset.width), min(side, dataset.height)
        window = Window((dataset.width - width) // 2, (dataset.height - height) // 2, width, height)
        return _read_region(path, dataset, bands, Region(window, (height, width)), 1.0)


def _read_region(path: Path, dataset: DatasetReader, bands: tuple[int, ...], region: Region, factor: float) -> Bands:
    chosen = chosen_bands(_describe(path, dataset), bands)
    values = read_average(dataset, chosen, region)
    valid = valid_pixels(dataset, chosen, region, values)
    if len(chosen) > 1 and not valid.any():
        alive = live_bands(path, chosen)
        if 0 < len(alive) < len(chosen):
            return _read_region(path, dataset, alive, region, factor)
    if not valid.all():
        values[:, ~valid] = 0
    return Bands(values, valid, factor)


def live_bands(path: Path, bands: tuple[int, ...]) -> tuple[int, ...]:
    """Leave out bands without content: nodata, NaN or one value throughout, as a dead detector leaves them."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError:  # a name of GDAL's own
        changed = 0
    return _live_bands(path, bands, changed)


@lru_cache(maxsize=64)
def _live_bands(path: Path, bands: tuple[int, ...], changed: int) -> tuple[int, ...]:
    alive = tuple(band for band in bands if has_content(read_bands(path, (band,), max_side=_LOOKED_AT, refuse=False)))
    if len(alive) < len(bands):
        dead = sorted(set(bands) - set(alive))
        logger.info("%s: bands without content are left out: %s", path, ", ".join(map(str, dead)))
    return alive


def has_content(bands: Bands) -> bool:
    """Return true if there are valid pixels, and not all of them the same."""
    for step in (_SPARSE_STEP, 1):
        inside = bands.values[:, ::step, ::step][:, bands.valid[::step, ::step]]
        if inside.size and np.any(inside.min(axis=1) != inside.max(axis=1)):
            return True
    return False


def require_content(path: Path, bands: Bands) -> None:
    """Refuse an image without content.

    Raises:
        InputError: It has no valid pixel, or is the same everywhere.
    """
    if has_content(bands):
        return
    if not bands.valid.any():
        raise InputError(f"{path} has no valid pixel (all nodata, masked or black); try another file")
    raise InputError(f"{path} has the same value in all its {bands.valid.sum()} valid pixels; try other bands")

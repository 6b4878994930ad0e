"""Bringing the moving image onto the fixed grid, block by block, by the exact inverse of the transform."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader, DatasetWriter

from rrl_register.config import Resampling, WarpConfig
from rrl_register.displacement_field import DisplacementField
from rrl_register.errors import UsageError
from rrl_register.estimation.displacement import Displacement
from rrl_register.interpolation import Array, Mask, as_dtype, interpolate
from rrl_register.inverse_map import Box, InverseMap, Patch, blocks
from rrl_register.raster.geotiff import NodataPolicy, choose_nodata, create, create_profile
from rrl_register.raster.grid import Grid
from rrl_register.raster.reader import open_dataset, unreadable
from rrl_register.raster.writer import atomic_path, check_not_input

_ARRAY_BLOCK = 512


class Source(Protocol):
    """An image that can be read in parts."""

    shape: tuple[int, int]
    count: int
    dtype: np.dtype[Any]

    def read(self, band: int, box: Box) -> tuple[Array, Mask]:
        """Give a band, 0-based, within a box that lies inside the image, and where it has data."""
        ...


def warp_array(
    image: Array,
    matrix: npt.ArrayLike,
    shape: tuple[int, ...],
    resampling: Resampling | str = Resampling.CUBIC,
    valid: Mask | None = None,
    displacement: Displacement | None = None,
) -> tuple[Array, Mask]:
    """Warp an array onto a fixed grid.

    Args:
        image: (H, W) or (B, H, W), any real or complex type.
        matrix: (3, 3), moving pixel -> fixed pixel.
        shape: (rows, columns) of the fixed grid.
        resampling: How to interpolate; where the transform reduces by 2 and more, pixels are averaged before.
        valid: (H, W) bool, pixels with data; None: those that are finite.
        displacement: What is to be added to the matrix, on the fixed grid; None: nothing.

    Returns:
        The image on the fixed grid, (h, w) or (B, h, w) of the same type, 0 where it has no data, and the (h, w) bool
        mask of where it has.

    Raises:
        UsageError: The matrix cannot be inverted.
    """
    bands = image if image.ndim == 3 else image[None]
    known: Mask = np.all(np.isfinite(bands), axis=0) if valid is None else valid
    grid = int(shape[0]), int(shape[1])
    view = View.of(ArraySource(bands, known), matrix, grid, resampling, displacement)
    result, has_data = view.whole()
    return (result if image.ndim == 3 else result[0]), has_data


def warp_to_file(
    moving: Path,
    matrix: npt.ArrayLike,
    fixed_grid: Grid,
    output: Path,
    config: WarpConfig | None = None,
    overwrite: bool = False,
    displacement: Displacement | None = None,
) -> None:
    """Warp all bands of a raster onto the fixed grid and write them as a GeoTIFF.

    Pixel type, band names, tags, colours, scales and units are kept. Blocks are read, warped and written one by one;
    the file appears under its name when it is complete. Images with a colour table are resampled by nearest neighbour.

    Args:
        moving: The raster to warp.
        matrix: (3, 3), moving pixel -> fixed pixel.
        fixed_grid: Size and georeference of the output.
        output: The GeoTIFF to write.
        config: How to resample, what to write where there is no data, how to store it; None: the defaults.
        overwrite: Whether an existing output may be replaced.
        displacement: What is to be added to the matrix, on the fixed grid; None: nothing.

    Raises:
        InputError: The raster cannot be read.
        WriteError: The output cannot be written completely.
        OutputExistsError: The output exists and may not be replaced.
        UsageError: The output is the input or cannot be written there, the matrix cannot be inverted, or a setting does
            not fit.
    """
    settings = config or WarpConfig()
    require_block_size(settings.block_size)
    check_not_input(output, moving)
    with atomic_path(output, overwrite) as temporary, open_dataset(moving) as dataset:
        source = FileSource(moving, dataset)
        resampling = Resampling.NEAREST if source.has_palette else settings.resampling
        warp = InverseMap.onto(matrix, source.shape, resampling, _field(displacement, fixed_grid.shape))
        nodata = choose_nodata(dataset, settings)
        profile = create_profile(dataset, fixed_grid, nodata, settings)
        with create(temporary, output, dataset, profile) as target:
            for block in blocks(fixed_grid.shape, settings.block_size):
                _write_block(source, target, block, warp, nodata)


def _field(displacement: Displacement | None, shape: tuple[int, int]) -> DisplacementField | None:
    return None if displacement is None else DisplacementField.over(displacement, shape)


class ArraySource:
    """Bands in memory: of an image, or of a part of it.

    Args:
        bands: (B, h, w), any real or complex type.
        valid: (h, w) bool, pixels with data.
        part: Where the arrays lie in the image; None: they are all of it.
        shape: (rows, columns) of the image; None: that of the arrays.
    """

    def __init__(
        self, bands: Array, valid: Mask, part: Box | None = None, shape: tuple[int, int] | None = None
    ) -> None:
        self._bands, self._valid = bands, valid
        self._part = part or Box(0, bands.shape[1], 0, bands.shape[2])
        self.shape: tuple[int, int] = shape or self._part.shape
        self.count = len(bands)
        self.dtype = bands.dtype

    def read(self, band: int, box: Box) -> tuple[Array, Mask]:
        """See ``Source``; the box has to lie in the part that is there."""
        place = box.slices_from(self._part)
        return self._bands[band][place], self._valid[place]


class FileSource:
    """Bands of an open raster."""

    def __init__(self, path: Path, dataset: DatasetReader) -> None:
        self._path, self._dataset = path, dataset
        self.shape: tuple[int, int] = dataset.shape
        self.count: int = dataset.count
        self.has_palette = ColorInterp.palette in dataset.colorinterp
        # GDAL gives its complex integers as complex floats.
        self.dtype = np.dtype("complex64" if dataset.dtypes[0] == "complex_int16" else dataset.dtypes[0])

    def is_alpha(self, band: int) -> bool:
        """Whether a band, 0-based, holds opacity."""
        return bool(self._dataset.colorinterp[band] is ColorInterp.alpha)

    def read(self, band: int, box: Box) -> tuple[Array, Mask]:
        """See ``Source``."""
        try:
            values = self._dataset.read(band + 1, window=box.window())
            mask = self._dataset.read_masks(band + 1, window=box.window())
        except RasterioError as error:
            raise unreadable(self._path, error) from error
        if self.is_alpha(band):
            return values, values != 0
        return values, (mask > 0) & np.isfinite(values)


@dataclass(frozen=True)
class View:
    """An image as it looks on the fixed grid; nothing is read or warped before a part is asked for.

    Attributes:
        source: The image.
        warp: The way back to it.
        shape: (rows, columns) of the fixed grid.
        bands: Those to give, 0-based.
        masks: Those that only say where there is data, 0-based.
    """

    source: Source
    warp: InverseMap
    shape: tuple[int, int]
    bands: tuple[int, ...]
    masks: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        source: Source,
        matrix: npt.ArrayLike,
        shape: tuple[int, int],
        resampling: Resampling | str,
        displacement: Displacement | None = None,
    ) -> View:
        """The view of all bands of a source by a transform moving -> fixed.

        Raises:
            UsageError: The matrix cannot be inverted.
        """
        warp = InverseMap.onto(matrix, source.shape, Resampling(resampling), _field(displacement, shape))
        return cls(source, warp, shape, tuple(range(source.count)))

    def read(self, box: Box) -> tuple[Array, Mask]:
        """Warp a part.

        Returns:
            (B, h, w) in the source's type, 0 where it has no data, and (h, w) bool where all bands have.
        """
        patches, valid = list(self.warp.patches(box)), np.ones(box.shape, bool)
        result = np.zeros((len(self.bands), *box.shape), self.source.dtype)
        for place, band in enumerate(self.bands):
            result[place], has_data = _warp_band(self.source, band, box, patches, self.warp)
            valid &= has_data
        for band in self.masks:
            valid &= _warp_band(self.source, band, box, patches, self.warp)[1]
        result[:, ~valid] = 0
        return result, valid

    def whole(self, part: Box | None = None) -> tuple[Array, Mask]:
        """Warp all of it, or of a part of the fixed grid, block by block; see ``read``."""
        part = part or Box(0, self.shape[0], 0, self.shape[1])
        result = np.zeros((len(self.bands), *part.shape), self.source.dtype)
        has_data = np.zeros(part.shape, bool)
        for top, bottom, left, right in blocks(part.shape, _ARRAY_BLOCK):
            block = Box(part.top + top, part.top + bottom, part.left + left, part.left + right)
            result[:, top:bottom, left:right], has_data[top:bottom, left:right] = self.read(block)
        return result, has_data


def _warp_band(source: Source, band: int, block: Box, patches: list[Patch], warp: InverseMap) -> tuple[Array, Mask]:
    """Values of a block, undefined where it has no data, and where it has; (h, w) each."""
    values, has_data = np.zeros(block.shape, source.dtype), np.zeros(block.shape, bool)
    for patch in patches:
        image, valid = _read_averaged(source, band, patch.window, warp.factor)
        place = patch.box.slices_from(block)
        found = interpolate(image, valid, patch.taps, warp.resampling, source.dtype)
        values[place][patch.inside], has_data[place][patch.inside] = found
    return values, has_data


def _read_averaged(source: Source, band: int, window: Box, factor: int) -> tuple[Array, Mask]:
    """Read a window given in averaged pixels; beyond the source's edge there is no data."""
    wanted = Box(*(factor * side for side in window))
    there = wanted.clipped(source.shape)
    image, valid = source.read(band, there)
    if there != wanted:
        place = there.slices_from(wanted)
        padded, known = np.zeros(wanted.shape, image.dtype), np.zeros(wanted.shape, bool)
        padded[place], known[place] = image, valid
        image, valid = padded, known
    return (image, valid) if factor == 1 else _average(image, valid, factor)


def _average(image: Array, valid: Mask, factor: int) -> tuple[Array, Mask]:
    """Mean of the pixels with data in each cell of factor x factor; a cell needs half of its pixels."""
    cells = (image.shape[0] // factor, factor, image.shape[1] // factor, factor)
    work = np.result_type(image.dtype, np.float32)
    count = valid.reshape(cells).sum(axis=(1, 3))
    total = np.where(valid, image, 0).reshape(cells).sum(axis=(1, 3), dtype=work)
    return total / np.maximum(count, 1).astype(work), 2 * count >= factor**2


def _write_block(source: FileSource, target: DatasetWriter, block: Box, warp: InverseMap, nodata: NodataPolicy) -> None:
    patches = list(warp.patches(block))
    everywhere = np.ones(block.shape, bool)
    for band in range(source.count):
        values, has_data = _warp_band(source, band, block, patches, warp)
        fill = 0.0 if source.is_alpha(band) else nodata.fill
        if nodata.declared and not source.is_alpha(band):
            values = keep_off(values, nodata.fill)
        filled = np.where(has_data, values, as_dtype(np.array(fill, np.float64), source.dtype))
        target.write(filled, band + 1, window=block.window())
        everywhere &= has_data
    if nodata.mask:
        target.write_mask(everywhere, window=block.window())


def keep_off(values: Array, nodata: float) -> Array:
    """Move values that happen to equal the nodata value aside, by as little as a reader can tell from it.

    Interpolation may lead to that value from others, as the overshoot of cubic kernels leads to 0.
    """
    if np.iscomplexobj(values) or math.isnan(nodata):
        return values
    if values.dtype.kind in "iu":
        step = -1 if int(nodata) == np.iinfo(values.dtype).max else 1
        return np.where(values == int(nodata), values.dtype.type(int(nodata) + step), values)
    # GDAL compares floats with a tolerance of a few units in the last place.
    limits = np.finfo(values.dtype)
    near = np.abs(values.astype(np.float64) - nodata) <= 4 * limits.eps * abs(nodata)
    aside = nodata * (1 - 8 * float(limits.eps)) if nodata else float(limits.tiny)
    return np.where(near, values.dtype.type(aside), values)


def require_block_size(size: int) -> None:
    """See that blocks of a file are of a size that GDAL writes.

    Raises:
        UsageError: They are not.
    """
    if size < 16 or size % 16:
        raise UsageError(f"the block size is {size} px; needed a multiple of 16; try 512")

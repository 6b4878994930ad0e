"""Warp the moving image onto an output grid, block by block, by the exact inverse of the transform."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rasterio.io import DatasetWriter

from rrl_register.config import Resampling, WarpConfig
from rrl_register.errors import UsageError
from rrl_register.geometry.arrays import Array, Mask
from rrl_register.geometry.displacement import Displacement
from rrl_register.geometry.window import Box
from rrl_register.parallel import ordered_map, ordered_threads
from rrl_register.raster.geotiff import NodataPolicy, choose_nodata, stored_raster
from rrl_register.raster.grid import Grid, grid_of
from rrl_register.raster.reader import open_info
from rrl_register.raster.sources import ArraySource, FileSource, Source
from rrl_register.raster.writer import check_not_input, check_output
from rrl_register.warping.interpolation import as_dtype, interpolate
from rrl_register.warping.inverse_map import InverseMap, Patch
from rrl_register.warping.output_grid import Layout, plan_output, sample_displacement

TO_FIXED_TAG = "RRL_TO_FIXED_PIXELS"
"""Tag of an output on another grid than the fixed one without a georeference: a, b, c, d, e, f of
x = a u + b v + c and y = d u + e v + f, the fixed pixel of the output pixel (u, v)."""

_ARRAY_BLOCK = 512
_PIECE_BYTES = 16 * 1024**2
"""Size of the bands of a block that are warped at once."""
_BLOCKS_PER_THREAD = 2
"""With fewer, some threads would be idle while others compute the last blocks."""


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
        resampling: Interpolation; pixels are averaged first if the transform reduces by 2 or more.
        valid: (H, W) bool, pixels with data; None: those that are finite.
        displacement: Displacement on the fixed grid, added to the matrix; None: none.

    Returns:
        The image on the fixed grid, (h, w) or (B, h, w) of the same type, 0 where it has no data, and the (h, w) bool
        mask of its data.

    Raises:
        UsageError: The matrix cannot be inverted.
    """
    bands = image if image.ndim == 3 else image[None]
    known: Mask = np.all(np.isfinite(bands), axis=0) if valid is None else valid
    view = View.of(ArraySource(bands, known), matrix, (int(shape[0]), int(shape[1])), resampling, displacement)
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
    """Warp all bands of a raster onto the fixed grid, or the one that is configured, and write them as a GeoTIFF.

    Pixel type, band names, tags, colours, scales and units are kept. Blocks are read and warped by several threads and
    written one by one, so that memory does not grow with the image; pixels do not depend on the size of the blocks or
    the number of threads. The file appears under its name when it is complete. Images with a colour table are resampled
    by nearest neighbour.

    Args:
        moving: The raster to warp.
        matrix: (3, 3), moving pixel -> fixed pixel.
        fixed_grid: Size and georeference of the fixed image.
        output: The GeoTIFF to write.
        config: Interpolation, grid, crop, nodata and storage; None: the defaults.
        overwrite: Whether an existing output may be replaced.
        displacement: Displacement on the fixed grid, added to the matrix; None: none.

    Raises:
        InputError: The raster cannot be read, or the configured grid cannot be used.
        WriteError: The output cannot be written completely.
        OutputExistsError: The output exists and may not be replaced.
        UsageError: The output is the input or cannot be written there, the matrix cannot be inverted, or a setting does
            not fit.
    """
    settings = config or WarpConfig()
    require_block_size(settings.block_size)
    like = open_info(settings.grid).grid if isinstance(settings.grid, Path) else None
    check_not_input(output, moving, *([settings.grid] if isinstance(settings.grid, Path) else []))
    check_output(output, overwrite)
    with FileSource(moving) as source:
        layout = plan_output(matrix, fixed_grid, grid_of(source.dataset), settings, displacement, like)
        nodata = choose_nodata(source.dataset, settings)
        with stored_raster(output, source.dataset, layout.grid, nodata, settings, overwrite) as target:
            if layout.grid.transform is None and not np.array_equal(layout.to_fixed, np.eye(3)):
                target.update_tags(**{TO_FIXED_TAG: ",".join(f"{number:.12g}" for number in layout.to_fixed[:2].flat)})
            _write_blocks(source, target, layout, nodata, settings)


@dataclass(frozen=True)
class View:
    """An image as it looks on the fixed grid; only the parts that are requested are read and warped.

    Attributes:
        source: The image.
        warp: The way back to it.
        shape: (rows, columns) of the fixed grid.
        bands: Bands of the view, 0-based.
        masks: Bands that only mark where there is data, 0-based.
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
        """View all bands of a source through a transform moving -> fixed.

        Raises:
            UsageError: The matrix cannot be inverted.
        """
        displacements = sample_displacement(displacement, matrix, source.shape, Box.of_shape(shape))
        warp = InverseMap.onto(matrix, source.shape, Resampling(resampling), displacements)
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
        part = part or Box.of_shape(self.shape)
        result = np.zeros((len(self.bands), *part.shape), self.source.dtype)
        has_data = np.zeros(part.shape, bool)
        for block in part.blocks(_ARRAY_BLOCK):
            rows, columns = block.slices_from(part)
            result[:, rows, columns], has_data[rows, columns] = self.read(block)
        return result, has_data


class _Piece(NamedTuple):
    """The work of one thread at a time: some bands, 0-based, of a block or of a part of it."""

    part: Box
    bands: range


def _write_blocks(
    source: FileSource, target: DatasetWriter, layout: Layout, nodata: NodataPolicy, config: WarpConfig
) -> None:
    resampling = Resampling.NEAREST if source.has_palette else config.resampling
    warp = InverseMap.onto(layout.matrix, source.shape, resampling, layout.displacements)
    threads, frame, join = config.threads or ordered_threads(), layout.frame, _joint_mask(nodata)

    def warped(piece: _Piece) -> tuple[_Piece, Array, Mask]:
        """Return a piece, its values and where it has data."""
        return piece, *_warp_piece(source, piece, warp, nodata)

    # Closed on an error, too, so that no thread continues to read from a source that is closed after it.
    with closing(ordered_map(warped, _pieces(source, frame, config.block_size, threads), threads)) as results:
        for part, of_part in groupby(results, key=lambda result: result[0].part):
            window, masks = part.window((frame.top, frame.left)), []
            for piece, values, has_data in of_part:
                target.write(values, [band + 1 for band in piece.bands], window=window)
                masks.append(has_data)
            if nodata.mask:
                target.write_mask(join(masks), window=window)


def _joint_mask(nodata: NodataPolicy) -> Callable[[list[Mask]], Mask]:
    """Join the bands' masks: any band if NaN marks the holes of each, so that a dead band does not hide the others."""
    return np.logical_or.reduce if math.isnan(nodata.fill) else np.logical_and.reduce


def _pieces(source: FileSource, frame: Box, block_size: int, threads: int) -> Iterator[_Piece]:
    at_once = max(1, _PIECE_BYTES // (block_size**2 * source.dtype.itemsize))
    n_blocks = math.prod(math.ceil(side / block_size) for side in frame.shape)
    for block in frame.blocks(block_size):
        # A small image keeps all threads busy by parts of blocks, although each reads what its neighbours need, too.
        for part in block.quarters() if n_blocks < _BLOCKS_PER_THREAD * threads else [block]:
            for first in range(0, source.count, at_once):
                yield _Piece(part, range(first, min(first + at_once, source.count)))


def _warp_piece(source: FileSource, piece: _Piece, warp: InverseMap, nodata: NodataPolicy) -> tuple[Array, Mask]:
    """Warp a piece; return its values (B, h, w), marked where it has no data, and where the image has, (h, w)."""
    part = piece.part
    patches = list(warp.patches(part))
    pixels = np.empty((len(piece.bands), *part.shape), source.dtype)
    join, masks = _joint_mask(nodata), []
    for place, band in enumerate(piece.bands):
        values, has_data = _warp_band(source, band, part, patches, warp)
        fill = 0.0 if source.is_alpha(band) else nodata.fill
        if nodata.declared and not source.is_alpha(band):
            values = avoid_nodata(values, nodata.fill)
        if not has_data.all():
            values = np.where(has_data, values, as_dtype(np.array(fill, np.float64), source.dtype))
        pixels[place] = values
        masks.append(has_data)
    return pixels, join(masks)


def _warp_band(source: Source, band: int, block: Box, patches: list[Patch], warp: InverseMap) -> tuple[Array, Mask]:
    """Warp a block of a band; return values, undefined where it has no data, and where it has, (h, w) each."""
    values, has_data = np.zeros(block.shape, source.dtype), np.zeros(block.shape, bool)
    for patch in patches:
        image, valid = _read_averaged(source, band, patch.window, warp.factor)
        place = patch.box.slices_from(block)
        found, known = interpolate(image, valid, patch.points, warp.resampling, source.dtype)
        if patch.inside is None:
            values[place], has_data[place] = found.reshape(patch.box.shape), known.reshape(patch.box.shape)
        else:
            values[place][patch.inside], has_data[place][patch.inside] = found, known
    return values, has_data


def _read_averaged(source: Source, band: int, window: Box, factor: int) -> tuple[Array, Mask | None]:
    """Read a window given in averaged pixels; beyond the source's edge there is no data."""
    wanted = Box(*(factor * side for side in window))
    there = wanted.within(Box.of_shape(source.shape))
    image, valid = source.read(band, there)
    if there != wanted:
        place = there.slices_from(wanted)
        padded, known = np.zeros(wanted.shape, image.dtype), np.zeros(wanted.shape, bool)
        padded[place], known[place] = image, True if valid is None else valid
        image, valid = padded, known
    return (image, valid) if factor == 1 else _average(image, valid, factor)


def _average(image: Array, valid: Mask | None, factor: int) -> tuple[Array, Mask | None]:
    """Average the pixels with data in each cell of factor x factor; a cell needs half of its pixels."""
    work = np.result_type(image.dtype, np.float32)
    if valid is None or valid.all():
        return _sum_of_cells(image, factor, work) / work.type(factor**2), None
    count = _sum_of_cells(valid, factor, np.dtype(np.int32))
    total = _sum_of_cells(np.where(valid, image, 0), factor, work)
    return total / np.maximum(count, 1).astype(work), 2 * count >= factor**2


def _sum_of_cells(values: Array, factor: int, dtype: np.dtype[Any]) -> Array:
    """Sum factor x factor values, rows first.

    Added one by one, because the order of numpy's sums, and so their rounding, depends on the array's shape.
    """
    rows = np.zeros((values.shape[0] // factor, values.shape[1]), dtype)
    for offset in range(factor):
        rows += values[offset::factor]
    cells = np.zeros((rows.shape[0], rows.shape[1] // factor), dtype)
    for offset in range(factor):
        cells += rows[:, offset::factor]
    return cells


def avoid_nodata(values: Array, nodata: float) -> Array:
    """Move values that happen to equal the nodata value away from it, by as little as a reader can distinguish.

    Interpolation may lead to that value from others, as the overshoot of cubic kernels leads to 0.
    """
    if np.iscomplexobj(values) or not math.isfinite(nodata):
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
    """Refuse sizes of blocks that GDAL does not write.

    Raises:
        UsageError: The size is not a multiple of 16 px.
    """
    if size < 16 or size % 16:
        raise UsageError(f"Block size {size} px is not a multiple of 16; try 512")

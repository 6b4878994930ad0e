"""Read a region of a raster: values averaged down to a bounded size, and which pixels hold a measurement.

Validity follows from alpha, nodata, masks and NaN, and from gaps that nothing declares. GDAL averages complex numbers
as they are, and their phases cancel; so amplitudes are computed first, piece by piece.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from rasterio.enums import MaskFlags, Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rrl_register.geometry.arrays import Array, Image, Mask
from rrl_register.raster.alpha import alpha_band, least_opacity

_MIN_FILL_FRACTION = 1e-4
"""Black corners smaller than this part of the image are taken for dark content."""
_BLOCK = 16
"""Side of the blocks of JPEG with reduced colours, px: its ringing reaches so far from plain black."""
_MIN_BLOCK_PX = 32
"""Smaller rectangles of black occur in dark content."""
_MAX_BRIDGED = 6
"""Wider missing lines are not interpolated, px."""
_LEAST_FILLED = 0.25
"""Share of its convex hull that content within a black frame fills at least: a mosaic with half of its tiles does."""
_BLACK, _FILL = 1, 2
"""Marks of black pixels, and of those that turn out to be fill."""


class Region(NamedTuple):
    """A part of a file, px of the file, and the (rows, columns) of the arrays that it is averaged down to."""

    window: Window
    shape: tuple[int, int]


def read_average(dataset: DatasetReader, bands: tuple[int, ...], region: Region) -> Image:
    """Read 1-based bands of a region, averaged: (B, rows, columns) float32; complex bands as amplitudes.

    GDAL averages piece by piece, from overviews if there are some, so that no more than the result and GDAL's block
    cache is ever held.
    """
    values: Image
    is_complex = dataset.dtypes[0].startswith("complex")
    if not _is_reduced(region) and is_complex:
        values = np.abs(dataset.read(bands, window=region.window)).astype(np.float32)
    elif is_complex or (_is_reduced(region) and Declared.of(dataset).hides_nodata(bands)):
        values, _ = average_known(dataset, bands, region)
    else:
        shape = (len(bands), *region.shape)
        values = dataset.read(
            bands, window=region.window, out_shape=shape, resampling=Resampling.average, out_dtype="float32"
        )
    return values


def average_known(dataset: DatasetReader, bands: tuple[int, ...], region: Region) -> tuple[Image, Image]:
    """Average the pixels that hold a measurement in each cell that a part of a raster is divided into.

    GDAL does that for all but complex pixels, which it averages as they are, and nodata values beside a mask or alpha.

    Args:
        dataset: The raster.
        bands: 1-based bands.
        region: The part, which may begin and end within a pixel, and its cells.

    Returns:
        (B, rows, columns) float32 means, of the amplitudes of complex numbers, and shares of measurements, 0-1. No
        measurement are values that are not finite, declared nodata, and 0 in a complex image; a cell of nothing else
        is 0.
    """
    window, shape = region
    left, top = int(np.floor(window.col_off)), int(np.floor(window.row_off))
    right, bottom = (
        int(np.ceil(edge - 1e-6)) for edge in (window.col_off + window.width, window.row_off + window.height)
    )
    rows = _shares(shape[0], window.row_off - top, window.height / shape[0], bottom - top)
    columns = _shares(shape[1], window.col_off - left, window.width / shape[1], right - left)
    total, weight = (np.zeros((len(bands), *shape)) for _ in range(2))
    step, declared = max(1, _PIECE_BYTES // (8 * len(bands) * (right - left))), Declared.of(dataset)
    for start in range(0, bottom - top, step):
        piece = Window(left, top + start, right - left, min(step, bottom - top - start))
        share = rows[:, start : start + piece.height]
        for place, band in enumerate(bands):
            pixels, known = declared.read(dataset, band, piece)
            amplitude = np.abs(pixels) if np.iscomplexobj(pixels) else pixels
            known = np.ones(pixels.shape, bool) if known is None else known
            if np.iscomplexobj(pixels):
                known &= pixels != 0
            total[place] += share @ np.where(known, amplitude, 0) @ columns.T
            weight[place] += share @ known.astype(np.float32) @ columns.T
    area = window.height * window.width / (shape[0] * shape[1])
    means = np.where(weight > 0, total / np.maximum(weight, 1e-12), 0)
    return means.astype(np.float32), (weight / area).astype(np.float32)


def _is_reduced(region: Region) -> bool:
    return region.shape != (region.window.height, region.window.width)


def _shares(n_cells: int, first: float, size: float, n: int) -> Any:
    """Compute how much of each of ``n`` pixels lies in each cell, ``size`` px from ``first`` on: (n_cells, n)."""
    from scipy.sparse import csr_array  # 0.1 s to import, for complex bands alone

    edges = first + size * np.arange(n_cells + 1)
    reach = np.arange(int(np.ceil(size)) + 1)
    pixel = np.floor(edges[:-1]).astype(np.int64)[:, None] + reach
    inside = np.minimum(pixel + 1, edges[1:, None]) - np.maximum(pixel, edges[:-1, None])
    cell: npt.NDArray[np.int64] = np.broadcast_to(np.arange(n_cells)[:, None], pixel.shape)
    kept = (inside > 1e-9) & (pixel < n)
    return csr_array((inside[kept], (cell[kept], pixel[kept])), shape=(n_cells, n))


def find_missing(values: Image, tolerance: float = 0.0, grow: int = 2) -> Mask:
    """Find the black border, missing lines and missing blocks.

    The black of a frame lies around its content. If the content lies scattered over black ground, like the lights of a
    night scene, black is a measurement, and nothing is missing.

    Args:
        values: (B, H, W).
        tolerance: As for ``black_border``.
        grow: As for ``black_border``.

    Returns:
        (H, W) bool, True where there is no measurement.
    """
    zero = all_zero(values)
    if not zero.any():
        return zero
    border = black_border(values, tolerance, grow)
    if border.any() and _is_sparse(~border):
        return np.zeros_like(zero)
    known = border | missing_lines(zero, border)
    return known | missing_blocks(zero, known)


def all_zero(values: Image) -> Mask:
    """Mark the pixels (H, W) that are 0 in all bands (B, H, W)."""
    zero: Mask = np.asarray(values[0] == 0)
    for band in values[1:]:
        zero &= band == 0
    return zero


def black_border(values: Image, tolerance: float = 0.0, grow: int = 2) -> Mask:
    """Find the black fill that rotating or cropping left around an image.

    Fill is 0 in all bands and reaches a corner of the image, as the fill of a rotated or shifted frame does; dark
    content elsewhere is kept. If a lossy compression rang into the fill, nearly black pixels belong to it that are
    connected to a corner and no farther than a block from plain black; content that is dark without being 0, like a
    night scene, is kept.

    Args:
        values: (B, H, W).
        tolerance: Largest absolute value that counts as nearly black.
        grow: Pixels by which the fill is widened, because interpolation and compression mix it with its neighbours.

    Returns:
        (H, W) bool, True on the fill.
    """
    zero = all_zero(values)
    fill = _reaching_corners(zero)
    if tolerance > 0 and zero.any():
        plain = cv2.erode(zero.astype(np.uint8), np.ones((2, 2), np.uint8))
        near_plain = cv2.dilate(plain, np.ones((2 * _BLOCK + 1,) * 2, np.uint8)) > 0
        fill |= _reaching_corners(np.all(np.abs(values) <= tolerance, axis=0)) & near_plain
    if not fill.any():
        return fill
    return cv2.dilate(fill.astype(np.uint8), np.ones((2 * grow + 1,) * 2, np.uint8)) > 0


def missing_lines(zero: Mask, border: Mask) -> Mask:
    """Find the rows and columns that a sensor or a transmission lost: 0 in all bands from border to border.

    Args:
        zero: (H, W) bool, 0 in all bands.
        border: (H, W) bool, the black border.

    Returns:
        (H, W) bool.
    """
    inside, dark = zero & ~border, zero | border
    rows, columns = (inside.any(axis) & dark.all(axis) for axis in (1, 0))
    return np.asarray(inside & (np.asarray(rows)[:, None] | columns))


def missing_blocks(zero: Mask, known: Mask) -> Mask:
    """Find lost tiles and pieces of lines: isolated rectangles of 0 in all bands.

    Content that happens to be 0, such as a shadow, has no such outline.

    Args:
        zero: (H, W) bool, 0 in all bands.
        known: (H, W) bool, pixels already known to be missing.

    Returns:
        (H, W) bool.
    """
    inside = zero & ~known
    if np.count_nonzero(inside) < _MIN_BLOCK_PX:
        return np.zeros_like(inside)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=4)
    area = stats[:, cv2.CC_STAT_AREA]
    box = stats[:, cv2.CC_STAT_WIDTH] * stats[:, cv2.CC_STAT_HEIGHT]
    chosen = (area == box) & (area >= _MIN_BLOCK_PX)
    chosen[0] = False
    return np.asarray(chosen[labels])


def bridge_lines(values: Image, valid: Mask) -> None:
    """Interpolate, in place, across rows and columns that are 0 in all bands, if only a few are adjacent.

    No pixel within some px of an invalid one can be matched, so that a few lost lines would cost most of an image; and
    a few px between known neighbours are known well enough.

    Args:
        values: (B, H, W), changed on the lines.
        valid: (H, W) bool, as the file declares; pixels where it is False are not interpolated from.
    """
    _bridge_rows(values, valid & ~all_zero(values))
    _bridge_rows(values.swapaxes(1, 2), (valid & ~all_zero(values)).T)


def _reaching_corners(black: Mask) -> Mask:
    """Keep the connected parts of a mask that reach a corner of the image and are large enough to be fill."""
    marks = black.astype(np.uint8)
    bottom, right = black.shape[0] - 1, black.shape[1] - 1
    for x, y in ((0, 0), (right, 0), (0, bottom), (right, bottom)):
        if marks[y, x] == _BLACK:
            before = marks.copy()
            area = cv2.floodFill(marks, None, (x, y), _FILL, flags=4)[0]
            if area < _MIN_FILL_FRACTION * black.size:
                marks = before
    return np.asarray(marks == _FILL)


def _is_sparse(content: Mask) -> bool:
    """Return true if content fills little of its own convex hull, specks aside."""
    solid = cv2.morphologyEx(content.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    places = cv2.findNonZero(solid)
    if places is None:
        return bool(content.any())
    return bool(np.count_nonzero(solid) < _LEAST_FILLED * cv2.contourArea(cv2.convexHull(places)))


def _bridge_rows(values: Image, known: Mask) -> None:
    """Interpolate across rows, pixel by pixel where the rows on either side are known."""
    empty = ~known.any(axis=1)
    runs: npt.NDArray[np.intp] = np.flatnonzero(np.diff(empty, prepend=False, append=False)).reshape(-1, 2)
    for first, end in runs:
        if first == 0 or end == len(known) or end - first > _MAX_BRIDGED:
            continue
        columns = known[first - 1] & known[end]
        above, below = values[:, None, first - 1, columns], values[:, None, end, columns]
        weight = np.linspace(0, 1, end - first + 2, dtype=np.float32)[1:-1, None]
        values[:, first:end, columns] = (1 - weight) * above + weight * below


_LARGEST_VALUE = 1e37
"""No measurement is larger; undeclared fill values such as -3.4e38 are."""
_BLACK_LEVEL = 8.0
"""Largest value of 8-bit fill, into which a lossy compression, perhaps of an earlier file, rings."""


def is_lossy(dataset: DatasetReader) -> bool:
    """Return true if the pixels went through a lossy compression."""
    return dataset.driver == "JPEG" or "JPEG" in dataset.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "")


def valid_pixels(dataset: DatasetReader, bands: tuple[int, ...], region: Region, values: Image) -> Mask:
    """Decide which pixels of a region hold a measurement in every band.

    Args:
        dataset: The raster.
        bands: 1-based bands.
        region: The part that was read.
        values: (B, rows, columns) float32, as read; narrow missing lines are interpolated in place and count as valid.

    Returns:
        (rows, columns) bool.
    """
    valid = _declared_valid(dataset, bands, region)
    if not all(dataset.dtypes[band - 1].startswith(("int", "uint")) for band in bands):
        valid &= np.all(np.abs(values) < _LARGEST_VALUE, axis=0)  # False for NaN, too
    bridge_lines(values, valid)
    black_level = _BLACK_LEVEL if dataset.dtypes[0] == "uint8" else 0.0
    return valid & ~find_missing(values, black_level, grow=4 if is_lossy(dataset) else 2)


class Declared(NamedTuple):
    """Declarations of a file that mark where its bands hold data.

    Attributes:
        alpha: 1-based band that holds opacity; None: none.
        least_opacity: Least value of that band where there is data.
        nodata: Nodata value of each band; None where GDAL's mask heeds it, or where there is none.
        complete: Whether neither a mask nor a nodata value of GDAL's marks pixels of each band.
    """

    alpha: int | None
    least_opacity: float
    nodata: tuple[float | None, ...]
    complete: tuple[bool, ...]

    @classmethod
    def of(cls, dataset: DatasetReader) -> Declared:
        """Read the declarations; GDAL heeds only one of mask, nodata and alpha, and nodata may not fit the type."""
        alpha, flags = alpha_band(dataset), dataset.mask_flag_enums
        hidden = [alpha is not None or MaskFlags.per_dataset in flag for flag in flags]
        nodata = tuple(value if hides else None for value, hides in zip(dataset.nodatavals, hidden, strict=True))
        complete = tuple(alpha is not None or flag == [MaskFlags.all_valid] for flag in flags)
        return cls(alpha, least_opacity(dataset, alpha) if alpha else 0.0, nodata, complete)

    def hides_nodata(self, bands: tuple[int, ...]) -> bool:
        """Return true if GDAL does not heed the nodata value of one of these bands."""
        return any(self.nodata[band - 1] is not None for band in bands)

    def read(self, dataset: DatasetReader, band: int, window: Window) -> tuple[Array, Mask | None]:
        """Read a band, 1-based, at full resolution, and mark where it has data; None: everywhere.

        Nodata values, mask and alpha have to agree, and floats have to be measurements.
        """
        values = dataset.read(band, window=window)
        known: Mask | None = None
        if self.alpha is not None:
            opacity = values if band == self.alpha else dataset.read(self.alpha, window=window)
            known = np.asarray(opacity >= self.least_opacity)
        elif not self.complete[band - 1]:
            known = np.asarray(dataset.read_masks(band, window=window) >= _HALF)
        nodata = self.nodata[band - 1]
        if nodata is not None and band != self.alpha:
            other = np.asarray(values != nodata)
            known = other if known is None else known & other
        if values.dtype.kind in "iu":
            return values, known
        measured = np.asarray(np.abs(values) < _LARGEST_VALUE)  # False for NaN, too
        return values, measured if known is None else known & measured


def _declared_valid(dataset: DatasetReader, bands: tuple[int, ...], region: Region) -> Mask:
    """Mark pixels where nodata values, mask and alpha leave at least half of a (reduced) pixel, in every band."""
    declared, shape = Declared.of(dataset), (len(bands), *region.shape)
    if declared.hides_nodata(bands):
        return np.asarray(np.all(average_known(dataset, bands, region)[1] > 0.5 - 1e-6, axis=0))
    if declared.alpha is not None:
        return np.asarray(read_average(dataset, (declared.alpha,), region)[0] >= declared.least_opacity)
    if all(declared.complete[band - 1] for band in bands):
        return np.ones(region.shape, bool)
    masks = dataset.read_masks(bands, window=region.window, out_shape=shape, resampling=Resampling.average)
    return np.asarray(np.all(masks >= _HALF, axis=0))


_HALF = 128
"""Least opacity, 0-255, of a pixel that GDAL's mask counts as valid."""
_PIECE_BYTES = 16 << 20
"""Size of the complex numbers that are read at once."""

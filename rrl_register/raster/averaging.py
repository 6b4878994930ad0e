"""Reading bands averaged down to a bounded size; complex bands as amplitudes.

GDAL averages complex numbers as they are, and their phases cancel; so amplitudes are computed first, piece by piece.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window
from scipy.sparse import csr_array

from rrl_register.geometry.arrays import Image

_PIECE_BYTES = 16 << 20
"""Size of the complex numbers that are read at once."""


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
    if not dataset.dtypes[0].startswith("complex"):
        values = dataset.read(
            bands,
            window=region.window,
            out_shape=(len(bands), *region.shape),
            resampling=Resampling.average,
            out_dtype="float32",
        )
    elif region.shape == (region.window.height, region.window.width):
        values = np.abs(dataset.read(bands, window=region.window)).astype(np.float32)
    else:
        values = average_amplitudes(dataset, bands, region)
    return values


def average_amplitudes(dataset: DatasetReader, bands: tuple[int, ...], region: Region) -> Image:
    """Read the mean amplitude of each cell that a part of a complex raster is divided into.

    Args:
        dataset: The raster.
        bands: 1-based bands.
        region: The part, which may begin and end within a pixel, and its cells.

    Returns:
        (B, rows, columns) float32; 0, which is fill in a complex image, and values that are not finite do not count:
        a cell of nothing else is 0.
    """
    window, shape = region
    left, top = int(np.floor(window.col_off)), int(np.floor(window.row_off))
    right, bottom = (
        int(np.ceil(edge - 1e-6)) for edge in (window.col_off + window.width, window.row_off + window.height)
    )
    rows = _shares(shape[0], window.row_off - top, window.height / shape[0], bottom - top)
    columns = _shares(shape[1], window.col_off - left, window.width / shape[1], right - left)
    total, weight = (np.zeros((len(bands), *shape)) for _ in range(2))
    step = max(1, _PIECE_BYTES // (8 * len(bands) * (right - left)))
    for start in range(0, bottom - top, step):
        height = min(step, bottom - top - start)
        amplitude = np.abs(dataset.read(bands, window=Window(left, top + start, right - left, height)))
        known = np.isfinite(amplitude) & (amplitude > 0)
        share = rows[:, start : start + height]
        for band in range(len(bands)):
            total[band] += share @ np.where(known[band], amplitude[band], 0) @ columns.T
            weight[band] += share @ known[band].astype(np.float32) @ columns.T
    return np.where(weight > 0, total / np.maximum(weight, 1e-12), 0).astype(np.float32)


def _shares(n_cells: int, first: float, size: float, n: int) -> csr_array:
    """Compute how much of each of ``n`` pixels lies in each cell, ``size`` px wide, from ``first`` on: (n_cells, n)."""
    edges = first + size * np.arange(n_cells + 1)
    reach = np.arange(int(np.ceil(size)) + 1)
    pixel = np.floor(edges[:-1]).astype(np.int64)[:, None] + reach
    inside = np.minimum(pixel + 1, edges[1:, None]) - np.maximum(pixel, edges[:-1, None])
    cell: npt.NDArray[np.int64] = np.broadcast_to(np.arange(n_cells)[:, None], pixel.shape)
    kept = (inside > 1e-9) & (pixel < n)
    return csr_array((inside[kept], (cell[kept], pixel[kept])), shape=(n_cells, n))

"""Amplitudes of complex images, averaged down piece by piece.

GDAL averages complex numbers as they are, and their phases cancel; amplitudes have to be taken before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from rasterio.io import DatasetReader
from rasterio.windows import Window
from scipy.sparse import csr_array

_PIECE_BYTES = 16 << 20
"""Of the complex numbers read at once."""


def read_amplitudes(
    dataset: DatasetReader, bands: tuple[int, ...], window: Window, shape: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Read the mean amplitude of each cell that a part of a complex raster is divided into.

    Args:
        dataset: The raster.
        bands: 1-based bands.
        window: The part, px; it may begin and end within a pixel.
        shape: Rows and columns of cells.

    Returns:
        (B, rows, columns) float32; 0, which in a complex image is fill, does not count, and neither does what is not
        finite: a cell of nothing else is 0.
    """
    whole = _whole_pixels(window)
    rows = _shares(shape[0], window.row_off - whole.row_off, window.height / shape[0], int(whole.height))
    columns = _shares(shape[1], window.col_off - whole.col_off, window.width / shape[1], int(whole.width))
    total, weight = (np.zeros((len(bands), *shape)) for _ in range(2))
    step = max(1, _PIECE_BYTES // (8 * len(bands) * int(whole.width)))
    for start in range(0, int(whole.height), step):
        height = min(step, int(whole.height) - start)
        piece = Window(whole.col_off, whole.row_off + start, whole.width, height)
        amplitude = np.abs(dataset.read(bands, window=piece))
        known = np.isfinite(amplitude) & (amplitude > 0)
        share = rows[:, start : start + height]
        for band in range(len(bands)):
            total[band] += share @ np.where(known[band], amplitude[band], 0) @ columns.T
            weight[band] += share @ known[band].astype(np.float32) @ columns.T
    return np.where(weight > 0, total / np.maximum(weight, 1e-12), 0).astype(np.float32)


def _whole_pixels(window: Window) -> Window:
    """The smallest window of whole pixels that holds a window."""
    left, top = int(np.floor(window.col_off)), int(np.floor(window.row_off))
    right, bottom = (
        int(np.ceil(edge - 1e-6)) for edge in (window.col_off + window.width, window.row_off + window.height)
    )
    return Window(left, top, right - left, bottom - top)


def _shares(n_cells: int, first: float, size: float, n: int) -> csr_array:
    """How much of each of ``n`` pixels lies in each cell, (n_cells, n); cells are ``size`` px, from ``first`` on."""
    edges = first + size * np.arange(n_cells + 1)
    reach = np.arange(int(np.ceil(size)) + 1)
    pixel = np.floor(edges[:-1]).astype(np.int64)[:, None] + reach
    inside = np.minimum(pixel + 1, edges[1:, None]) - np.maximum(pixel, edges[:-1, None])
    cell = np.broadcast_to(np.arange(n_cells)[:, None], pixel.shape)
    kept = (inside > 1e-9) & (pixel < n)
    return csr_array((inside[kept], (cell[kept], pixel[kept])), shape=(n_cells, n))

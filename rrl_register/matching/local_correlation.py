"""Local correlation: search the best place around each point, by the oriented gradients of both images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.geometry.arrays import Image, Mask
from rrl_register.matching.features import fft
from rrl_register.matching.features.oriented_gradients import Series, direction_series
from rrl_register.parallel import map_row_blocks, parallel_map, pool_threads

MAX_RADIUS = 20
"""Largest search radius that images are prepared for, px."""
N_ORIENTATIONS = 6
"""Directions of the gradients that are correlated; fewer than CFOG's nine, because the cost grows with them."""

_PEAK_SEPARATION = 2
"""Least chessboard distance of two peaks, px; a nearer one is part of the higher one."""
_MIN_STRUCTURE = 0.3
"""Least share of a window that must hold structure."""

_STENCILS = np.stack(
    [
        np.array([[-1, 0, 1]] * 3) / 6,
        np.array([[-1, 0, 1]] * 3).T / 6,
        np.array([[1, -2, 1]] * 3) / 3,
        np.array([[1, -2, 1]] * 3).T / 3,
        np.array([[1, 0, -1], [0, 0, 0], [-1, 0, 1]]) / 4,
    ]
)
"""Least-squares quadratic on 3 x 3 samples: derivatives x, y, xx, yy, xy."""


@dataclass(frozen=True)
class LocalPeaks:
    """The best places for N points, k for each, best first.

    Attributes:
        positions: ``(N, k, 2)`` float64, (x, y) on the moving image; NaN where there is no such peak.
        correlation: ``(N, k)`` float32, normalised correlation at the peak, -1..1; 0 where there is none.
        valid: ``(N, k)`` bool, whether the peak exists and its window holds enough structure in both images.
    """

    positions: NDArray[np.float64]
    correlation: NDArray[np.float32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Structure:
    """An image prepared for correlation with another one, by windows of one size.

    An invalid pixel, all 0, neither adds to a correlation nor makes an edge. Only the direction of the structure
    counts, because the series lacks the mean over the directions.

    Attributes:
        framed: (K, H + 2 m, W + 2 m) complex64, the terms of a ``direction_series`` within a frame of zeros.
        margin: m, its width, px.
        half: half the side of a window, which is 2 half + 1, px.
    """

    framed: Series
    margin: int
    half: int

    @classmethod
    def of(cls, image: Image, valid: Mask, half: int, radius: int, n_orientations: int = N_ORIENTATIONS) -> Structure:
        """Prepare an image ``(H, W)`` and its mask for searches of ``radius`` px at most."""
        margin = half + radius + 1  # one more, so that a peak at the radius has neighbours
        return cls(direction_series(image, valid, n_orientations, margin=margin), margin, half)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.framed.shape[1] - 2 * self.margin, self.framed.shape[2] - 2 * self.margin

    @property
    def side(self) -> int:
        """Of a window, px."""
        return 2 * self.half + 1

    def norms(self, row: int, column: int, n: int = 1) -> NDArray[np.float64]:
        """Return the lengths ``(n, n)`` of the vectors of windows; their top-left pixels begin at one of the frame."""
        side = self.side
        table = self._sums[0][row : row + n + side, column : column + n + side]
        squares = table[side:, side:] - table[:n, side:] - table[side:, :n] + table[:n, :n]
        return np.asarray(np.sqrt(np.maximum(squares, 0)))

    def share(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the share ``(N,)`` of the window around each pixel that holds structure."""
        total, side = self._sums[1], self.side
        top, left = rows + self.margin - self.half, columns + self.margin - self.half
        bottom, right = top + side, left + side
        return np.asarray((total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]) / side**2)

    @cached_property
    def _sums(self) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Summed-area tables of the squared lengths of the pixels' vectors, and of the pixels that are not 0."""
        parts = self.framed.view(np.float32)
        energy = np.empty(self.framed.shape[1:], np.float32)

        def fill(rows: slice) -> None:
            """Compute the squared lengths of some rows."""
            squares = np.einsum("kij,kij->ij", parts[:, rows], parts[:, rows])
            np.add(squares[:, 0::2], squares[:, 1::2], out=energy[rows])

        map_row_blocks(fill, len(energy))
        planes: list[tuple[Image | NDArray[np.uint8], int]]
        planes = [(energy, cv2.CV_64F), ((energy > 0).view(np.uint8), cv2.CV_32S)]
        squares, present = parallel_map(lambda plane: cv2.integral(plane[0], sdepth=plane[1]), planes)
        return np.asarray(squares, np.float64), np.asarray(present, np.int32)


def peaks_between(fixed: Structure, moving: Structure, points: NDArray[np.float64], radius: int, k: int) -> LocalPeaks:
    """Search windows of the fixed image in the moving image, each around its own position, by FFT.

    Args:
        fixed: Image whose windows are searched.
        moving: Image in which they are searched, placed on the fixed grid by the current estimate.
        points: ``(N, 2)`` points (x, y) on the fixed image.
        radius: Largest shift along x and y, px; at most the one that the images were prepared for.
        k: Peaks per point.

    Returns:
        The peaks; their positions are on the grid that both images share.

    Raises:
        ValueError: The images are not on one grid.
    """
    if fixed.shape != moving.shape:
        raise ValueError(f"images of {fixed.shape} and {moving.shape} px are not on one grid")
    xy = np.asarray(points, np.float64).reshape(-1, 2)
    columns, rows = np.clip(np.rint(xy).astype(np.int64), 0, (fixed.shape[1] - 1, fixed.shape[0] - 1)).T
    structured = fixed.share(rows, columns) >= _MIN_STRUCTURE
    structured &= moving.share(rows, columns) >= _MIN_STRUCTURE
    shift, correlation = _peaks(_surfaces(fixed, moving, rows, columns, radius + 1), k)
    exists = np.isfinite(correlation)
    return LocalPeaks(
        positions=xy[:, None, :] + shift,
        correlation=np.where(exists, correlation, 0).astype(np.float32),
        valid=exists & structured[:, None],
    )


def _surfaces(
    fixed: Structure, moving: Structure, rows: NDArray[np.int64], columns: NDArray[np.int64], reach: int
) -> NDArray[np.float32]:
    """Return the normalised correlation ``(N, 2 reach + 1, 2 reach + 1)`` of every point at every shift."""
    side, lags = fixed.side, 2 * reach + 1
    surfaces = np.empty((len(rows), lags, lags), np.float32)
    corners = np.stack([rows, columns], axis=1) + fixed.margin - fixed.half
    searched_corners = np.stack([rows, columns], axis=1) + moving.margin - moving.half - reach
    n_parts = min(pool_threads(), len(rows))  # each with its memory, a megabyte or two

    def fill(first: int) -> None:
        """Compute the surfaces of each ``n_parts``-th point."""
        correlator = _Correlator(len(fixed.framed), side, side + lags - 1)
        for i in range(first, len(rows), n_parts):
            (y, x), (v, u) = corners[i].tolist(), searched_corners[i].tolist()
            product = correlator.product(fixed.framed, (y, x), moving.framed, (v, u))[:lags, :lags]
            np.divide(product, np.maximum(fixed.norms(y, x) * moving.norms(v, u, lags), 1e-6), out=surfaces[i])

    parallel_map(fill, range(n_parts))
    return surfaces


class _Correlator:
    """Correlates windows of K terms and one side, px, with larger ones (``searched``), in memory that is reused."""

    def __init__(self, n_terms: int, side: int, searched: int) -> None:
        self._side, self._searched = side, searched
        size = fft.fast_side(searched)  # no shift at which the window lies within the other wraps around
        self._planes, self._spectra = np.zeros((2, 2, n_terms, size, size), np.complex64)
        self._total = np.empty((size, size), np.complex64)

    def product(self, windows: Series, at: tuple[int, int], others: Series, from_: tuple[int, int]) -> Image:
        """Correlate the window of ``windows`` at a corner (row, column) with the one of ``others``.

        Returns:
            Real part of the sum over all terms and pixels at every shift, on a square of at least searched - side + 1
            px; the next call overwrites it.
        """
        (y, x), (v, u), side, searched = at, from_, self._side, self._searched
        window, other = self._planes
        np.conjugate(windows[:, y : y + side, x : x + side], out=window[:, :side, :side])
        other[:, :searched, :searched] = others[:, v : v + searched, u : u + searched]
        spectra = self._spectra
        fft.conjugate_spectra(window, out=spectra[0])
        fft.transform(other, out=spectra[1])
        spectra[1] *= spectra[0]
        spectra[1].sum(axis=0, out=self._total)
        return fft.transform_back(self._total, out=self._total).real


def _peaks(surfaces: NDArray[np.float32], k: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return shifts ``(N, k, 2)`` from the centre and heights ``(N, k)`` of k peaks; NaN and -inf for missing ones."""
    n, lags, _ = surfaces.shape
    around = np.ones((2 * _PEAK_SEPARATION + 1,) * 2, np.uint8)
    highest = np.empty_like(surfaces)
    for surface, largest in zip(surfaces, highest, strict=True):
        cv2.dilate(surface, around, dst=largest)
    candidates = np.where((surfaces == highest) & (surfaces > 0), surfaces, -np.inf)
    candidates[:, [0, -1], :] = candidates[:, :, [0, -1]] = -np.inf
    flat = candidates.reshape(n, lags * lags)
    order = np.empty((n, min(k, lags * lags)), np.int64)
    height = np.empty(order.shape, np.float32)
    for rank in range(order.shape[1]):
        order[:, rank] = flat.argmax(axis=1)
        height[:, rank] = flat[np.arange(n), order[:, rank]]
        flat[np.arange(n), order[:, rank]] = -np.inf
    row, column = np.divmod(np.where(np.isfinite(height), order, lags * (lags // 2) + lags // 2), lags)
    shift = np.stack([column, row], axis=-1) - lags // 2 + _subpixel(surfaces, row, column)
    shift[~np.isfinite(height)] = np.nan
    return shift, height


def _subpixel(surfaces: NDArray[np.float32], row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the vertex ``(N, k, 2)`` of a quadratic through the 3 x 3 samples around each peak, (x, y) within 1 px."""
    step = np.arange(-1, 2)
    index = np.arange(len(surfaces))[:, None, None, None]
    samples = surfaces[index, row[..., None, None] + step[:, None], column[..., None, None] + step]
    dx, dy, dxx, dyy, dxy = np.einsum("nkij,sij->snk", samples.astype(np.float64), _STENCILS)
    determinant = dxx * dyy - dxy**2
    peaked = (determinant > 0) & (dxx < 0)
    safe = np.where(peaked, determinant, 1.0)
    offset = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=-1) / safe[..., None]
    return np.where(peaked[..., None], np.clip(offset, -1, 1), 0.0)

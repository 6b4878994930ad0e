"""Local search: where around each point the moving image's structure correlates best with the fixed image's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from rrl_register.structure import Image

_BATCH_BYTES = 8_000_000
"""Memory of the windows of one batch: small enough to stay near the processor's caches."""
_MAX_THREADS = 8
"""Batches at a time, each with its memory."""
_PEAK_SEPARATION = 2
"""Peaks nearer than this to a higher one (chessboard) are part of it, px."""
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
        positions: (N, k, 2) float64, (x, y) on the moving channels; NaN where there is no such peak.
        correlation: (N, k) float32, normalised correlation at the peak, -1..1; 0 where there is none.
        valid: (N, k) bool, whether the peak exists and its window holds enough structure in both images.
        prominence: (N,) float32, height of the highest correlation above the mean of its search area, in standard
            deviations of it.
    """

    positions: NDArray[np.float64]
    correlation: NDArray[np.float32]
    valid: NDArray[np.bool_]
    prominence: NDArray[np.float32]

    @property
    def ratio(self) -> NDArray[np.float32]:
        """(N,) second peak over first, 0 (alone) to 1 (ambiguous); 0 where there is no second peak."""
        if self.correlation.shape[1] < 2:
            return np.zeros(len(self.correlation), np.float32)
        first, second = self.correlation[:, 0], self.correlation[:, 1]
        return np.where(first > 0, np.maximum(second, 0) / np.maximum(first, 1e-6), 0).astype(np.float32)


@dataclass(frozen=True)
class Structure:
    """An image ready to be correlated with another one, by windows of one size.

    Each pixel's mean over its channels is taken off: an invalid pixel, all 0, then neither adds to a correlation nor
    makes an edge, and only the direction of the structure counts.

    Attributes:
        framed: (H + 2 m, W + 2 m, C) float32, the channels within a frame of zeros.
        margin: m, its width, px.
        half: half the side of a window, which is 2 half + 1, px.
    """

    framed: Image
    margin: int
    half: int

    @classmethod
    def of(cls, channels: Image, half: int, radius: int) -> Structure:
        """Prepares channels (H, W, C), as of ``oriented_gradients``, for searches of ``radius`` px at most."""
        margin = half + radius + 1  # one more than asked for, so that a peak at the radius has neighbours
        height, width, n_channels = channels.shape
        framed = np.zeros((height + 2 * margin, width + 2 * margin, n_channels), np.float32)
        inside = framed[margin : margin + height, margin : margin + width]
        np.subtract(channels, channels.mean(axis=-1, keepdims=True), out=inside)
        return cls(framed, margin, half)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.framed.shape[0] - 2 * self.margin, self.framed.shape[1] - 2 * self.margin

    @cached_property
    def norms(self) -> NDArray[np.float32]:
        """Length of the vector of all channels in the window of each top-left pixel at which it fits."""
        total = self._box_sum(self._energy, cv2.CV_64F)
        half = self.half
        return np.asarray(np.sqrt(np.maximum(total[half:-half, half:-half], 0)), np.float32)

    @cached_property
    def share(self) -> Image:
        """Share of the window around each pixel, frame included, that holds structure."""
        present = (self._energy > 0).astype(np.float32)
        return np.asarray(self._box_sum(present, cv2.CV_32F) / (2 * self.half + 1) ** 2, np.float32)

    @property
    def _energy(self) -> Image:
        return np.asarray(np.einsum("ijk,ijk->ij", self.framed, self.framed), np.float32)

    def _box_sum(self, values: Image, depth: int) -> NDArray[np.floating]:
        side = (2 * self.half + 1,) * 2
        return np.asarray(cv2.boxFilter(values, depth, side, normalize=False, borderType=cv2.BORDER_CONSTANT))


def local_peaks(
    fixed_channels: Image,
    moving_channels: Image,
    points: NDArray[np.float64],
    half: int = 32,
    radius: int = 16,
    k: int = 3,
) -> LocalPeaks:
    """Search windows of the fixed image in the moving image, each around its own place.

    Args:
        fixed_channels: (H, W, C) float32, as of ``oriented_gradients``.
        moving_channels: (H, W, C) float32, the moving image's, brought onto the fixed grid by the current estimate.
        points: (N, 2) points (x, y) on the fixed image.
        half: half the side of a window, which is 2 half + 1, px.
        radius: largest shift searched along x and y, px.
        k: peaks per point.

    Returns:
        The peaks, with positions on the grid that both images share.
    """
    fixed, moving = (Structure.of(channels, half, radius) for channels in (fixed_channels, moving_channels))
    return peaks_between(fixed, moving, points, radius, k)


def peaks_between(fixed: Structure, moving: Structure, points: NDArray[np.float64], radius: int, k: int) -> LocalPeaks:
    """As ``local_peaks``, of images that are prepared for many searches. Correlations are computed by batched FFT.

    Args:
        fixed: The image whose windows are searched.
        moving: The image that they are searched in, on the same grid.
        points: (N, 2) points (x, y) on the fixed image.
        radius: largest shift searched along x and y, px; not more than they were prepared for.
        k: peaks per point.
    """
    if fixed.shape != moving.shape:
        raise ValueError(f"images of {fixed.shape} and {moving.shape} px are not on one grid")
    xy = np.asarray(points, np.float64).reshape(-1, 2)
    rows, columns = _indices(xy, fixed.shape)
    surfaces = _surfaces(fixed, moving, rows, columns, radius + 1)
    shift, correlation = _peaks(surfaces, k)
    exists = np.isfinite(correlation)
    enough = [image.share[rows + image.margin, columns + image.margin] >= _MIN_STRUCTURE for image in (fixed, moving)]
    return LocalPeaks(
        positions=xy[:, None, :] + shift,
        correlation=np.where(exists, correlation, 0).astype(np.float32),
        valid=exists & (enough[0] & enough[1])[:, None],
        prominence=_prominence(surfaces),
    )


def _indices(points: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Nearest pixel of each point, rows and columns, inside the image."""
    nearest = np.rint(points).astype(np.int64)
    return np.clip(nearest[:, 1], 0, shape[0] - 1), np.clip(nearest[:, 0], 0, shape[1] - 1)


def _surfaces(
    fixed: Structure, moving: Structure, rows: NDArray[np.int64], columns: NDArray[np.int64], reach: int
) -> NDArray[np.float32]:
    """(N, 2 reach + 1, 2 reach + 1) normalised correlation for every shift of every point."""
    side, lags, n_channels = 2 * fixed.half + 1, 2 * reach + 1, fixed.framed.shape[-1]
    windows = sliding_window_view(fixed.framed, (side, side), (0, 1))
    searched = sliding_window_view(moving.framed, (side + lags - 1,) * 2, (0, 1))
    norms = sliding_window_view(moving.norms, (lags, lags))
    surfaces = np.empty((len(rows), lags, lags), np.float32)
    batch = max(1, _BATCH_BYTES // (4 * n_channels * (side + lags) ** 2))
    window_corner, search_corner = fixed.margin - fixed.half, moving.margin - moving.half - reach

    def fill(start: int) -> None:
        """One batch of points."""
        part = slice(start, start + batch)
        row, column = rows[part], columns[part]
        template = np.ascontiguousarray(windows[row + window_corner, column + window_corner])
        norm = np.sqrt(np.einsum("ncyx,ncyx->n", template, template))
        row, column = row + search_corner, column + search_corner
        product = _correlate(template, np.ascontiguousarray(searched[row, column]), lags)
        surfaces[part] = product / np.maximum(norm[:, None, None] * norms[row, column], 1e-6)

    with ThreadPoolExecutor(min(cv2.getNumThreads(), _MAX_THREADS)) as pool:
        for _ in pool.map(fill, range(0, len(rows), batch)):
            pass
    return surfaces


def _correlate(template: Image, searched: Image, lags: int) -> Image:
    """Sum over channels of the correlation of (N, C, s, s) windows in (N, C, s + lags - 1, s + lags - 1) ones."""
    size = scipy.fft.next_fast_len(searched.shape[-1], real=True)  # no lag that is kept wraps around
    spectrum = scipy.fft.rfft2(searched, (size, size))
    spectrum *= scipy.fft.rfft2(template, (size, size)).conj()
    return np.asarray(scipy.fft.irfft2(spectrum.sum(axis=1), (size, size))[:, :lags, :lags], np.float32)


def _peaks(surfaces: NDArray[np.float32], k: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Shifts (N, k, 2) from the centre and heights (N, k) of the k highest peaks; NaN and -inf where there are less."""
    n, lags, _ = surfaces.shape
    highest = maximum_filter(surfaces, size=(1,) + (2 * _PEAK_SEPARATION + 1,) * 2, mode="nearest")
    candidates = np.where((surfaces == highest) & (surfaces > 0), surfaces, -np.inf)
    candidates[:, [0, -1], :] = candidates[:, :, [0, -1]] = -np.inf
    flat = candidates.reshape(n, lags * lags)
    order = np.argsort(-flat, axis=1, kind="stable")[:, :k]
    height = np.take_along_axis(flat, order, axis=1)
    row, column = np.divmod(np.where(np.isfinite(height), order, lags * (lags // 2) + lags // 2), lags)
    offset = _subpixel(surfaces, row, column)
    shift = np.stack([column, row], axis=-1) - lags // 2 + offset
    shift[~np.isfinite(height)] = np.nan
    return shift, height


def _subpixel(surfaces: NDArray[np.float32], row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, k, 2) offset (x, y) of the vertex of a quadratic through the 3 x 3 samples around each peak, within 1 px."""
    step = np.arange(-1, 2)
    index = np.arange(len(surfaces))[:, None, None, None]
    samples = surfaces[index, row[..., None, None] + step[:, None], column[..., None, None] + step]
    dx, dy, dxx, dyy, dxy = np.einsum("nkij,sij->snk", samples.astype(np.float64), _STENCILS)
    determinant = dxx * dyy - dxy**2
    peaked = (determinant > 0) & (dxx < 0)
    safe = np.where(peaked, determinant, 1.0)
    offset = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=-1) / safe[..., None]
    return np.where(peaked[..., None], np.clip(offset, -1, 1), 0.0)


def _prominence(surfaces: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = surfaces.reshape(len(surfaces), surfaces.shape[1] * surfaces.shape[2])
    spread = np.maximum(flat.std(axis=1), 1e-6)
    return np.asarray((flat.max(axis=1) - flat.mean(axis=1)) / spread, np.float32)

"""Exhaustive scan: rotations, scales and all shifts of a whole scene, tried on much reduced images.

Orientation harmonics turn with the image: under a rotation by t the term of order j is multiplied by exp(2ijt), as
steerable filters are (Freeman and Adelson 1991). So the features of the moving image are computed once for each scale,
and a rotation costs their resampling; all its shifts are tried at once by FFT.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from rrl_register.estimation.transforms import Matrix, centre_of, compose, similarity, translation
from rrl_register.matching.correlation import ReducedPair, centred_harmonics, least_overlap
from rrl_register.structure import Image, Mask

_PEAKS_PER_MAP = 2
_PEAK_RADIUS = 6
"""Shifts this near to a peak (chessboard) belong to it, scanned px."""
_THREADS = 2
"""Scales are scanned side by side; OpenCV and the FFT let go of Python's lock."""


class Peak(NamedTuple):
    """A transform at which the correlation has a maximum, found or improved.

    Attributes:
        height: What it is ranked by; of a scan, the correlation per root of the overlap.
        matrix: (3, 3) transform moving -> fixed.
        scale: Fixed pixels per moving pixel.
    """

    height: float
    matrix: Matrix
    scale: float


def scan(
    fixed: Image,
    fixed_valid: Mask,
    moving: Image,
    moving_valid: Mask,
    rotations: Sequence[float],
    scales: Sequence[float],
    max_shift: float,
    side: int,
) -> list[Peak]:
    """Correlate the orientation features of both images under every rotation, scale and shift.

    Args:
        fixed: (H, W) float32.
        fixed_valid: (H, W) bool.
        moving: (h, w) float32.
        moving_valid: (h, w) bool.
        rotations: of the moving image, degrees.
        scales: fixed pixels per moving pixel.
        max_shift: how far the centre of the moving image may come to lie from that of the fixed one, fixed pixels.
        side: longest side of the smaller of the two images, by the ground that they cover, after reduction, px.

    Returns:
        The first peaks of each rotation and scale, highest first.
    """

    def at_scale(scale: float) -> list[Peak]:
        """The first peaks of each rotation at one scale."""
        pair = ReducedPair.of(fixed, fixed_valid, moving, moving_valid, side, scale)
        turner = _Turner.of(pair, max_shift)
        peaks = [peak for rotation in rotations for peak in turner.peaks(rotation)]
        return [Peak(height, pair.to_full(matrix), scale) for height, matrix in peaks]

    with ThreadPoolExecutor(_THREADS) as pool:
        found = [peak for peaks in pool.map(at_scale, scales) for peak in peaks]
    return sorted(found, key=lambda peak: -peak.height)


@dataclass(frozen=True)
class _Turner:
    """A reduced pair ready for any rotation.

    Attributes:
        harmonics: (J, h, w) complex64, of the moving image.
        moving_valid: (h, w) float32.
        features_spectrum: Conjugate spectrum of the fixed image's features, (2 J, ...).
        valid_spectrum: Conjugate spectrum of its mask.
        canvas: Side of the square that the moving image is turned on, px; its centre is the image's.
        size: (rows, columns) of the FFT.
        lags: Shift along y of each row of a correlation map and along x of each column: canvas minus fixed pixels.
        within: Which of them keep the moving centre within reach of the fixed one.
        least_overlap: Pixels that a smaller overlap is scored as.
    """

    harmonics: NDArray[np.complex64]
    moving_valid: Image
    features_spectrum: NDArray[np.complex64]
    valid_spectrum: NDArray[np.complex64]
    canvas: int
    size: tuple[int, int]
    lags: tuple[NDArray[np.int64], NDArray[np.int64]]
    within: Mask
    least_overlap: float

    @classmethod
    def of(cls, pair: ReducedPair, max_shift: float) -> _Turner:
        """Prepares a pair; the reach is in fixed pixels."""
        reach = max(1.0, max_shift / pair.factor)
        shape = pair.fixed.shape
        canvas = int(min(np.ceil(np.hypot(*pair.moving.shape)), max(shape) + 2 * np.ceil(reach)))
        at_centre = [(canvas - side) / 2 for side in shape]
        sizes = tuple(_fft_side(canvas, side, lag, reach) for side, lag in zip(shape, at_centre, strict=True))
        lags = tuple(_lags(size, lag + reach + 1) for size, lag in zip(sizes, at_centre, strict=True))
        away = np.hypot(lags[0][:, None] - at_centre[0], lags[1] - at_centre[1])
        moving = centred_harmonics(pair.moving, pair.moving_valid)
        transform = partial(scipy.fft.rfft2, s=sizes)
        return cls(
            harmonics=moving[0::2] + 1j * moving[1::2],
            moving_valid=pair.moving_valid.astype(np.float32),
            features_spectrum=transform(centred_harmonics(pair.fixed, pair.fixed_valid)).conj(),
            valid_spectrum=transform(pair.fixed_valid.astype(np.float32)).conj(),
            canvas=canvas,
            size=(sizes[0], sizes[1]),
            lags=(lags[0], lags[1]),
            within=np.asarray(away <= reach + 0.5),
            least_overlap=least_overlap(pair),
        )

    def peaks(self, rotation_deg: float) -> list[tuple[float, Matrix]]:
        """The first peaks (height, reduced transform) of a rotation."""
        turn, features, valid = self._turned(rotation_deg)
        spectrum = np.einsum("cij,cij->ij", scipy.fft.rfft2(features, self.size), self.features_spectrum)
        product = scipy.fft.irfft2(spectrum, self.size)
        overlap = scipy.fft.irfft2(scipy.fft.rfft2(valid, self.size) * self.valid_spectrum, self.size)
        surface = np.where(self.within, product / np.sqrt(np.maximum(overlap, self.least_overlap)), 0)
        rows, columns = self.lags
        return [
            (height, compose(translation(-float(columns[x]), -float(rows[y])), turn))
            for height, x, y in _highest(surface)
        ]

    def _turned(self, rotation_deg: float) -> tuple[Matrix, Image, Image]:
        """The turn onto the canvas, features (2 J, canvas, canvas) and mask (canvas, canvas) after it."""
        x, y = centre_of(self.moving_valid.shape)
        middle = (self.canvas - 1) / 2
        turn = compose(translation(middle, middle), similarity(1.0, rotation_deg), translation(-x, -y))
        planes = []
        for order, term in enumerate(self.harmonics, start=1):
            steered = term * np.complex64(np.exp(2j * order * np.deg2rad(rotation_deg)))
            planes += [np.ascontiguousarray(steered.real), np.ascontiguousarray(steered.imag)]
        place = partial(cv2.warpPerspective, M=turn, dsize=(self.canvas, self.canvas), flags=cv2.INTER_LINEAR)
        valid = np.asarray(place(self.moving_valid) > 0.9, np.float32)
        return turn, np.stack([np.asarray(place(plane), np.float32) for plane in planes]) * valid, valid


def _fft_side(canvas: int, side: int, at_centre: float, reach: float) -> int:
    """Length of an FFT at which no shift within reach wraps the fixed image around onto the moving one."""
    least, most = at_centre - reach - 1, at_centre + reach + 1
    return int(scipy.fft.next_fast_len(int(np.ceil(max(canvas + max(0.0, -least), most + side))), real=True))


def _lags(size: int, most: float) -> NDArray[np.int64]:
    """The shift that each index of a circular correlation stands for: those above ``most`` are negative ones."""
    index = np.arange(size)
    return np.where(index > most, index - size, index)


def _highest(surface: Image) -> list[tuple[float, int, int]]:
    """The first peaks (height, x, y) of a map, whose surroundings are struck out as they are taken."""
    peaks = []
    for _ in range(_PEAKS_PER_MAP):
        y, x = (int(i) for i in np.unravel_index(np.argmax(surface), surface.shape))
        if not surface[y, x] > 0:
            break
        peaks.append((float(surface[y, x]), x, y))
        surface[max(0, y - _PEAK_RADIUS) : y + _PEAK_RADIUS + 1, max(0, x - _PEAK_RADIUS) : x + _PEAK_RADIUS + 1] = 0
    return peaks

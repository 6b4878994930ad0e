"""Exhaustive scan: rotations, scales and all shifts of a whole scene, tried on much reduced images.

Orientation harmonics turn with the image: under a rotation by t the term of order j is multiplied by exp(2ijt), as
steerable filters are (Freeman and Adelson 1991). So the features of the moving image are computed once for each scale,
and a rotation costs their resampling; all its shifts are tried at once by FFT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.geometry.arrays import Image, Mask, Matrix
from rrl_register.geometry.transforms import centre_of, compose, similarity, translation
from rrl_register.matching.coarse_features import ReducedPair, centred_harmonics, least_overlap
from rrl_register.matching.features import fft
from rrl_register.matching.features.oriented_gradients import Series
from rrl_register.parallel import parallel_map

_PEAKS_PER_MAP = 2
_PEAK_RADIUS = 6
"""Shifts this near to a peak (chessboard) belong to it, scanned px."""


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

    def reduced(scale: float) -> ReducedPair:
        """The pair at one scale."""
        return ReducedPair.of(fixed, fixed_valid, moving, moving_valid, side, scale)

    pairs = parallel_map(reduced, scales)
    turners = parallel_map(lambda pair: _Turner.of(pair, max_shift), pairs)
    tries = [(i, rotations[j : j + 2]) for i in range(len(scales)) for j in range(0, len(rotations), 2)]
    peaks = parallel_map(lambda each: turners[each[0]].peaks(each[1]), tries)
    found = [
        Peak(height, pairs[i].to_full(matrix), scales[i])
        for (i, _), highest in zip(tries, peaks, strict=True)
        for height, matrix in highest
    ]
    return sorted(found, key=lambda peak: -peak.height)


@dataclass(frozen=True)
class _Turner:
    """A reduced pair ready for any rotation.

    Attributes:
        harmonics: (h, w, J), of the moving image; four channels, if real, are what OpenCV turns fastest.
        moving_valid: (h, w) float32.
        features_spectra: Conjugate spectra of the fixed image's harmonics, (J, ...).
        valid_spectrum: Conjugate spectrum of its mask.
        canvas: Side of the square that the moving image is turned on, px; its centre is the image's.
        size: (rows, columns) of the FFT.
        lags: Shift along y of each row of a correlation map and along x of each column: canvas minus fixed pixels.
        within: Which of them keep the moving centre within reach of the fixed one.
        least_overlap: Pixels that a smaller overlap is scored as.
    """

    harmonics: Series
    moving_valid: Image
    features_spectra: Series
    valid_spectrum: Series
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
        features = centred_harmonics(pair.fixed, pair.fixed_valid)
        fixed = np.zeros((len(features) + 1, *sizes), np.complex64)
        fixed[:-1, : shape[0], : shape[1]] = features.conj()
        fixed[-1, : shape[0], : shape[1]] = pair.fixed_valid
        fft.conjugate_spectra(fixed, out=fixed)
        return cls(
            harmonics=np.ascontiguousarray(np.moveaxis(centred_harmonics(pair.moving, pair.moving_valid), 0, -1)),
            moving_valid=pair.moving_valid.astype(np.float32),
            features_spectra=fixed[:-1],
            valid_spectrum=fixed[-1],
            canvas=canvas,
            size=(sizes[0], sizes[1]),
            lags=(lags[0], lags[1]),
            within=np.asarray(away <= reach + 0.5),
            least_overlap=least_overlap(pair),
        )

    def peaks(self, rotations: Sequence[float]) -> list[tuple[float, Matrix]]:
        """The first peaks (height, reduced transform) of each of two rotations, degrees, or of one."""
        turns, valid = zip(*(self._turned_mask(rotation) for rotation in rotations), strict=True)
        found = []
        for rotation, turn, mask, overlap in zip(rotations, turns, valid, self._overlaps(valid), strict=False):
            product = self._product(rotation, turn, mask)
            surface = np.where(self.within, product / np.sqrt(np.maximum(overlap, self.least_overlap)), 0)
            found += [
                (height, compose(translation(-float(self.lags[1][x]), -float(self.lags[0][y])), turn))
                for height, x, y in _highest(surface)
            ]
        return found

    def _turned_mask(self, rotation_deg: float) -> tuple[Matrix, Mask]:
        """The turn onto the canvas, and the mask (canvas, canvas) after it."""
        x, y = centre_of(self.moving_valid.shape)
        middle = (self.canvas - 1) / 2
        turn = compose(translation(middle, middle), similarity(1.0, rotation_deg), translation(-x, -y))
        return turn, np.asarray(self._placed(self.moving_valid, turn) > 0.9)

    def _placed(self, image: Image, turn: Matrix) -> Image:
        size = (self.canvas, self.canvas)
        return np.asarray(cv2.warpAffine(image, turn[:2], size, flags=cv2.INTER_LINEAR), np.float32)

    def _overlaps(self, masks: Sequence[Mask]) -> tuple[Image, Image]:
        """Pixels that masks (canvas, canvas) share with the fixed image's at each shift, of two or of one and nothing.

        Correlations with what is real keep real and imaginary parts apart: two take one transform.
        """
        plane = np.zeros(self.size, np.complex64)
        for part, mask in zip((plane.real, plane.imag), masks, strict=False):
            part[: self.canvas, : self.canvas] = mask
        fft.transform(plane, out=plane)
        plane *= self.valid_spectrum
        fft.transform_back(plane, out=plane)
        return plane.real, plane.imag

    def _product(self, rotation_deg: float, turn: Matrix, valid: Mask) -> Image:
        """Correlation of the features at each shift."""
        n_terms = self.harmonics.shape[-1]
        turned = np.exp(2j * np.arange(1, n_terms + 1) * np.deg2rad(rotation_deg)).astype(np.complex64)
        placed = self._placed((self.harmonics * turned).view(np.float32), turn).view(np.complex64)
        spectra = np.zeros((n_terms, *self.size), np.complex64)
        for term, plane in enumerate(spectra):
            np.multiply(placed[..., term], valid, out=plane[: self.canvas, : self.canvas])
        fft.transform(spectra, out=spectra)
        spectra *= self.features_spectra
        return fft.transform_back(spectra.sum(axis=0)).real


def _fft_side(canvas: int, side: int, at_centre: float, reach: float) -> int:
    """Length of an FFT at which no shift within reach wraps the fixed image around onto the moving one."""
    least, most = at_centre - reach - 1, at_centre + reach + 1
    return fft.fast_side(int(np.ceil(max(canvas + max(0.0, -least), most + side))))


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

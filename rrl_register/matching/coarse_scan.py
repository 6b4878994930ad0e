"""Exhaustive scan: rotations, scales and all shifts of a whole scene, tried on much reduced images.

Orientation harmonics rotate with the image: under a rotation by t the term of order j is multiplied by exp(2ijt), like
steerable filters (Freeman and Adelson 1991). So the features of the moving image are computed once per scale, a
rotation costs their resampling, and all its shifts are tried at once by FFT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.geometry.arrays import Image, Mask, Matrix
from rrl_register.geometry.transforms import centre_of, compose, invert, similarity, translation
from rrl_register.matching.features import fft
from rrl_register.matching.features.oriented_gradients import Series, orientation_harmonics
from rrl_register.parallel import parallel_map

_MIN_OVERLAP = 0.3
"""Least overlap, as a share of the smaller valid area: a smaller one scores as if it had this size, since tiny ones
agree by chance."""
_VALID_WEIGHT = 0.9
"""Interpolation weight on valid pixels from which a pixel is valid."""
_PEAKS_PER_MAP = 2
_PEAK_RADIUS = 6
"""Chessboard distance within which shifts belong to one peak, scanned px."""


@dataclass(frozen=True)
class SearchGrid:
    """Rotations and scales of a scan, and its resolution.

    Attributes:
        rotations: Rotations of the moving image, degrees.
        scales: Fixed pixels per moving pixel.
        side: Longest side of the smaller image during the scan, px. Half a step of rotation or scale moves the rim by
            2.5 px, which the features tolerate.
        screened: Peaks that are refined on somewhat larger images first, because a coarse scan does not rank them
            reliably; 0: none.
    """

    rotations: tuple[float, ...]
    scales: tuple[float, ...]
    side: int = 192
    screened: int = 0

    def times(self, scale: float) -> SearchGrid:
        """Return the grid for a moving image whose pixels are not scaled yet."""
        return replace(self, scales=tuple(scale * each for each in self.scales))


@dataclass(frozen=True)
class ReducedPair:
    """Both images, reduced to one pixel size.

    Attributes:
        fixed: ``(H, W)`` float32.
        fixed_valid: ``(H, W)`` bool.
        fixed_scale: ``(3, 3)`` reduced px -> full fixed px.
        moving: ``(h, w)`` float32.
        moving_valid: ``(h, w)`` bool.
        moving_scale: ``(3, 3)`` reduced px -> full moving px.
    """

    fixed: Image
    fixed_valid: Mask
    fixed_scale: Matrix
    moving: Image
    moving_valid: Mask
    moving_scale: Matrix

    @classmethod
    def of(
        cls, fixed: Image, fixed_valid: Mask, moving: Image, moving_valid: Mask, side: int, scale: float = 1.0
    ) -> ReducedPair:
        """Reduce both images, as of ``scan``, to one pixel size on the ground; neither is enlarged.

        ``side`` is the longest side left of the image that covers less ground, px; ``scale`` the known fixed px per
        moving px.
        """
        factor = max(1.0, scale, min(max(fixed.shape), scale * max(moving.shape)) / side)
        return cls(*_averaged(fixed, fixed_valid, factor), *_averaged(moving, moving_valid, factor / scale))

    @property
    def factor(self) -> float:
        """Fixed pixels per reduced pixel."""
        return float(np.sqrt(self.fixed_scale[0, 0] * self.fixed_scale[1, 1]))

    @property
    def least_overlap(self) -> float:
        """Number of pixels as which a smaller overlap is scored."""
        return _MIN_OVERLAP * float(min(self.fixed_valid.sum(), self.moving_valid.sum())) + 1.0

    def to_full(self, matrix: Matrix) -> Matrix:
        """Convert a transform between the reduced images to one between the full images."""
        return compose(self.fixed_scale, matrix, invert(self.moving_scale))

    def to_reduced(self, matrix: Matrix) -> Matrix:
        """Convert a transform between the full images to one between the reduced images."""
        return compose(invert(self.fixed_scale), matrix, self.moving_scale)

    def warped(self, matrix: Matrix, shape: tuple[int, ...]) -> tuple[Image, Mask]:
        """Warp the reduced moving image onto a canvas; return values and mask, both of ``shape``."""
        size = (shape[1], shape[0])
        image = cv2.warpPerspective(self.moving, matrix, size, flags=cv2.INTER_LINEAR)
        valid = cv2.warpPerspective(self.moving_valid.astype(np.float32), matrix, size, flags=cv2.INTER_LINEAR)
        return np.asarray(image, np.float32), np.asarray(valid > _VALID_WEIGHT)


def _averaged(image: Image, valid: Mask, factor: float) -> tuple[Image, Mask, Matrix]:
    """Average image and mask over ``factor`` pixels, without invalid ones; also return reduced px -> full px."""
    height, width = (max(1, round(side / factor)) for side in image.shape)
    reduce = partial(cv2.resize, dsize=(width, height), interpolation=cv2.INTER_AREA)
    x, y = image.shape[1] / width, image.shape[0] / height
    back = np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]])
    if valid.all():
        return np.asarray(reduce(image), np.float32), np.ones((height, width), bool), back
    weight, total = reduce(valid.astype(np.float32)), reduce(np.where(valid, image, np.float32(0)))
    return np.asarray(total / np.maximum(weight, np.float32(1e-3)), np.float32), np.asarray(weight > 0.5), back


def centred_harmonics(image: Image, valid: Mask) -> Series:
    """Compute orientation harmonics ``(J, H, W)`` less their mean.

    The mean would let two scenes correlate that only share a main direction.
    """
    harmonics = orientation_harmonics(image, valid)
    harmonics -= (harmonics.sum(axis=(1, 2)) / np.float32(max(int(valid.sum()), 1)))[:, None, None]
    harmonics *= valid
    return harmonics


class Peak(NamedTuple):
    """A transform at a maximum of the correlation.

    Attributes:
        height: Its rank; for a scan, the correlation per root of the overlap.
        matrix: ``(3, 3)`` moving px -> fixed px.
        scale: Fixed pixels per moving pixel.
    """

    height: float
    matrix: Matrix
    scale: float


def scan(
    fixed: Image, fixed_valid: Mask, moving: Image, moving_valid: Mask, grid: SearchGrid, max_shift: float
) -> list[Peak]:
    """Correlate the orientation features of both images under every rotation, scale and shift.

    Args:
        fixed: ``(H, W)`` float32.
        fixed_valid: ``(H, W)`` bool.
        moving: ``(h, w)`` float32.
        moving_valid: ``(h, w)`` bool.
        grid: Rotations, scales, and the size of the reduced images.
        max_shift: Largest distance of the moving image's centre from the fixed one's, fixed px.

    Returns:
        The highest peaks of each rotation and scale, highest first.
    """
    images, scales = (fixed, fixed_valid, moving, moving_valid), grid.scales
    pairs = parallel_map(lambda scale: ReducedPair.of(*images, grid.side, scale), scales)
    correlators = parallel_map(lambda pair: RotationCorrelator.of(pair, max_shift), pairs)
    rotations = [grid.rotations[first : first + 2] for first in range(0, len(grid.rotations), 2)]
    tries = [(i, some) for i in range(len(scales)) for some in rotations]
    peaks = parallel_map(lambda each: correlators[each[0]].peaks(each[1]), tries)
    found = [
        Peak(height, pairs[i].to_full(matrix), scales[i])
        for (i, _), highest in zip(tries, peaks, strict=True)
        for height, matrix in highest
    ]
    return sorted(found, key=lambda peak: -peak.height)


@dataclass(frozen=True)
class RotationCorrelator:
    """Correlates a reduced pair under any rotation of the moving image.

    Attributes:
        harmonics: ``(h, w, J)`` of the moving image; as four real channels, which OpenCV warps fastest.
        moving_valid: ``(h, w)`` float32.
        features_spectra: ``(J, ...)`` conjugate spectra of the fixed image's harmonics.
        valid_spectrum: Conjugate spectrum of its mask.
        canvas: Side of the square on which the moving image is rotated, px; its centre is the image's.
        size: (rows, columns) of the FFT.
        lags: Shift along y of each row of a correlation map, and along x of each column: canvas px minus fixed px.
        within: Lags that keep the moving centre within reach of the fixed one.
        least_overlap: Number of pixels as which a smaller overlap is scored.
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
    def of(cls, pair: ReducedPair, max_shift: float) -> RotationCorrelator:
        """Prepare a pair; ``max_shift`` is in fixed px."""
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
            least_overlap=pair.least_overlap,
        )

    def peaks(self, rotations: Sequence[float]) -> list[tuple[float, Matrix]]:
        """Return the highest peaks (height, reduced transform) of one or two rotations, degrees."""
        turns, valid = zip(*(self._rotated_mask(rotation) for rotation in rotations), strict=True)
        found = []
        for rotation, turn, mask, overlap in zip(rotations, turns, valid, self._overlaps(valid), strict=False):
            product = self._product(rotation, turn, mask)
            surface = np.where(self.within, product / np.sqrt(np.maximum(overlap, self.least_overlap)), 0)
            found += [
                (height, compose(translation(-float(self.lags[1][x]), -float(self.lags[0][y])), turn))
                for height, x, y in _highest(surface)
            ]
        return found

    def _rotated_mask(self, rotation_deg: float) -> tuple[Matrix, Mask]:
        """Return the rotation onto the canvas, and the rotated mask ``(canvas, canvas)``."""
        x, y = centre_of(self.moving_valid.shape)
        middle = (self.canvas - 1) / 2
        turn = compose(translation(middle, middle), similarity(1.0, rotation_deg), translation(-x, -y))
        return turn, np.asarray(self._placed(self.moving_valid, turn) > _VALID_WEIGHT)

    def _placed(self, image: Image, turn: Matrix) -> Image:
        size = (self.canvas, self.canvas)
        return np.asarray(cv2.warpAffine(image, turn[:2], size, flags=cv2.INTER_LINEAR), np.float32)

    def _overlaps(self, masks: Sequence[Mask]) -> tuple[Image, Image]:
        """Return the number of pixels that one or two masks share with the fixed image's at each shift.

        Correlations with real values keep real and imaginary parts apart, so two take one transform.
        """
        plane = np.zeros(self.size, np.complex64)
        for part, mask in zip((plane.real, plane.imag), masks, strict=False):
            part[: self.canvas, : self.canvas] = mask
        fft.transform(plane, out=plane)
        plane *= self.valid_spectrum
        fft.transform_back(plane, out=plane)
        return plane.real, plane.imag

    def _product(self, rotation_deg: float, turn: Matrix, valid: Mask) -> Image:
        """Return the correlation of the features at each shift."""
        n_terms = self.harmonics.shape[-1]
        phase = np.exp(2j * np.arange(1, n_terms + 1) * np.deg2rad(rotation_deg)).astype(np.complex64)
        placed = self._placed((self.harmonics * phase).view(np.float32), turn).view(np.complex64)
        spectra = np.zeros((n_terms, *self.size), np.complex64)
        for term, plane in enumerate(spectra):
            np.multiply(placed[..., term], valid, out=plane[: self.canvas, : self.canvas])
        fft.transform(spectra, out=spectra)
        spectra *= self.features_spectra
        return fft.transform_back(spectra.sum(axis=0)).real


def _fft_side(canvas: int, side: int, at_centre: float, reach: float) -> int:
    """Return the length of an FFT at which no shift within reach wraps the fixed image around onto the moving one."""
    least, most = at_centre - reach - 1, at_centre + reach + 1
    return fft.fast_side(int(np.ceil(max(canvas + max(0.0, -least), most + side))))


def _lags(size: int, most: float) -> NDArray[np.int64]:
    """Return the shift of each index of a circular correlation: those above ``most`` are negative ones."""
    index = np.arange(size)
    return np.where(index > most, index - size, index)


def _highest(surface: Image) -> list[tuple[float, int, int]]:
    """Return the highest peaks (height, x, y) of a map; the surroundings of each are set to 0."""
    peaks = []
    for _ in range(_PEAKS_PER_MAP):
        y, x = (int(i) for i in np.unravel_index(np.argmax(surface), surface.shape))
        if not surface[y, x] > 0:
            break
        peaks.append((float(surface[y, x]), x, y))
        surface[max(0, y - _PEAK_RADIUS) : y + _PEAK_RADIUS + 1, max(0, x - _PEAK_RADIUS) : x + _PEAK_RADIUS + 1] = 0
    return peaks

"""Correlation of two whole scenes by their orientation features, for all shifts at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from rrl_register.geometry.arrays import Image, Mask, Matrix
from rrl_register.geometry.transforms import compose, invert, translation
from rrl_register.matching.features import fft
from rrl_register.matching.features.oriented_gradients import Series, orientation_harmonics
from rrl_register.parallel import parallel_map

_MIN_OVERLAP = 0.3
"""Share of the smaller valid area; a smaller overlap is scored as if it had this size, for tiny ones fit by chance."""


@dataclass(frozen=True)
class ReducedPair:
    """Both images, reduced to one pixel size.

    Attributes:
        fixed: (H, W) float32.
        fixed_valid: (H, W) bool.
        fixed_scale: (3, 3) transform reduced -> full fixed pixels.
        moving: (h, w) float32.
        moving_valid: (h, w) bool.
        moving_scale: (3, 3) transform reduced -> full moving pixels.
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
        """Reduce both images to one pixel size on the ground; neither is enlarged.

        Args:
            fixed: (H, W) float32.
            fixed_valid: (H, W) bool.
            moving: (h, w) float32.
            moving_valid: (h, w) bool.
            side: longest side that is left of the image that covers less ground, px.
            scale: fixed pixels per moving pixel, as far as is known.
        """
        smaller = min(max(fixed.shape), scale * max(moving.shape))
        factor = max(1.0, scale, smaller / side)
        parts = (fixed, fixed_valid, factor), (moving, moving_valid, factor / scale)
        first, second = parallel_map(lambda part: _reduced(*part), parts)
        return cls(*first, *second)

    @property
    def factor(self) -> float:
        """Fixed pixels per reduced pixel."""
        return float(np.sqrt(self.fixed_scale[0, 0] * self.fixed_scale[1, 1]))

    def to_full(self, matrix: Matrix) -> Matrix:
        """A transform between the reduced images as one between the images."""
        return compose(self.fixed_scale, matrix, invert(self.moving_scale))

    def to_reduced(self, matrix: Matrix) -> Matrix:
        """A transform between the images as one between the reduced images."""
        return compose(invert(self.fixed_scale), matrix, self.moving_scale)

    def warped(self, matrix: Matrix, shape: tuple[int, ...]) -> tuple[Image, Mask]:
        """The reduced moving image under a transform on a canvas of ``shape``, and which of its pixels are valid."""
        size = (shape[1], shape[0])
        image = cv2.warpPerspective(self.moving, matrix, size, flags=cv2.INTER_LINEAR)
        valid = cv2.warpPerspective(self.moving_valid.astype(np.float32), matrix, size, flags=cv2.INTER_LINEAR)
        return np.asarray(image, np.float32), np.asarray(valid > 0.9)


def _reduced(image: Image, valid: Mask, factor: float) -> tuple[Image, Mask, Matrix]:
    """Image and mask averaged over ``factor`` pixels, invalid ones left out, and the transform back to their pixels."""
    height, width = (max(1, round(side / factor)) for side in image.shape)
    reduce = partial(cv2.resize, dsize=(width, height), interpolation=cv2.INTER_AREA)
    x, y = image.shape[1] / width, image.shape[0] / height
    back = np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]])
    if valid.all():
        return np.asarray(reduce(image), np.float32), np.ones((height, width), bool), back
    weight, total = reduce(valid.astype(np.float32)), reduce(np.where(valid, image, np.float32(0)))
    return np.asarray(total / np.maximum(weight, np.float32(1e-3)), np.float32), np.asarray(weight > 0.5), back


def centred_harmonics(image: Image, valid: Mask) -> Series:
    """Orientation harmonics (J, H, W) less their mean, lest two scenes correlate that merely share a main direction."""
    harmonics = orientation_harmonics(image, valid)
    mean = harmonics.sum(axis=(1, 2)) / np.float32(max(int(valid.sum()), 1))
    harmonics -= mean[:, None, None]
    harmonics *= valid
    return harmonics


def least_overlap(pair: ReducedPair) -> float:
    """Pixels that a smaller overlap is scored as."""
    return _MIN_OVERLAP * float(min(pair.fixed_valid.sum(), pair.moving_valid.sum())) + 1.0


@dataclass(frozen=True)
class Template:
    """What the reduced fixed image contributes to every correlation.

    Attributes:
        features: (J, H, W) orientation harmonics, centred.
        valid: (H, W) bool.
        reach: largest shift along x and y, reduced px.
        least_overlap: pixels that a smaller overlap is scored as.
    """

    features: Series
    valid: Mask
    reach: int
    least_overlap: float

    @classmethod
    def of(cls, pair: ReducedPair, max_shift: float) -> Template:
        """Prepares a pair; the reach is in fixed pixels."""
        return cls(
            features=centred_harmonics(pair.fixed, pair.fixed_valid),
            valid=pair.fixed_valid,
            reach=max(1, int(np.ceil(max_shift / pair.factor))),
            least_overlap=least_overlap(pair),
        )

    @property
    def canvas(self) -> tuple[int, int]:
        """(H, W) of the canvas that the moving image is drawn on: the fixed image and the reach around it."""
        return self.features.shape[1] + 2 * self.reach, self.features.shape[2] + 2 * self.reach

    def surface(self, pair: ReducedPair, matrix: Matrix) -> Image:
        """Correlation per root of the overlap for all shifts around a reduced transform.

        Element (reach + dy, reach + dx) belongs to the transform followed by a shift of the moving image by (-dx, -dy).
        """
        image, valid = pair.warped(translation(self.reach, self.reach) @ matrix, self.canvas)
        harmonics = centred_harmonics(image, valid)
        pairs: list[tuple[Series | Mask, Series | Mask]]
        pairs = [(harmonics, self.features), (valid[None], self.valid[None])]
        product, overlap = parallel_map(lambda each: self._correlated(*each), pairs)
        return np.asarray(product / np.sqrt(np.maximum(overlap, self.least_overlap)), np.float32)

    def match(self, pair: ReducedPair, matrix: Matrix) -> tuple[float, float]:
        """Correlation under a reduced transform: per root of the overlap, as in ``surface``, and normalised, -1..1."""
        image, valid = pair.warped(matrix, pair.fixed.shape)
        features = centred_harmonics(image, valid)
        product = float(np.vdot(self.features, features).real)
        overlap = float((valid & pair.fixed_valid).sum())
        energy = _energy(self.features, valid) * _energy(features, pair.fixed_valid)
        height = product / float(np.sqrt(max(overlap, self.least_overlap)))
        return height, product / float(np.sqrt(energy)) if energy > 0 else 0.0

    def _correlated(self, moving: Series | Mask, fixed: Series | Mask) -> Image:
        """Sum over planes of the correlation of a canvas (C, ...) with (C, H, W), at all shifts within reach."""
        size = [fft.fast_side(side) for side in self.canvas]  # no shift wraps around
        spectra, conjugate = np.zeros((2, len(fixed), *size), np.complex64)
        spectra[:, : moving.shape[1], : moving.shape[2]] = moving
        conjugate[:, : fixed.shape[1], : fixed.shape[2]] = fixed.conj()
        fft.transform(spectra, out=spectra)
        spectra *= fft.conjugate_spectra(conjugate, out=conjugate)
        lags = 2 * self.reach + 1
        return np.asarray(fft.transform_back(spectra.sum(axis=0))[:lags, :lags].real)


def _energy(features: Series, where: Mask) -> float:
    """Sum of the squares of features (J, H, W) in a part of the image."""
    inside = features * where
    return float(np.vdot(inside, inside).real)

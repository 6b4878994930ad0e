"""Phase correlation on gradients, with Fourier-Mellin (Reddy and Chatterji 1996) for rotation and scale.

python benchmarks/baselines/gradient_phase.py FIXED MOVING RESULT.json

Finds a similarity. The moving image is tried as it is, and turned and scaled as the log-polar spectra suggest (by half
a turn more, too: spectra do not tell); what gives the sharpest peak of the phase correlation is taken.
"""

from __future__ import annotations

import cv2
import numpy as np
from command import Found, on_one_grid, run
from images import Grey, Image, Mask, Matrix, warped
from numpy.typing import NDArray
from oriented_template import peak

GRADIENT_SIGMA = 1.0
PEAK_SIGMA_PX = 1.0
"""Blur of the correlation: the highest frequencies carry noise only."""
MIN_SHARPNESS = 12.0
"""Height of the peak over the standard deviation of the correlation; images of different places reach 9."""
POLAR_SHAPE = (360, 512)
"""Angles over half a turn, and logarithms of the frequency."""

Field = NDArray[np.complex64]


@on_one_grid
def register(fixed: Image, moving: Image) -> Found:
    """Find a similarity; refused where its peak does not stand out."""
    target = doubled_gradients(fixed.grey, fixed.valid)
    sharpest, matrix = 0.0, np.eye(3)
    for guess in (np.eye(3), *turns_and_scales(fixed, moving)):
        image = warped(moving, guess, fixed.grey.shape)
        shift, sharpness = phase_correlation(target, doubled_gradients(image.grey, image.valid))
        if sharpness > sharpest:
            sharpest, matrix = sharpness, shift @ guess
    if sharpest < MIN_SHARPNESS:
        return Found(None, reason=f"the best peak is {sharpest:.1f} standard deviations high, not {MIN_SHARPNESS:g}")
    return Found(matrix)


def doubled_gradients(grey: Grey, valid: Mask) -> Field:
    """Gradients as complex numbers of twice their angle, (H, W), so that reversed contrast gives the same."""
    smooth = cv2.GaussianBlur(grey, (0, 0), GRADIENT_SIGMA)
    gradient = cv2.Sobel(smooth, cv2.CV_32F, 1, 0) + 1j * cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    doubled = gradient**2 / (np.abs(gradient) + 1e-3)
    return np.where(_inner(valid), doubled, 0) * _window(grey.shape)


def phase_correlation(fixed: Field, moving: Field) -> tuple[Matrix, float]:
    """Find the shift (3, 3), moving -> fixed, between two fields of one shape, and the sharpness of its peak."""
    power = np.fft.fft2(fixed) * np.conj(np.fft.fft2(moving))
    height, width = fixed.shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    power = power / (np.abs(power) + 1e-12) * np.exp(-2 * (np.pi * PEAK_SIGMA_PX * frequency) ** 2)
    correlation = np.fft.fftshift(np.fft.ifft2(power).real).astype(np.float32)
    column, row = peak(correlation)
    shift = np.array([[1, 0, column - width // 2], [0, 1, row - height // 2], [0, 0, 1]])
    return shift, float(correlation.max() / max(correlation.std(), 1e-12))


def turns_and_scales(fixed: Image, moving: Image) -> list[Matrix]:
    """Two similarities about the centre, half a turn apart, that bring the spectra to one another."""
    shift, _ = phase_correlation(log_polar_spectrum(fixed), log_polar_spectrum(moving))
    angle = shift[1, 2] * 180 / POLAR_SHAPE[0]
    # What is larger in the image has lower frequencies.
    scale = np.exp(-shift[0, 2] * np.log(_max_radius(fixed.grey.shape)) / POLAR_SHAPE[1])
    height, width = fixed.grey.shape
    centre = ((width - 1) / 2, (height - 1) / 2)
    # OpenCV turns counter-clockwise by positive angles, spectra are measured from x towards y.
    turned = [cv2.getRotationMatrix2D(centre, -angle + half, scale) for half in (0, 180)]
    return [np.vstack([matrix, [0, 0, 1]]) for matrix in turned]


def log_polar_spectrum(image: Image) -> Field:
    """Logarithm of the spectrum of the gradients' strength, over half a turn and the logarithm of the frequency."""
    strength = np.abs(doubled_gradients(image.grey, image.valid))
    side = max(strength.shape)
    # A square spectrum has the same frequency step in both directions, so that angles are what they seem.
    square = np.zeros((side, side), np.float32)
    square[: strength.shape[0], : strength.shape[1]] = strength - strength.mean() * _window(strength.shape)
    spectrum = np.log1p(np.abs(np.fft.fftshift(np.fft.fft2(square)))).astype(np.float32)
    size = (POLAR_SHAPE[1], 2 * POLAR_SHAPE[0])
    polar = cv2.warpPolar(spectrum, size, (side // 2, side // 2), _max_radius(strength.shape), cv2.WARP_POLAR_LOG)
    half = polar[: POLAR_SHAPE[0]]
    return (half - half.mean(axis=0)) * np.hanning(POLAR_SHAPE[1])


def _max_radius(shape: tuple[int, ...]) -> float:
    return max(shape) / 2


def _window(shape: tuple[int, ...]) -> Grey:
    return np.outer(np.hanning(shape[0]), np.hanning(shape[1])).astype(np.float32)


def _inner(valid: Mask) -> Mask:
    """Mask the pixels whose gradient sees no border of the data."""
    return cv2.erode(valid.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=0) > 0


if __name__ == "__main__":
    run(register, __doc__)

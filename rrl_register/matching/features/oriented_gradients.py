"""Image features that survive a change of spectrum: position and direction of edges, not their strength."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.geometry.arrays import Image, Mask
from rrl_register.parallel import map_row_blocks

_FLAT = 0.05
"""Share of the mean structure below which there is none: at unit length, its noise would look like edges."""
_REDUCTION = 4
"""Pixels averaged before a wide blur."""

Series = NDArray[np.complex64]


def gradients(image: Image, valid: Mask, sigma: float = 1.2) -> tuple[Image, Image]:
    """Compute smoothed derivatives that ignore the border of the valid area.

    Smoothing is a normalised convolution (Knutsson and Westin 1993), so that invalid pixels have no influence; near
    them, where it still distorts the image, the derivatives are set to 0.

    Args:
        image: ``(H, W)`` float32.
        valid: ``(H, W)`` bool.
        sigma: Standard deviation of the smoothing, px.

    Returns:
        Derivatives along x and along y, each (H, W) float32, per pixel.
    """
    if valid.all():
        return _scharr(_blur(image, sigma))
    weight = valid.astype(np.float32)
    gx, gy = _scharr(np.asarray(_blur(image * weight, sigma) / np.maximum(_blur(weight, sigma), 1e-3), np.float32))
    outside = ~eroded(valid, int(np.ceil(2 * sigma)) + 1)
    gx[outside] = gy[outside] = 0
    return gx, gy


def direction_series(
    image: Image, valid: Mask, n_orientations: int = 9, sigma: float = 0.8, smoothing: float = 1.6, margin: int = 0
) -> Series:
    """Compute dense oriented gradients, blind to the sign of the contrast, as a Fourier series over the directions.

    Source: CFOG (Ye et al., "Fast and robust matching for multimodal remote sensing image registration", 2019). Its
    channels are the absolute gradient along ``n_orientations`` directions in half a turn, smoothed in space and across
    the directions, of unit length per pixel. The series holds the channels less their mean in fewer numbers and keeps
    products: the real part of the sum over k of a[k] conj(b[k]) is the sum over c of the products of the channels c of
    two images. An even number of directions needs no term of the highest order, which the smoothing removes.

    Args:
        image: ``(H, W)`` float32.
        valid: ``(H, W)`` bool.
        n_orientations: Directions in half a turn.
        sigma: Smoothing before the derivatives, px.
        smoothing: Smoothing of the channels in space, px.
        margin: Width of a frame of zeros to put around the image, m, px.

    Returns:
        ((n_orientations - 1) // 2, H + 2 m, W + 2 m) complex64, 0 where invalid.
    """
    gains = _series_gains(n_orientations)
    height, width = image.shape
    framed = np.zeros((len(gains) // 2, height + 2 * margin, width + 2 * margin), np.complex64)
    series = framed[:, margin : margin + height, margin : margin + width]
    length = np.empty(image.shape, np.float32)
    halo = int(np.ceil(4 * sigma) + np.ceil(4 * smoothing)) + 3  # reaches as far as the two blurs and the derivatives

    def sum_up(rows: slice) -> None:
        """Compute some rows, without the division by the length, which needs the whole image's mean."""
        first, last = max(0, rows.start - halo), rows.stop + halo
        planes = _direction_planes(*gradients(image[first:last], valid[first:last], sigma), gains, smoothing)
        planes = planes[:, rows.start - first : rows.stop - first]
        for term, (real, imaginary) in zip(series, zip(planes[1::2], planes[2::2], strict=True), strict=True):
            term[rows].real, term[rows].imag = real, imaginary
        length[rows] = np.sqrt(np.einsum("pij,pij->ij", planes, planes))

    map_row_blocks(sum_up, height)
    floor = _floor(length, valid)

    def divide(rows: slice) -> None:
        """Normalise some rows."""
        series[:, rows] *= valid[rows] / (length[rows] + floor)

    map_row_blocks(divide, height)
    return framed


def _series_gains(n: int) -> NDArray[np.float64]:
    """Return weights (1 + 2 ((n - 1) // 2), n) of n directions in the terms: the mean, then cosines and sines in turn.

    They include the smoothing across directions and make the sum of squares of all terms that of the smoothed channels.
    """
    angle = 2 * np.pi * np.arange(n) / n
    rows = [np.full(n, np.sqrt(1 / n))]
    for order in range(1, (n - 1) // 2 + 1):
        gain = np.sqrt(2 / n) * (0.5 + 0.5 * np.cos(2 * np.pi * order / n))
        rows += [gain * np.cos(order * angle), gain * np.sin(order * angle)]
    return np.stack(rows)


def _direction_planes(gx: Image, gy: Image, gains: NDArray[np.float64], smoothing: float) -> Image:
    """Sum the weighted absolute gradients along the directions into ``(P, h, w)``, smoothed in space."""
    planes = np.zeros((len(gains), *gx.shape), np.float32)
    n = gains.shape[1]
    for direction, weights in enumerate(gains.T):
        angle = np.pi * direction / n
        along = np.asarray(cv2.addWeighted(gx, np.cos(angle), gy, np.sin(angle), 0))
        np.abs(along, out=along)
        for plane, weight in zip(planes, weights, strict=True):
            cv2.scaleAdd(along, weight, plane, dst=plane)
    for plane in planes:
        cv2.GaussianBlur(plane, (0, 0), smoothing, dst=plane, borderType=cv2.BORDER_REFLECT)
    return planes


def orientation_harmonics(
    image: Image, valid: Mask, orders: int = 2, sigma: float = 1.2, smoothing: float = 1.6
) -> Series:
    """Compute the distribution of gradient directions around each pixel as a short Fourier series.

    A gradient of direction t adds its length times exp(2ijt) for j = 1..``orders``, so that opposite directions
    count as one, since contrast may be inverted. Sums are divided by the summed lengths: 1 where all directions agree,
    0 where they are mixed.

    Args:
        image: ``(H, W)`` float32.
        valid: ``(H, W)`` bool.
        orders: Terms of the series.
        sigma: Smoothing before the derivatives, px.
        smoothing: Standard deviation of the neighbourhood that is summed over, px.

    Returns:
        (orders, H, W) complex64; 0 where invalid.
    """
    gx, gy = gradients(image, valid, sigma)
    # OpenCV's magnitude would depend on where in memory the image happens to lie.
    length = np.sqrt(gx**2 + gy**2)
    doubled = ((gx + 1j * gy) / np.maximum(length, np.float32(1e-12))) ** 2
    summed = _blur(length, smoothing)
    scale = valid / (summed + _floor(summed, valid))
    harmonics = np.empty((orders, *image.shape), np.complex64)
    term: Series = length.astype(np.complex64)
    for harmonic in harmonics:
        term = term * doubled
        blurred = _blur(term.view(np.float32).reshape(*term.shape, 2), smoothing)  # real and imaginary channels
        np.multiply(blurred.view(np.complex64)[..., 0], scale, out=harmonic)
    return harmonics


def edge_strength(image: Image, valid: Mask, sigma: float = 1.2, neighbourhood: float = 12.0) -> Image:
    """Compute the strength of the structure relative to its surroundings: dim areas count as much as bright ones.

    Args:
        image: ``(H, W)`` float32.
        valid: ``(H, W)`` bool.
        sigma: Smoothing before the derivatives, px.
        neighbourhood: Standard deviation of the surroundings with which a gradient is compared, px.

    Returns:
        (H, W) float32, about 1 on average, 0 where invalid.
    """
    return np.asarray(np.hypot(*contrast_normalised_gradients(image, valid, sigma, neighbourhood)), np.float32)


def contrast_normalised_gradients(
    image: Image, valid: Mask, sigma: float = 1.2, neighbourhood: float = 12.0
) -> tuple[Image, Image]:
    """Compute derivatives along x and y, ``(H, W)`` float32 each, as ``edge_strength`` compares them."""
    gx, gy, length = np.empty((3, *image.shape), np.float32)
    halo = (round(8 * sigma + 1) | 1) // 2 + 2  # radius of OpenCV's blur, and of what is set to 0 near invalid pixels

    def derive(rows: slice) -> None:
        """Compute some rows; the blur needs those around."""
        first, last = max(0, rows.start - halo), rows.stop + halo
        within = slice(rows.start - first, rows.stop - first)
        both = gradients(image[first:last], valid[first:last], sigma)
        gx[rows], gy[rows] = (derivative[within] for derivative in both)
        length[rows] = np.sqrt(gx[rows] ** 2 + gy[rows] ** 2)

    map_row_blocks(derive, len(image))
    weight = valid.astype(np.float32)
    floor = _floor(length, valid)
    length *= weight
    around, share = _wide_blur(length, neighbourhood), _wide_blur(weight, neighbourhood)

    def normalise(rows: slice) -> None:
        """Divide some rows by the mean around."""
        scale = weight[rows] / (around[rows] / np.maximum(share[rows], np.float32(1e-3)) + floor)
        gx[rows] *= scale
        gy[rows] *= scale

    map_row_blocks(normalise, len(image))
    return gx, gy


def _wide_blur(image: Image, sigma: float) -> Image:
    """Blur by a wide Gaussian, at a quarter of the resolution: fifty times as fast, and off by 1 % of the range."""
    height, width = image.shape
    size = -(-width // _REDUCTION), -(-height // _REDUCTION)
    blurred = _blur(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32), sigma / _REDUCTION)
    return np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def eroded(valid: Mask, radius: int) -> Mask:
    """Return the pixels of ``valid`` (H, W) that are farther than ``radius`` px (chessboard) from every invalid one.

    The image border counts as valid: nothing beyond it makes an edge.
    """
    side = 2 * radius + 1
    kernel = np.ones((side, side), np.uint8)
    return np.asarray(cv2.erode(valid.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0)


def _scharr(image: Image) -> tuple[Image, Image]:
    """Return derivatives along x and y, per pixel, by the 3 x 3 kernel that is most nearly isotropic."""
    gx, gy = cv2.Scharr(image, cv2.CV_32F, 1, 0, scale=1 / 32), cv2.Scharr(image, cv2.CV_32F, 0, 1, scale=1 / 32)
    return np.asarray(gx, np.float32), np.asarray(gy, np.float32)


def _floor(length: Image, valid: Mask) -> np.float32:
    """Return the term to add to a length before dividing by it."""
    mean = cv2.mean(length, np.asarray(valid, np.uint8))[0]  # 0 where nothing is valid
    return np.float32(_FLAT * mean + 1e-6)


def _blur(array: Image, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(array, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.float32)

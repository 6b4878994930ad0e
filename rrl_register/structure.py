"""Representations of an image that survive a change of spectrum: where edges are and how they run, not how strong."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_FLAT = 0.05
"""Share of the mean structure that counts as none: unit length would raise its noise to the level of edges."""

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


def gradients(image: Image, valid: Mask, sigma: float = 1.2) -> tuple[Image, Image]:
    """Smoothed image derivatives that do not see the border of the valid area.

    Smoothing is a normalised convolution (Knutsson and Westin 1993), so that invalid pixels have no influence; near
    them, where it still bends the image, the derivatives are set to 0.

    Args:
        image: (H, W) float32.
        valid: (H, W) bool.
        sigma: standard deviation of the smoothing, px.

    Returns:
        Derivatives along x and along y, each (H, W) float32, per pixel.
    """
    if valid.all():
        return _scharr(_blur(image, sigma))
    weight = valid.astype(np.float32)
    smooth = _blur(image * weight, sigma) / np.maximum(_blur(weight, sigma), 1e-3)
    gx, gy = _scharr(np.asarray(smooth, np.float32))
    outside = ~eroded(valid, int(np.ceil(2 * sigma)) + 1)
    gx[outside] = gy[outside] = 0
    return gx, gy


def oriented_gradients(
    image: Image, valid: Mask, n_orientations: int = 9, sigma: float = 0.8, smoothing: float = 1.6
) -> Image:
    """Dense channels of oriented gradients, blind to the sign of the contrast.

    Source: CFOG (Ye et al., "Fast and robust matching for multimodal remote sensing image registration", 2019): the
    absolute gradient along each of ``n_orientations`` directions in half a turn, smoothed in space and across them.

    Args:
        image: (H, W) float32.
        valid: (H, W) bool.
        n_orientations: directions in half a turn.
        sigma: smoothing before the derivatives, px.
        smoothing: smoothing of the channels in space, px.

    Returns:
        (H, W, n_orientations) float32, unit length per pixel; shorter where there is hardly any structure, 0 where
        invalid.
    """
    gx, gy = gradients(image, valid, sigma)
    angle = (np.pi * np.arange(n_orientations) / n_orientations).astype(np.float32)
    channels = gx[..., None] * np.cos(angle)
    channels += gy[..., None] * np.sin(angle)
    channels = _blur(np.abs(channels, out=channels), smoothing)
    beside = np.roll(channels, 1, -1)
    beside += np.roll(channels, -1, -1)
    # In place, for these arrays are the largest of a registration.
    channels *= np.float32(0.5)
    channels += np.multiply(beside, np.float32(0.25), out=beside)
    length = np.sqrt(np.einsum("ijk,ijk->ij", channels, channels))
    channels /= (length + _floor(length, valid))[..., None]
    channels[~valid] = 0
    return channels


def orientation_harmonics(
    image: Image, valid: Mask, orders: int = 2, sigma: float = 1.2, smoothing: float = 1.6
) -> Image:
    """The distribution of gradient directions around each pixel as a short Fourier series: fewer numbers than channels.

    A gradient of direction t adds its length times (cos 2jt, sin 2jt) for j = 1..``orders``, so that opposite
    directions are one, as contrast inversion asks. Sums are divided by the summed lengths: 1 where all directions
    agree, 0 where they are mixed.

    Args:
        image: (H, W) float32.
        valid: (H, W) bool.
        orders: terms of the series.
        sigma: smoothing before the derivatives, px.
        smoothing: standard deviation of the neighbourhood that is summed over, px.

    Returns:
        (2 orders, H, W) float32, planes of cosine and sine in turn; 0 where invalid.
    """
    gx, gy = gradients(image, valid, sigma)
    length = np.hypot(gx, gy)
    unit = (gx + 1j * gy) / np.maximum(length, 1e-12)
    term, planes = length.astype(np.complex64), []
    for _ in range(orders):
        term = term * unit * unit
        planes += [term.real, term.imag]
    summed = _blur(length, smoothing)
    scale = valid / (summed + _floor(summed, valid))
    return np.stack([_blur(np.ascontiguousarray(plane), smoothing) * scale for plane in planes]).astype(np.float32)


def edge_strength(image: Image, valid: Mask, sigma: float = 1.2, neighbourhood: float = 12.0) -> Image:
    """Strength of the structure relative to what surrounds it, so that dim areas count as much as bright ones.

    Args:
        image: (H, W) float32.
        valid: (H, W) bool.
        sigma: smoothing before the derivatives, px.
        neighbourhood: standard deviation of the surroundings that a gradient is compared with, px.

    Returns:
        (H, W) float32, about 1 on average, 0 where invalid.
    """
    return np.asarray(np.hypot(*contrast_normalised_gradients(image, valid, sigma, neighbourhood)), np.float32)


def contrast_normalised_gradients(
    image: Image, valid: Mask, sigma: float = 1.2, neighbourhood: float = 12.0
) -> tuple[Image, Image]:
    """Derivatives along x and y, (H, W) float32 each, divided by the mean gradient around; see ``edge_strength``."""
    gx, gy = gradients(image, valid, sigma)
    length = np.hypot(gx, gy)
    weight = valid.astype(np.float32)
    around = _blur(length * weight, neighbourhood) / np.maximum(_blur(weight, neighbourhood), np.float32(1e-3))
    scale = np.asarray(weight / (around + _floor(length, valid)), np.float32)
    return gx * scale, gy * scale


def eroded(valid: Mask, radius: int) -> Mask:
    """Pixels of ``valid`` (H, W) that are farther than ``radius`` px (chessboard) from every invalid one.

    The image border counts as valid: beyond it nothing was seen that could make an edge.
    """
    side = 2 * radius + 1
    kernel = np.ones((side, side), np.uint8)
    shrunk = cv2.erode(valid.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return np.asarray(shrunk > 0)


def _scharr(image: Image) -> tuple[Image, Image]:
    """Derivatives along x and y, per pixel, by the 3 x 3 kernel that is most nearly the same in all directions."""
    gx, gy = (cv2.Scharr(image, cv2.CV_32F, *order, scale=1 / 32) for order in ((1, 0), (0, 1)))
    return np.asarray(gx, np.float32), np.asarray(gy, np.float32)


def _floor(length: Image, valid: Mask) -> np.float32:
    """What to add to a length before dividing by it."""
    mean = float(length[valid].mean()) if valid.any() else 0.0
    return np.float32(_FLAT * mean + 1e-6)


def _blur(array: Image, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(array, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.float32)

"""Radiometric damage: pure functions of an image, (B, H, W) float32 in 0-255, and a random generator.

Each returns the damaged image, which may exceed the range; it is clipped when it is written.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Damage = Callable[[Image, np.random.Generator], Image]

WHITE = 255.0


def intact(image: Image, rng: np.random.Generator) -> Image:
    """Return the image unchanged."""
    return image


def inverted(image: Image, rng: np.random.Generator) -> Image:
    """Invert the contrast, as thermal scenes do between day and night."""
    return np.asarray(WHITE - image, np.float32)


def night(image: Image, rng: np.random.Generator) -> Image:
    """Reduce the light to a tenth or less, with photon and read-out noise and some saturated lamps."""
    gain, read_noise = rng.uniform(0.05, 0.12), rng.uniform(0.5, 1.5)
    photons_per_grey = 4.0
    light = rng.poisson(np.maximum(image, 0) * gain * photons_per_grey) / photons_per_grey
    dim = light + rng.normal(0, read_noise, image.shape)
    return np.asarray(np.maximum(dim, 1) + WHITE * _lamps(rng, image.shape[1:]), np.float32)


def speckled(image: Image, rng: np.random.Generator) -> Image:
    """Multiply by speckle of one to three looks: the root of gamma-distributed intensities (Goodman 1976)."""
    looks = int(rng.integers(1, 4))
    return np.asarray(image * np.sqrt(rng.gamma(looks, 1 / looks, image.shape)), np.float32)


def hazy(image: Image, rng: np.random.Generator) -> Image:
    """Add uneven haze that takes 50 to 90 % of the contrast, by the model J t + A (1 - t)."""
    transmission = 0.1 + 0.4 * smooth_noise(rng, image.shape[1:])
    airlight = rng.uniform(180, 230)
    noise = rng.normal(0, 1, image.shape)
    return np.asarray(image * transmission + airlight * (1 - transmission) + noise, np.float32)


def dark_and_saturated(image: Image, rng: np.random.Generator) -> Image:
    """Make a quarter of the image nearly black, and a fifth of it saturated."""
    ground = smooth_noise(rng, image.shape[1:])
    dark, bright = ground < np.quantile(ground, 0.25), ground > np.quantile(ground, 0.8)
    gain = cv2.GaussianBlur(np.where(dark, 0.05, np.where(bright, 6.0, 1.0)).astype(np.float32), (0, 0), 3)
    return np.asarray(image * gain + rng.normal(0, 0.5, image.shape), np.float32)


def framed(image: Image, rng: np.random.Generator) -> Image:
    """Blacken the outside of a frame rotated by 8 to 25 degrees either way, as in reprojected rasters."""
    angle = rng.uniform(8, 25) * rng.choice([-1, 1])
    return np.where(turned_frame(image.shape[1:], angle), np.maximum(image, 1), 0).astype(np.float32)


def striped(image: Image, rng: np.random.Generator) -> Image:
    """Set groups of one to six lines, and some holes, to 0."""
    missing = missing_lines(rng, image.shape[1:]) | holes(rng, image.shape[1:])
    return np.where(missing, 0, np.maximum(image, 1)).astype(np.float32)


def missing_lines(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Draw six to twelve groups of one to six rows, (H, W) bool."""
    missing = np.zeros(shape, bool)
    for first in rng.integers(0, shape[0], rng.integers(6, 13)):
        missing[first : first + rng.integers(1, 7)] = True
    return missing


def holes(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Draw three to six rectangles, each a fortieth to a tenth of the image's size, (H, W) bool."""
    missing, (height, width) = np.zeros(shape, bool), shape
    for _ in range(rng.integers(3, 7)):
        top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
        tall, wide = (rng.uniform(0.025, 0.1, 2) * (height, width)).astype(int)
        missing[top : top + tall, left : left + wide] = True
    return missing


def turned_frame(shape: tuple[int, ...], angle: float) -> NDArray[np.bool_]:
    """Mask the inside of the largest frame of the same aspect, rotated by ``angle`` degrees, (H, W) bool."""
    height, width = shape
    cos, sin = abs(np.cos(np.deg2rad(angle))), abs(np.sin(np.deg2rad(angle)))
    scale = min(width / (width * cos + height * sin), height / (width * sin + height * cos))
    box = cv2.boxPoints((((width - 1) / 2, (height - 1) / 2), (width * scale, height * scale), angle))
    inside = cv2.fillConvexPoly(np.zeros((height, width), np.uint8), np.rint(box).astype(np.int32), 1)
    return np.asarray(inside > 0)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Image:
    """Draw smooth noise (H, W) in 0-1 that varies over a fifth of the image and more."""
    coarse = rng.random((6, 6)).astype(np.float32)
    noise = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise - noise.min()) / (noise.max() - noise.min()), np.float32)


def _lamps(rng: np.random.Generator, shape: tuple[int, ...]) -> Image:
    """Draw up to twelve round lights of a few px, (H, W) in 0-1."""
    lights = np.zeros(shape, np.float32)
    for _ in range(rng.integers(3, 13)):
        place = int(rng.integers(0, shape[1])), int(rng.integers(0, shape[0]))
        cv2.circle(lights, place, int(rng.integers(2, 7)), 1.0, -1)
    return np.asarray(cv2.GaussianBlur(lights, (0, 0), 2), np.float32)

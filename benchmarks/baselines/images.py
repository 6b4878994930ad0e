"""Reading of images, the same for every baseline: grey, stretched, with the georeference."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

PERCENTILES = (1, 99)
DARK = 0.2
"""Median below which a stretched image is mostly dark, as SAR amplitudes and night scenes are."""
LOG_GAIN = 20.0
"""Compression of the bright part of such an image."""
SPECKS_PX = 5
"""Zeros in groups of less width are dark pixels, not missing ones."""

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Image:
    """An image as a method reads it.

    Attributes:
        grey: (H, W) float32 in [0, 1], 0 where there is no data.
        valid: (H, W) bool, where there is data.
        crs: Name of the reference system; None without a georeference.
        to_map: (3, 3), from pixels, (0, 0) = centre of the top-left one, to that system; None without a georeference.
    """

    grey: Grey
    valid: Mask
    crs: str | None = None
    to_map: Matrix | None = None


def read_image(path: Path) -> Image:
    """Read an image, by rasterio where it is installed, else by OpenCV, which knows no georeference.

    Raises:
        ValueError: The file is no image, or has no data.
    """
    try:
        import rasterio
    except ImportError:
        return Image(*to_grey(_read_with_opencv(path)))
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    try:
        with rasterio.open(path) as source:
            grey, valid = to_grey(source.read())
            to_map = np.reshape(source.transform, (3, 3)) @ _shift(0.5)
            return Image(grey, valid, str(source.crs), to_map) if source.crs else Image(grey, valid)
    except rasterio.RasterioIOError as error:
        raise ValueError(f"{path} cannot be read ({error})") from error


def _read_with_opencv(path: Path) -> NDArray[np.generic]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{path} cannot be read by OpenCV: install rasterio")
    return np.moveaxis(np.atleast_3d(image), -1, 0)


def to_grey(bands: NDArray[np.generic]) -> tuple[Grey, Mask]:
    """Average the bands, (B, H, W), stretched between two percentiles; a mostly dark one is compressed too.

    Returns:
        (H, W) float32 in [0, 1] and (H, W) bool, where there is data: not in areas where all bands are 0, nor where one
        is not finite.

    Raises:
        ValueError: No data anywhere.
    """
    bands = bands.astype(np.float32)
    lit = (bands != 0).any(axis=0).astype(np.uint8)
    valid = cv2.morphologyEx(lit, cv2.MORPH_CLOSE, np.ones((SPECKS_PX, SPECKS_PX), np.uint8)) > 0
    valid &= np.isfinite(bands).all(axis=0)
    if not valid.any():
        raise ValueError("an image has no data")
    mean = np.where(valid, bands.mean(axis=0), 0)
    low, high = np.percentile(mean[valid], PERCENTILES)
    grey = np.clip((mean - low) / max(high - low, 1e-9), 0, 1)
    if np.median(grey[valid]) < DARK:
        grey = np.log1p(LOG_GAIN * grey) / np.log1p(LOG_GAIN)
    return np.where(valid, grey, 0).astype(np.float32), valid


def prior(fixed: Image, moving: Image) -> Matrix:
    """Return the prior (3, 3), moving -> fixed pixels.

    Georeferences in one system; without them the images are taken to show the same scene, each at its own size.
    """
    if fixed.to_map is not None and moving.to_map is not None and fixed.crs == moving.crs:
        return np.linalg.inv(fixed.to_map) @ moving.to_map
    height, width = np.array(fixed.grey.shape) / moving.grey.shape
    return _shift(-0.5) @ np.diag([width, height, 1]) @ _shift(0.5)


def warped(image: Image, matrix: Matrix, shape: tuple[int, ...]) -> Image:
    """Resample an image by a transform, (3, 3), on a grid of ``shape`` (H, W); without a georeference."""
    size = shape[::-1]
    valid = cv2.warpPerspective(image.valid.astype(np.uint8), matrix, size, flags=cv2.INTER_NEAREST) > 0
    # Half the size and less would alias without an average over what becomes a pixel.
    shrink = 1 / np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    smooth = cv2.GaussianBlur(image.grey, (0, 0), 0.5 * shrink) if shrink > 1.5 else image.grey
    return Image(np.where(valid, cv2.warpPerspective(smooth, matrix, size), 0).astype(np.float32), valid)


def _shift(length: float) -> Matrix:
    return np.array([[1, 0, length], [0, 1, length], [0, 0, 1]])

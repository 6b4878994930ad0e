"""Cut patches around points: 64 x 64 px for the network, of any ground support."""

from __future__ import annotations

from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.config import Kind


class Spectrum(StrEnum):
    """One of the two encoders."""

    VISIBLE = "visible"
    OTHER = "other"


def spectra(fixed_kind: Kind, moving_kind: Kind) -> tuple[Spectrum, Spectrum]:
    """Return the encoders of a pair: visible for the optical image; of two alike, for the fixed one."""
    if moving_kind is Kind.OPTICAL and fixed_kind is not Kind.OPTICAL:
        return Spectrum.OTHER, Spectrum.VISIBLE
    return Spectrum.VISIBLE, Spectrum.OTHER


PATCH_SIZE = 64
SUPPORTS = (64, 96, 128)
_ROWS_PER_CALL = 256 * PATCH_SIZE
"""OpenCV's remap refuses outputs of 32,767 px and more a side."""


def default_support(fixed_kind: Kind, moving_kind: Kind, shape: tuple[int, int]) -> int:
    """Return the side of the ground under a patch, px: 128 to average SAR speckle, else 64; less in small images."""
    wanted = 128 if Kind.SAR in (fixed_kind, moving_kind) else 64
    return max((s for s in SUPPORTS if s <= wanted and s <= min(shape) // 2), default=SUPPORTS[0])


class PatchCutter:
    """Cut patches from one image.

    Args:
        image: ``(H, W)`` float32 in [0, 1]; invalid pixels are filled with the mean of the valid ones, so that no
            edge appears.
        valid: ``(H, W)`` bool.
        support: Side of the ground under a patch, px; the image is first averaged down by ``support / 64``.
    """

    def __init__(self, image: NDArray[np.float32], valid: NDArray[np.bool_], support: int) -> None:
        self._factor = support / PATCH_SIZE
        filled = image if valid.all() or not valid.any() else np.where(valid, image, image[valid].mean())
        size = tuple(max(1, round(side / self._factor)) for side in image.shape[::-1])
        self._image = np.asarray(filled, np.float32)
        if self._factor != 1:
            self._image = np.asarray(cv2.resize(self._image, size, interpolation=cv2.INTER_AREA), np.float32)
        self._ratio = np.array(self._image.shape[::-1]) / image.shape[::-1]

    def cut(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return patches ``(N, 1, 64, 64)`` centred on points ``(N, 2)``, (x, y); the image's edges are repeated."""
        if not len(points):
            return np.empty((0, 1, PATCH_SIZE, PATCH_SIZE), np.float32)
        axis = np.arange(PATCH_SIZE, dtype=np.float32) - (PATCH_SIZE - 1) / 2
        centres = ((points + 0.5) * self._ratio - 0.5).astype(np.float32)
        x = np.broadcast_to(centres[:, 0, None, None] + axis, (len(points), PATCH_SIZE, PATCH_SIZE))
        y = np.broadcast_to(centres[:, 1, None, None] + axis[:, None], (len(points), PATCH_SIZE, PATCH_SIZE))
        x, y = x.reshape(-1, PATCH_SIZE), y.reshape(-1, PATCH_SIZE)
        parts = [
            cv2.remap(
                self._image,
                np.ascontiguousarray(x[i : i + _ROWS_PER_CALL]),
                np.ascontiguousarray(y[i : i + _ROWS_PER_CALL]),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for i in range(0, len(x), _ROWS_PER_CALL)
        ]
        return np.concatenate(parts, dtype=np.float32).reshape(-1, 1, PATCH_SIZE, PATCH_SIZE)

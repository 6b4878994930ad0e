"""Oriented gradients as their authors define them."""

from __future__ import annotations

import cv2
import numpy as np

from rrl_register.matching.features.oriented_gradients import gradients


def oriented_gradients(
    image: np.ndarray, valid: np.ndarray, n_orientations: int = 9, sigma: float = 0.8, smoothing: float = 1.6
) -> np.ndarray:
    """CFOG as its authors define it, channel by channel: ``direction_series`` has to keep its products."""
    gx, gy = gradients(image, valid, sigma)
    angle = (np.pi * np.arange(n_orientations) / n_orientations).astype(np.float32)
    channels = gx[..., None] * np.cos(angle)
    channels += gy[..., None] * np.sin(angle)
    channels = cv2.GaussianBlur(np.abs(channels, out=channels), (0, 0), smoothing, borderType=cv2.BORDER_REFLECT)
    beside = np.roll(channels, 1, -1)
    beside += np.roll(channels, -1, -1)
    channels *= np.float32(0.5)
    channels += np.multiply(beside, np.float32(0.25), out=beside)
    length = np.sqrt(np.einsum("ijk,ijk->ij", channels, channels))
    channels /= (length + (0.05 * length[valid].mean() if valid.any() else 0) + 1e-6)[..., None]
    channels[~valid] = 0
    return channels

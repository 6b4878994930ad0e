"""Measure how alike both images are before and after their registration, with scikit-image's metrics.

Two figures, since no single one ranks alignments of all spectra: the normalised mutual information of the grey values
(Studholme et al. 1999) and the structural similarity of the gradient magnitudes (Wang et al. 2004). They describe the
result and take no part in its acceptance.
"""

from __future__ import annotations

from importlib import import_module
from math import ceil
from threading import Thread

import cv2
import numpy as np

from rrl_register.geometry.arrays import Image, Mask
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.window import Frames
from rrl_register.matching.image_pair import WHOLLY_VALID, ImagePair

Similarity = dict[str, dict[str, float]]
"""``before`` and ``after``, each with ``nmi`` (1 to 2) and ``gradient_ssim`` (-1 to 1)."""

MAX_SIDE = 384
"""Longer side that images are averaged down to, px: two comparisons take under 50 ms there."""
MIN_PIXELS = 1024
"""Fewer shared pixels fill no joint histogram of ``BINS`` x ``BINS``."""
BINS = 32
_WINDOW = 7
"""Side of the windows of the structural similarity, px: scikit-image's default."""
_BRIGHTEST = 99
"""Percentile of the gradient magnitudes that counts as 1."""
_LATTICE_STEP = 8
"""Distance of the places that a transform is evaluated at, px; in between, its coordinates are interpolated."""
_OUTSIDE = -1e6
_DIGITS = 4


def preload_metrics() -> None:
    """Import scikit-image's metrics in a thread, while a registration runs: SciPy's statistics alone take 0.3 s."""
    Thread(target=import_module, args=("skimage.metrics.simple_metrics",)).start()


def measure_similarity(pair: ImagePair, transform: Transform) -> Similarity | None:
    """Compare the fixed image with the moving one as the prior places it, and as the transform does.

    Both comparisons use the same pixels: those where both images hold data before and after.

    Args:
        pair: The images at matching resolution.
        transform: Moving px -> fixed px of the files.

    Returns:
        The figures, or None if fewer than ``MIN_PIXELS`` averaged pixels are shared, or one image is constant there.
    """
    factor = min(ceil(max(pair.fixed.shape) / MAX_SIDE), *pair.fixed.shape, *pair.moving.shape)
    fixed, fixed_valid = _averaged(pair.fixed.values, pair.fixed.valid, factor)
    moving = _averaged(pair.moving.values, pair.moving.valid, factor)
    frames = pair.frames.finer(1 / factor)
    before, before_valid = _resampled(*moving, pair.frames.to_files(Transform(pair.prior)), frames, fixed.shape)
    after, after_valid = _resampled(*moving, transform, frames, fixed.shape)
    shared = fixed_valid & before_valid & after_valid
    if shared.sum() < MIN_PIXELS or any(np.ptp(image[shared]) == 0 for image in (fixed, before, after)):
        return None
    return {"before": figures(fixed, before, shared), "after": figures(fixed, after, shared)}


def figures(fixed: Image, moving: Image, shared: Mask) -> dict[str, float]:
    """Measure two images on one grid.

    Args:
        fixed: ``(H, W)`` grey values.
        moving: ``(H, W)`` grey values.
        shared: ``(H, W)`` bool, where both hold data.

    Returns:
        ``nmi``: (H(A) + H(B)) / H(A, B) of the grey values, 1 for unrelated images, 2 for identical ones.
        ``gradient_ssim``: mean structural similarity of the gradient magnitudes, 1 for identical ones.
    """
    from skimage.metrics import normalized_mutual_information, structural_similarity

    # Sobel's kernel and the window must see no pixel without data.
    inner = cv2.erode(shared.astype(np.uint8), np.ones((_WINDOW + 2, _WINDOW + 2), np.uint8), borderValue=0) > 0
    if not inner.any():
        inner = shared
    gradients = [gradient_magnitude(image, shared) for image in (fixed, moving)]
    _, ssim = structural_similarity(*gradients, win_size=_WINDOW, data_range=1.0, full=True)
    nmi = normalized_mutual_information(fixed[shared], moving[shared], bins=BINS)
    return {"nmi": round(float(nmi), _DIGITS), "gradient_ssim": round(float(ssim[inner].mean()), _DIGITS)}


def gradient_magnitude(image: Image, valid: Mask) -> Image:
    """Return Sobel's gradient magnitudes ``(H, W)``, scaled so that their 99th percentile where valid is 1."""
    magnitude = cv2.magnitude(cv2.Sobel(image, cv2.CV_32F, 1, 0), cv2.Sobel(image, cv2.CV_32F, 0, 1))
    strong = np.percentile(magnitude[valid], _BRIGHTEST)
    return np.asarray(np.minimum(magnitude / max(float(strong), 1e-6), 1), np.float32)


def _averaged(image: Image, valid: Mask, factor: int) -> tuple[Image, Mask]:
    """Average blocks of ``factor`` px a side; a block with an invalid pixel is invalid and 0."""
    height, width = (side // factor for side in image.shape)
    crop = np.s_[: height * factor, : width * factor]
    mean, share = (
        cv2.resize(np.asarray(plane[crop], np.float32), (width, height), interpolation=cv2.INTER_AREA)
        for plane in (image, valid)
    )
    known = np.asarray(share >= WHOLLY_VALID)
    return np.where(known, mean, np.float32(0)), known


def _resampled(
    image: Image, valid: Mask, transform: Transform, frames: Frames, shape: tuple[int, ...]
) -> tuple[Image, Mask]:
    """Return the moving image ``(H, W)`` on the fixed image's pixels, and where it holds data there."""
    rows, columns = (ceil(side / _LATTICE_STEP) + 1 for side in shape)
    nodes = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    lattice = np.asarray(nodes * _LATTICE_STEP, np.float64)
    places = frames.moving.from_file(transform.backward(frames.fixed.to_file(lattice)))
    # Beyond a horizon there is no place.
    places = np.where(np.isfinite(places), places, _OUTSIDE).clip(_OUTSIDE, -_OUTSIDE)
    coarse = places.reshape(rows, columns, 2).astype(np.float32)
    step = np.array([[1 / _LATTICE_STEP, 0, 0], [0, 1 / _LATTICE_STEP, 0]])
    x, y = cv2.split(cv2.warpAffine(coarse, step, shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))
    values = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = cv2.remap(valid.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    known = np.asarray(weight >= WHOLLY_VALID)
    return np.where(known, values, np.float32(0)), known

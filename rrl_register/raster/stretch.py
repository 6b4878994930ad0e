"""Stretch bands into one grey image between 0 and 1; needs no raster library."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rrl_register.config import Kind
from rrl_register.errors import InputError

_PERCENTILES = (0.5, 99.5)
_SAMPLE = 20_000
"""Values of an image that bound its percentiles."""
_BEYOND = 50
"""Values of the sample that certainly lie beyond a percentile at the very end."""
_LOG_GAIN = 20.0
"""Compression of bright targets in linear SAR amplitudes."""


def to_grey(bands: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], kind: Kind) -> npt.NDArray[np.float32]:
    """Make one grey image: mean of the bands, stretched between the 0.5th and the 99.5th percentile.

    Linear SAR amplitudes are compressed by a logarithm afterwards; values in decibels are logarithms already.

    Args:
        bands: (B, H, W) float32.
        valid: (H, W) bool.
        kind: Kind of the image.

    Returns:
        (H, W) float32 in [0, 1], 0 where not valid.

    Raises:
        InputError: No valid pixel, or one value everywhere.
    """
    mean = bands.mean(axis=0, dtype=np.float32)
    known = mean.ravel() if valid.all() else mean[valid]
    if known.size == 0:
        raise InputError("The image has no valid pixel; try other bands")
    low, high = (percentile(known, share) for share in _PERCENTILES)
    if high <= low:
        # Content in less than 1 % of the pixels is still content.
        low, high = float(known.min()), float(known.max())
    if high <= low:
        raise InputError(f"The image has the value {low:g} in all its valid pixels; try other bands")
    grey = (mean - low) / (high - low)
    np.clip(grey, 0, 1, out=grey)
    if kind is Kind.SAR and low >= 0:
        grey = compress_amplitudes(grey)
    return np.where(valid, grey, np.float32(0)).astype(np.float32, copy=False)


def compress_amplitudes(amplitudes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Compress linear SAR amplitudes in [0, 1] by a logarithm: log(1 + 20 a) / log 21, in [0, 1]."""
    return np.asarray(np.log1p(_LOG_GAIN * amplitudes) / np.log1p(_LOG_GAIN), np.float32)


def percentile(values: npt.NDArray[np.floating], percent: float) -> float:
    """Compute ``np.percentile`` near either end, faster: only values beyond a bound, from a sample, are sorted.

    Args:
        values: (N,), N > 0, without NaN.
        percent: 0-100.
    """
    if percent > 50:
        return -percentile(-values, 100 - percent)
    place = percent / 100 * (len(values) - 1)
    below = int(place)
    sample = values[:: max(1, len(values) // _SAMPLE)]
    end = np.partition(sample, at := min(len(sample) - 1, _BEYOND + 2 * below * len(sample) // len(values)))[at]
    tail = values[values <= end]
    if len(tail) < below + 2:
        tail = values
    above = min(below + 1, len(values) - 1)
    first, second = np.partition(tail, (below, above))[[below, above]].astype(np.float64)
    return float(first + (place - below) * (second - first))

"""Interpolation at arbitrary places of an image, exact and blind to pixels without data.

OpenCV's ``remap`` rounds coordinates to 1/32 px and knows no mask. Here coordinates are taken as they are, and a pixel
without data never weighs anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rrl_register.config import Resampling
from rrl_register.geometry.arrays import Array, Mask

MARGIN = (1, 2)
"""Pixels that the widest kernel reaches before and after the pixel at or left of (above) a place."""

CHUNK = 32_768
"""Places worked on at a time: few enough for what belongs to them to stay in a core's cache."""


@dataclass(frozen=True)
class Taps:
    """Places in an image, relative to a window of it.

    Attributes:
        columns: Width of the window, px.
        index: (N,) flat index, within the window, of the pixel at or up left of each place; the kernel's reach
            around it lies within the window.
        fx: (N,) float32 rest of x, in [0, 1), of places that are rounded so that this is exact.
        fy: (N,) float32 rest of y, likewise.
    """

    columns: int
    index: npt.NDArray[np.intp]
    fx: npt.NDArray[np.float32]
    fy: npt.NDArray[np.float32]

    def subset(self, chosen: Mask | slice) -> Taps:
        """Keep the chosen places, (N,) bool or a slice."""
        return Taps(self.columns, self.index[chosen], self.fx[chosen], self.fy[chosen])

    def chunks(self) -> Iterator[tuple[slice, Taps]]:
        """Cut into pieces of ``CHUNK`` places."""
        for start in range(0, len(self.index), CHUNK):
            part = slice(start, start + CHUNK)
            yield part, self.subset(part)

    @property
    def nearest(self) -> npt.NDArray[np.intp]:
        """(N,) flat index of the nearest pixel; ties go right and down."""
        return self.index + (self.fx >= 0.5) + (self.fy >= 0.5) * self.columns


def interpolate(
    image: Array, valid: Mask | None, taps: Taps, resampling: Resampling, dtype: npt.DTypeLike
) -> tuple[Array, Mask]:
    """Interpolate an image.

    A place has data where its nearest pixel has. Bilinear weights are renormalised over the pixels with data; cubic
    interpolation becomes such a bilinear one where not all of its 16 pixels have data, because its negative weights
    cannot be renormalised safely. A place on a pixel's centre takes that pixel unchanged.

    Args:
        image: (h, w) window, real or complex.
        valid: (h, w) bool; None: all pixels have data.
        taps: The places.
        resampling: How to interpolate.
        dtype: Type of the result; integers are rounded and clipped.

    Returns:
        (N,) values and (N,) bool; values are undefined where False.
    """
    flat = image.reshape(-1)
    known = None if valid is None or valid.all() else valid
    has_data = np.ones(len(taps.index), bool) if known is None else known.reshape(-1).take(taps.nearest)
    if resampling is Resampling.NEAREST:
        return as_dtype(flat.take(taps.nearest), dtype), has_data
    work = flat.astype(np.result_type(flat.dtype, np.float32), copy=False)
    complete = _all_16_valid(known) if known is not None and resampling is Resampling.CUBIC else None
    values = np.empty(len(taps.index), dtype)
    for part, places in taps.chunks():
        if resampling is Resampling.BILINEAR:
            found = _bilinear(work, known, places)
        else:
            found = _cubic_or_bilinear(work, known, complete, places)
        values[part] = as_dtype(found, dtype)
        on_pixel = (places.fx == 0) & (places.fy == 0)
        if on_pixel.any():
            values[part][on_pixel] = as_dtype(flat.take(places.index[on_pixel]), dtype)
    return values, has_data


def as_dtype(values: Array, dtype: npt.DTypeLike) -> Array:
    """Convert values; to integers by rounding and clipping."""
    target = np.dtype(dtype)
    if values.dtype == target or target.kind not in "iu":
        return values.astype(target, copy=False)
    low, high = _integer_limits(target, values.dtype)
    rounded: Array = np.clip(np.rint(values), low, high).astype(target)
    return rounded


def _integer_limits(target: np.dtype[Any], source: np.dtype[Any]) -> tuple[Any, Any]:
    """Limits of an integer type that its values do not exceed after rounding to a floating type."""
    limits = np.iinfo(target)
    high = source.type(limits.max)
    return source.type(limits.min), high if int(high) <= limits.max else np.nextafter(high, source.type(0))


def _cubic_or_bilinear(flat: Array, valid: Mask | None, complete: Mask | None, taps: Taps) -> Array:
    if complete is None:
        return _cubic(flat, taps)
    there = complete.take(taps.index)
    if there.all():
        return _cubic(flat, taps)
    values = np.empty(len(taps.index), flat.dtype)
    values[there] = _cubic(flat, taps.subset(there))
    values[~there] = _bilinear(flat, valid, taps.subset(~there))
    return values


def _cubic(flat: Array, taps: Taps) -> Array:
    """Source: Keys, "Cubic convolution interpolation for digital image processing", 1981, a = -1/2."""
    real = flat.real.dtype
    weights_x, weights_y = _keys_weights(taps.fx.astype(real)), _keys_weights(taps.fy.astype(real))
    first = taps.index - taps.columns - 1
    values, line, pixels = (np.zeros(len(first), flat.dtype) for _ in range(3))
    for row, weight_y in enumerate(weights_y):
        line[:] = 0
        for column, weight_x in enumerate(weights_x):
            # Every index is within the window; "wrap" is the fastest way to have none checked.
            np.take(flat[row * taps.columns + column :], first, out=pixels, mode="wrap")
            pixels *= weight_x
            line += pixels
        line *= weight_y
        values += line
    return values


def _keys_weights(f: Array) -> tuple[Array, Array, Array, Array]:
    """Weights of the pixels at -1, 0, 1 and 2 for a place at f in [0, 1)."""
    return (
        ((-0.5 * f + 1) * f - 0.5) * f,
        (1.5 * f - 2.5) * f * f + 1,
        ((-1.5 * f + 2) * f + 0.5) * f,
        (0.5 * f - 0.5) * f * f,
    )


def _all_16_valid(valid: Mask) -> Mask:
    """For each flat index: whether the 4 x 4 pixels from one up left to two down right all have data."""
    complete = np.zeros_like(valid)
    rows = valid[:-3] & valid[1:-2] & valid[2:-1] & valid[3:]
    complete[1:-2, 1:-2] = rows[:, :-3] & rows[:, 1:-2] & rows[:, 2:-1] & rows[:, 3:]
    return complete.reshape(-1)


def _bilinear(flat: Array, valid: Mask | None, taps: Taps) -> Array:
    real = flat.real.dtype
    fx, fy = taps.fx.astype(real), taps.fy.astype(real)
    known = None if valid is None else valid.reshape(-1)
    values, total = np.zeros(len(fx), flat.dtype), np.zeros(len(fx), real)
    for offset, weight in (
        (0, (1 - fx) * (1 - fy)),
        (1, fx * (1 - fy)),
        (taps.columns, (1 - fx) * fy),
        (taps.columns + 1, fx * fy),
    ):
        pixels = flat[offset:].take(taps.index)
        if known is not None:
            there = known[offset:].take(taps.index)
            # Without data, pixels may hold NaN, which no weight of 0 would remove.
            pixels, weight = np.where(there, pixels, 0), np.where(there, weight, 0)
        values += weight * pixels
        total += weight
    # Divided even where the weights should add up to 1, so that a place's value does not depend on its block.
    return values / np.where(total > 0, total, 1)

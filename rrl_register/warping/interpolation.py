"""Interpolation at arbitrary places of an image, exact and blind to pixels without data.

Hand-made, because OpenCV's ``remap`` rounds coordinates to 1/32 px and knows no mask: here coordinates are taken as
they are, and a pixel without data never weighs anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rrl_register.config import Resampling
from rrl_register.geometry.arrays import Array, Mask

MARGIN = (1, 2)
"""Pixels that the widest kernel reaches before and after the pixel at or left of (above) a place."""
CHUNK = 32_768
"""Places computed at a time: few enough for their intermediate values to stay in a core's cache."""


@dataclass(frozen=True)
class SamplePoints:
    """Places in an image, relative to a window of it.

    Attributes:
        columns: Width of the window, px.
        index: (N,) flat index, within the window, of the pixel at or up left of each place; the kernel's reach
            around it lies within the window.
        fx: (N,) float32 fraction of x, in [0, 1), of places that are rounded so that this is exact.
        fy: (N,) float32 fraction of y, in the same way.
    """

    columns: int
    index: npt.NDArray[np.intp]
    fx: npt.NDArray[np.float32]
    fy: npt.NDArray[np.float32]

    def subset(self, chosen: Mask | slice) -> SamplePoints:
        """Keep the chosen places, (N,) bool or a slice."""
        return SamplePoints(self.columns, self.index[chosen], self.fx[chosen], self.fy[chosen])

    def chunks(self) -> Iterator[tuple[slice, SamplePoints]]:
        """Cut into pieces of ``CHUNK`` places."""
        for start in range(0, len(self.index), CHUNK):
            part = slice(start, start + CHUNK)
            yield part, self.subset(part)

    @property
    def nearest(self) -> npt.NDArray[np.intp]:
        """(N,) flat index of the nearest pixel; ties go right and down."""
        return self.index + (self.fx >= 0.5) + (self.fy >= 0.5) * self.columns


def interpolate(
    image: Array, valid: Mask | None, points: SamplePoints, resampling: Resampling, dtype: npt.DTypeLike
) -> tuple[Array, Mask]:
    """Interpolate an image.

    A place has data where its nearest pixel has. Bilinear weights are renormalised over the pixels with data; cubic
    interpolation becomes such a bilinear one where not all of its 16 pixels have data, because its negative weights
    cannot be renormalised safely. A place on a pixel's centre takes that pixel unchanged.

    Args:
        image: (h, w) window, real or complex.
        valid: (h, w) bool; None: all pixels have data.
        points: The places.
        resampling: Interpolation.
        dtype: Type of the result; integers are rounded and clipped.

    Returns:
        (N,) values and (N,) bool; values are undefined where False.
    """
    flat = image.reshape(-1)
    known = None if valid is None or valid.all() else valid
    has_data = np.ones(len(points.index), bool) if known is None else known.reshape(-1).take(points.nearest)
    if resampling is Resampling.NEAREST:
        return as_dtype(flat.take(points.nearest), dtype), has_data
    work = flat.astype(np.result_type(flat.dtype, np.float32), copy=False)
    complete = _all_16_valid(known) if known is not None and resampling is Resampling.CUBIC else None
    values = np.empty(len(points.index), dtype)
    for part, places in points.chunks():
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
    limits, floating = np.iinfo(target), values.dtype.type
    high = floating(limits.max)
    if int(high) > limits.max:  # the floating type has rounded it up
        high = np.nextafter(high, floating(0))
    rounded: Array = np.clip(np.rint(values), floating(limits.min), high).astype(target)
    return rounded


def _cubic_or_bilinear(flat: Array, valid: Mask | None, complete: Mask | None, points: SamplePoints) -> Array:
    enough = None if complete is None else complete.take(points.index)
    if enough is None or enough.all():
        return _cubic(flat, points)
    values = np.empty(len(points.index), flat.dtype)
    values[enough] = _cubic(flat, points.subset(enough))
    values[~enough] = _bilinear(flat, valid, points.subset(~enough))
    return values


def _cubic(flat: Array, points: SamplePoints) -> Array:
    """Convolve with a cubic kernel.

    Source: Keys, "Cubic convolution interpolation for digital image processing", 1981, a = -1/2.
    """
    real = flat.real.dtype
    weights_x, weights_y = _keys_weights(points.fx.astype(real)), _keys_weights(points.fy.astype(real))
    first = points.index - points.columns - 1
    values, line, pixels = (np.zeros(len(first), flat.dtype) for _ in range(3))
    for row, weight_y in enumerate(weights_y):
        line[:] = 0
        for column, weight_x in enumerate(weights_x):
            # Every index is within the window; "wrap" is the fastest mode, because it checks none.
            np.take(flat[row * points.columns + column :], first, out=pixels, mode="wrap")
            pixels *= weight_x
            line += pixels
        line *= weight_y
        values += line
    return values


def _keys_weights(f: Array) -> tuple[Array, Array, Array, Array]:
    """Weigh the pixels at -1, 0, 1 and 2 of a place at f in [0, 1)."""
    return (
        ((-0.5 * f + 1) * f - 0.5) * f,
        (1.5 * f - 2.5) * f * f + 1,
        ((-1.5 * f + 2) * f + 0.5) * f,
        (0.5 * f - 0.5) * f * f,
    )


def _all_16_valid(valid: Mask) -> Mask:
    """Mark each flat index whose 4 x 4 pixels, from one up left to two down right, all have data."""
    complete = np.zeros_like(valid)
    rows = valid[:-3] & valid[1:-2] & valid[2:-1] & valid[3:]
    complete[1:-2, 1:-2] = rows[:, :-3] & rows[:, 1:-2] & rows[:, 2:-1] & rows[:, 3:]
    return complete.reshape(-1)


def _bilinear(flat: Array, valid: Mask | None, points: SamplePoints) -> Array:
    real = flat.real.dtype
    fx, fy = points.fx.astype(real), points.fy.astype(real)
    known = None if valid is None else valid.reshape(-1)
    values, total = np.zeros(len(fx), flat.dtype), np.zeros(len(fx), real)
    for offset, weight in (
        (0, (1 - fx) * (1 - fy)),
        (1, fx * (1 - fy)),
        (points.columns, (1 - fx) * fy),
        (points.columns + 1, fx * fy),
    ):
        pixels = flat[offset:].take(points.index)
        if known is not None:
            has_data = known[offset:].take(points.index)
            # A pixel without data may hold NaN, which a weight of 0 would not remove.
            pixels, weight = np.where(has_data, pixels, 0), np.where(has_data, weight, 0)
        values += weight * pixels
        total += weight
    # Divided even where the weights should add up to 1, so that a place's value does not depend on its block.
    return values / np.where(total > 0, total, 1)

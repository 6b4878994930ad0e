"""The way back from the fixed grid to the moving image: which pixels a block needs, and where in them it looks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from rrl_register.config import Resampling
from rrl_register.displacement_field import DisplacementField
from rrl_register.errors import UsageError
from rrl_register.interpolation import MARGIN, Mask, Taps

_MAX_WINDOW_PX = 2048 * 2048
"""Source pixels read at once for one band; a block that needs more is cut."""

_SNAP = 2.0**20
"""Coordinates are rounded to this part of a pixel, so that rounding noise does not turn a whole shift into a blur."""


_SMALLEST_AREA = 1e-12
"""A transform that shrinks the pixel in the middle to less than this part of its area is no transform."""


class Box(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of a raster, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.bottom - self.top, self.right - self.left

    def window(self) -> Window:
        """The same as rasterio has it."""
        return Window(self.left, self.top, self.right - self.left, self.bottom - self.top)

    def clipped(self, shape: tuple[int, int]) -> Box:
        """The part within a raster of that shape."""
        top, left = max(self.top, 0), max(self.left, 0)
        return Box(top, max(top, min(self.bottom, shape[0])), left, max(left, min(self.right, shape[1])))

    def slices_from(self, origin: Box) -> tuple[slice, slice]:
        """Index of this box in an array that starts where ``origin`` does."""
        top, left = self.top - origin.top, self.left - origin.left
        return slice(top, top + self.shape[0]), slice(left, left + self.shape[1])


@dataclass(frozen=True)
class Patch:
    """A part of the fixed grid and where its pixels look in the (averaged) source."""

    box: Box
    inside: Mask
    """Pixels of the box that fall into the source; ``taps`` has one place for each."""
    window: Box
    """Part of the averaged source that is needed; it may reach over the edge."""
    taps: Taps


@dataclass(frozen=True)
class InverseMap:
    """The way from fixed pixels back to the source.

    Attributes:
        inverse: (3, 3), fixed pixel -> source pixel, scaled so that the third coordinate is positive in front of the
            horizon.
        shape: (rows, columns) of the source.
        factor: Source pixels per averaged pixel along each side; 1 unless the transform reduces by 2 and more.
        resampling: How to interpolate.
        field: What the fixed pixels are displaced by; None: nothing.
    """

    inverse: npt.NDArray[np.float64]
    shape: tuple[int, int]
    factor: int
    resampling: Resampling
    field: DisplacementField | None = None

    @classmethod
    def onto(
        cls,
        matrix: npt.ArrayLike,
        shape: tuple[int, int],
        resampling: Resampling,
        field: DisplacementField | None = None,
    ) -> InverseMap:
        """Prepare the way back for a matrix moving -> fixed, a displacement and a source of that shape."""
        forward = _facing_forward(matrix, shape)
        factor = 1 if resampling is Resampling.NEAREST else _reduction(forward, shape)
        inverse: npt.NDArray[np.float64] = np.linalg.inv(forward).astype(np.float64)
        return cls(inverse, shape, factor, resampling, field)

    def patches(self, box: Box) -> Iterator[Patch]:
        """Plan a block; it is cut where it needs too much of the source at once."""
        x, y = self._places(box)
        rows, columns = (math.ceil(side / self.factor) for side in self.shape)
        inside = (x >= -0.5) & (x < columns - 0.5) & (y >= -0.5) & (y < rows - 0.5)
        if not inside.any():
            return
        x, y = x[inside], y[inside]
        left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
        window = _reach(left, top)
        height, width = window.shape
        if height * width * self.factor**2 > _MAX_WINDOW_PX and max(box.shape) > 1:
            for part in _quarters(box):
                yield from self.patches(part)
            return
        index = (top - window.top) * width + (left - window.left)
        yield Patch(box, inside, window, Taps(width, index, x - left, y - top))

    def window(self, box: Box) -> Box:
        """The part of the source that a block needs, source pixels; empty where the block falls beside it."""
        windows = [patch.window for patch in self.patches(box)]
        if not windows:
            return Box(0, 0, 0, 0)
        top, bottom, left, right = zip(*windows, strict=True)
        reach = min(top), max(bottom), min(left), max(right)
        return Box(*(self.factor * side for side in reach)).clipped(self.shape)

    def _places(self, box: Box) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Where the pixels of a box lie in the averaged source, (h, w) each; NaN behind the horizon.

        Written out, since a matrix product may round differently from one block to the next.
        """
        u = np.arange(box.left, box.right, dtype=np.float64)
        v = np.arange(box.top, box.bottom, dtype=np.float64)[:, None]
        if self.field is not None:
            along_x, along_y = self.field.at(u, v)
            u, v = u - along_x, v - along_y
        x, y, depth = (row[0] * u + row[1] * v + row[2] for row in self.inverse)
        depth = np.where(depth > 0, depth, np.nan)
        return self._averaged(x / depth), self._averaged(y / depth)

    def _averaged(self, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        reduced = (places + 0.5) / self.factor - 0.5 if self.factor > 1 else places
        snapped: npt.NDArray[np.float64] = np.rint(reduced * _SNAP) / _SNAP
        return snapped


def blocks(shape: tuple[int, int], size: int) -> Iterator[Box]:
    """Cut a raster of that shape into squares, row by row; the last ones are smaller."""
    for top, left in product(range(0, shape[0], size), range(0, shape[1], size)):
        yield Box(top, top + size, left, left + size).clipped(shape)


def _facing_forward(matrix: npt.ArrayLike, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Scale a matrix so that the third coordinate of the source's centre is 1; refuse one without inverse."""
    given = np.array(matrix, np.float64)
    if given.shape == (3, 3) and np.isfinite(given).all():
        depth = float(given[2] @ ((shape[1] - 1) / 2, (shape[0] - 1) / 2, 1))
        if depth != 0 and abs(np.linalg.det(given / depth)) > _SMALLEST_AREA:
            return given / depth
    raise UsageError(f"the transform {given.tolist()} has no inverse; needed an invertible 3 x 3; register again")


def _reduction(forward: npt.NDArray[np.float64], shape: tuple[int, int]) -> int:
    """Whole source pixels per fixed pixel, along each side, in the median over the source."""
    x, y = np.meshgrid(np.linspace(0, shape[1] - 1, 9), np.linspace(0, shape[0] - 1, 9))
    depth = forward[2, 0] * x + forward[2, 1] * y + forward[2, 2]
    # The Jacobian of a homography has the determinant det(H) / depth^3.
    area = depth[depth > 0] ** 3 / abs(np.linalg.det(forward))
    return max(1, math.floor(math.sqrt(np.median(area)) + 1e-6))


def _quarters(box: Box) -> Iterator[Box]:
    middle, centre = (box.top + box.bottom + 1) // 2, (box.left + box.right + 1) // 2
    for top, bottom in ((box.top, middle), (middle, box.bottom)):
        for left, right in ((box.left, centre), (centre, box.right)):
            if bottom > top and right > left:
                yield Box(top, bottom, left, right)


def _reach(left: npt.NDArray[np.intp], top: npt.NDArray[np.intp]) -> Box:
    """The pixels that kernels at these places reach."""
    before, after = MARGIN
    return Box(
        int(top.min()) - before, int(top.max()) + after + 1, int(left.min()) - before, int(left.max()) + after + 1
    )

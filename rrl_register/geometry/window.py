"""Windows of pixels, and pixel frames: where the pixels of a cut or reduced image lie in its file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from rasterio.windows import Window

from rrl_register.geometry.arrays import Matrix, Points
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.geometry.transforms import compose, rescale_matrix, translation


@dataclass(frozen=True)
class Frame:
    """The pixels of one working image.

    Attributes:
        factor: File px per px.
        left, top: File px left of the image and above it.
    """

    factor: float = 1.0
    left: float = 0.0
    top: float = 0.0

    def to_file(self, points: Points) -> Points:
        """Return points ``(N, 2)`` of the image as pixels of the file."""
        return (points + 0.5) * self.factor - 0.5 + (self.left, self.top)

    def from_file(self, points: Points) -> Points:
        """Return pixels ``(N, 2)`` of the file as points of the image."""
        return (points - (self.left, self.top) + 0.5) / self.factor - 0.5

    def in_file(self, part: Rectangle) -> Rectangle:
        """Return a part of the image as a part of the file."""
        left, top = self.left + part.left * self.factor, self.top + part.top * self.factor
        return Rectangle(left, top, part.width * self.factor, part.height * self.factor)

    def of(self, part: Rectangle) -> Frame:
        """Return the frame of a part that is cut out of the image."""
        left, top, _, _ = self.in_file(part)
        return Frame(self.factor, left, top)


@dataclass(frozen=True)
class Frames:
    """The pixels of a fixed and a moving working image."""

    fixed: Frame
    moving: Frame

    def to_files(self, transform: Transform) -> Transform:
        """Return a transform of working pixels as one of the files' pixels."""
        fixed, moving = self.fixed, self.moving
        matrix = rescale_matrix(transform.matrix, 1 / fixed.factor, 1 / moving.factor)
        whole = compose(translation(fixed.left, fixed.top), matrix, translation(-moving.left, -moving.top))
        if transform.displacement is None:
            return Transform(whole)
        return Transform(whole, transform.displacement.reduced(1 / fixed.factor).moved((fixed.left, fixed.top)))

    def tie_points_to_files(self, points: TiePoints) -> TiePoints:
        """Return tie points of working pixels as those of the files' pixels."""
        agreement = None if points.agreement_px is None else points.agreement_px * self.fixed.factor
        return TiePoints(self.fixed.to_file(points.fixed), self.moving.to_file(points.moving), points.score, agreement)

    def in_file_px(self, length: float | None) -> float | None:
        """Return a length of fixed working px in px of the fixed file, to three digits; None if it is not known."""
        return None if length is None or not math.isfinite(length) else round(length * self.fixed.factor, 3)

    def from_files(self, matrix: Matrix) -> Matrix:
        """Return a matrix ``(3, 3)`` of the files' pixels as one of working pixels."""
        fixed, moving = self.fixed, self.moving
        cut = compose(translation(-fixed.left, -fixed.top), matrix, translation(moving.left, moving.top))
        return compose(rescale_matrix(cut, fixed.factor, moving.factor))

    def finer(self, step: float) -> Frames:
        """Return the frames of the same parts of the files in pixels ``step`` times smaller."""
        return Frames(
            replace(self.fixed, factor=self.fixed.factor / step), replace(self.moving, factor=self.moving.factor / step)
        )


class Box(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of a raster, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def of_shape(cls, shape: tuple[int, int]) -> Box:
        """Return the box of a whole raster of a shape (rows, columns)."""
        return cls(0, shape[0], 0, shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.bottom - self.top, self.right - self.left

    @property
    def empty(self) -> bool:
        """True if the box holds no pixel."""
        return self.bottom <= self.top or self.right <= self.left

    def window(self, origin: tuple[int, int] = (0, 0)) -> Window:
        """Return rasterio's window of the box, in a raster that begins at an origin (row, column)."""
        return Window(self.left - origin[1], self.top - origin[0], self.right - self.left, self.bottom - self.top)

    def within(self, other: Box) -> Box:
        """Return the part that lies in another box."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        return Box(top, max(top, min(self.bottom, other.bottom)), left, max(left, min(self.right, other.right)))

    def around(self, other: Box) -> Box:
        """Return the smallest box that holds both."""
        top, left = min(self.top, other.top), min(self.left, other.left)
        return Box(top, max(self.bottom, other.bottom), left, max(self.right, other.right))

    def slices_from(self, origin: Box) -> tuple[slice, slice]:
        """Return the index of the box in an array that covers ``origin``."""
        top, left = self.top - origin.top, self.left - origin.left
        return slice(top, top + self.shape[0]), slice(left, left + self.shape[1])

    def blocks(self, size: int) -> Iterator[Box]:
        """Cut the box into squares, row by row; the last ones are smaller."""
        for top, left in product(range(self.top, self.bottom, size), range(self.left, self.right, size)):
            yield Box(top, top + size, left, left + size).within(self)

    def strips(self, n_pixels: int) -> Iterator[Box]:
        """Cut the box into bands of whole rows, of about ``n_pixels`` each."""
        height = max(1, n_pixels // max(1, self.shape[1]))
        for top in range(self.top, self.bottom, height):
            yield self._replace(top=top, bottom=min(top + height, self.bottom))

    def quarters(self) -> Iterator[Box]:
        """Cut the box in halves along both sides; halves that hold no pixel are left out."""
        middle, centre = (self.top + self.bottom + 1) // 2, (self.left + self.right + 1) // 2
        for top, bottom in ((self.top, middle), (middle, self.bottom)):
            for left, right in ((self.left, centre), (centre, self.right)):
                part = Box(top, bottom, left, right)
                if not part.empty:
                    yield part


class Rectangle(NamedTuple):
    """A part of an image, px: its left and top edge, and its size."""

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def around(cls, points: Points, shape: tuple[int, int]) -> Rectangle | None:
        """Return the whole pixels of an image that hold all points; None if the points lie outside.

        Args:
            points: ``(N, 2)`` px.
            shape: (rows, columns) of the image.
        """
        low = np.maximum(np.floor(points.min(axis=0)), 0)
        high = np.minimum(np.ceil(points.max(axis=0)) + 1, shape[::-1])
        return cls(*(int(each) for each in (*low, *(high - low)))) if np.all(high > low) else None

    @property
    def corners(self) -> Points:
        """Centres of the corner pixels, ``(4, 2)``."""
        right, bottom = self.left + self.width - 1, self.top + self.height - 1
        return np.array([(self.left, self.top), (right, self.top), (right, bottom), (self.left, bottom)], np.float64)

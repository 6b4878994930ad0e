"""Rectangles of pixels, and how a raster is cut into them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from rasterio.windows import Window


class Box(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of a raster, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def of_shape(cls, shape: tuple[int, int]) -> Box:
        """All of a raster of that shape (rows, columns)."""
        return cls(0, shape[0], 0, shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.bottom - self.top, self.right - self.left

    @property
    def empty(self) -> bool:
        """Whether it holds no pixel."""
        return self.bottom <= self.top or self.right <= self.left

    def window(self, origin: tuple[int, int] = (0, 0)) -> Window:
        """The same as rasterio has it, in a raster that begins at an origin (row, column)."""
        return Window(self.left - origin[1], self.top - origin[0], self.right - self.left, self.bottom - self.top)

    def within(self, other: Box) -> Box:
        """The part that lies in another box."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        return Box(top, max(top, min(self.bottom, other.bottom)), left, max(left, min(self.right, other.right)))

    def around(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )

    def slices_from(self, origin: Box) -> tuple[slice, slice]:
        """Index of this box in an array that starts where ``origin`` does."""
        top, left = self.top - origin.top, self.left - origin.left
        return slice(top, top + self.shape[0]), slice(left, left + self.shape[1])

    def blocks(self, size: int) -> Iterator[Box]:
        """Cut into squares, row by row; the last ones are smaller."""
        for top, left in product(range(self.top, self.bottom, size), range(self.left, self.right, size)):
            yield Box(top, top + size, left, left + size).within(self)

    def strips(self, n_pixels: int) -> Iterator[Box]:
        """Cut into bands of whole rows, of about that many pixels each."""
        height = max(1, n_pixels // max(1, self.shape[1]))
        for top in range(self.top, self.bottom, height):
            yield self._replace(top=top, bottom=min(top + height, self.bottom))

    def quarters(self) -> Iterator[Box]:
        """Cut in halves along both sides, as far as that is possible."""
        middle, centre = (self.top + self.bottom + 1) // 2, (self.left + self.right + 1) // 2
        for top, bottom in ((self.top, middle), (middle, self.bottom)):
            for left, right in ((self.left, centre), (centre, self.right)):
                part = Box(top, bottom, left, right)
                if not part.empty:
                    yield part

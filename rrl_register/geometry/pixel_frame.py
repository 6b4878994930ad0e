"""Pixel frames: place and size, in the file, of the pixels of an image that is reduced, cut out, or both."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from rrl_register.geometry.arrays import Matrix, Points
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.geometry.transforms import compose, rescale_matrix, translation
from rrl_register.geometry.window import Rectangle


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
        displacement = transform.displacement.reduced(1 / fixed.factor)
        return Transform(whole, displacement.moved((fixed.left, fixed.top)))

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

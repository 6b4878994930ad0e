"""The two images as the matching stages see them: one grey image each, at one resolution, and a first guess."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np

from rrl_register.config import Kind
from rrl_register.geometry.arrays import Image, Mask, Matrix
from rrl_register.geometry.pixel_frame import Frame, Frames
from rrl_register.geometry.transforms import compose, rescale_matrix
from rrl_register.raster.grid import Grid

SAME_RESOLUTION = 1.25
"""Pixel sizes that differ by less than this are left as they are."""
ENOUGH_SIDE = 256
"""No image is reduced below this many px (shorter side) for the sake of the other's resolution."""
WHOLLY_VALID = 0.999
"""Interpolation weight on valid pixels from which nothing of the others shines through."""


@dataclass(frozen=True)
class ImagePair:
    """Both images reduced to the coarser one's resolution and to a bounded size.

    Attributes:
        fixed, moving: Grey images, ``(H, W)`` and ``(h, w)`` float32 in [0, 1].
        fixed_valid, moving_valid: Where they hold data.
        prior: What georeferences or sizes say, ``(3, 3)``, reduced moving px -> reduced fixed px.
        fixed_factor, moving_factor: File px per px of the reduced images.
        fixed_kind, moving_kind: What they show; never ``auto``.
        fixed_grid, moving_grid: Of the files.
        fixed_origin, moving_origin: File px (x, y) left of the images and above them, where they are cut out.
    """

    fixed: Image
    fixed_valid: Mask
    moving: Image
    moving_valid: Mask
    prior: Matrix
    fixed_factor: float
    moving_factor: float
    fixed_kind: Kind
    moving_kind: Kind
    fixed_grid: Grid
    moving_grid: Grid
    fixed_origin: tuple[float, float] = (0.0, 0.0)
    moving_origin: tuple[float, float] = (0.0, 0.0)

    @property
    def georeferenced(self) -> bool:
        """Whether the prior comes from georeferences."""
        return self.fixed_grid.georeferenced and self.moving_grid.georeferenced

    def placed(self, matrix: Matrix) -> tuple[Image, Mask]:
        """The moving image on the fixed image's pixels by ``matrix`` (reduced px), and where it holds data there."""
        size = self.fixed.shape[::-1]
        image = cv2.warpPerspective(self.moving, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        valid = self.covered(matrix)
        return np.where(valid, image, np.float32(0)), valid

    def covered(self, matrix: Matrix) -> Mask:
        """Where on the fixed image's pixels the moving image holds data; as ``placed`` says."""
        size, known = self.fixed.shape[::-1], self.moving_valid.astype(np.float32)
        return np.asarray(cv2.warpPerspective(known, matrix, size, flags=cv2.INTER_LINEAR) > WHOLLY_VALID)

    def at_scale(self, scale: float) -> ImagePair:
        """The pair with the image of the smaller pixels reduced to the other's resolution, if it is large enough.

        Args:
            scale: Fixed px per moving px, as a search has found it.
        """
        if scale < 1 / SAME_RESOLUTION:
            factor = min(1 / scale, _most_reduction(self.moving))
            image, valid = _reduced(self.moving, self.moving_valid, factor)
            prior = compose(rescale_matrix(self.prior, 1, factor))
            further = self.moving_factor * factor
            return replace(self, moving=image, moving_valid=valid, moving_factor=further, prior=prior)
        if scale > SAME_RESOLUTION:
            factor = min(scale, _most_reduction(self.fixed))
            image, valid = _reduced(self.fixed, self.fixed_valid, factor)
            prior = compose(rescale_matrix(self.prior, factor, 1))
            further = self.fixed_factor * factor
            return replace(self, fixed=image, fixed_valid=valid, fixed_factor=further, prior=prior)
        return self

    @property
    def georeference_error(self) -> float:
        """How far both georeferences together are known to be off, px of the fixed file."""
        scale = self.fixed_factor / self.moving_factor
        return self.fixed_grid.error_px + scale * self.moving_grid.error_px

    @property
    def frames(self) -> Frames:
        """Where the images' pixels lie in the files."""
        return Frames(Frame(self.fixed_factor, *self.fixed_origin), Frame(self.moving_factor, *self.moving_origin))


def _most_reduction(image: Image) -> float:
    return max(1.0, float(min(image.shape)) / ENOUGH_SIDE)


def _reduced(image: Image, valid: Mask, factor: float) -> tuple[Image, Mask]:
    """Image and mask on the grid whose pixels are ``factor`` px wide, smoothed as much, invalid pixels left out."""
    if factor == 1:
        return image, valid
    width, height = (max(1, int(side / factor + 1e-6)) for side in image.shape[::-1])
    sigma = 0.5 * np.sqrt(factor**2 - 1)
    weight = cv2.GaussianBlur(valid.astype(np.float32), (0, 0), sigma)
    smooth = cv2.GaussianBlur(np.where(valid, image, 0).astype(np.float32), (0, 0), sigma) / np.maximum(weight, 1e-3)
    sample = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2]])
    place = partial(
        cv2.warpAffine,
        M=sample,
        dsize=(width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    known = np.asarray(place(valid.astype(np.float32)) > WHOLLY_VALID)
    return np.where(known, place(np.asarray(smooth, np.float32)), 0).astype(np.float32), known

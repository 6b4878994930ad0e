"""The two images as the matching stages see them: one grey image each, at one resolution, and a first guess."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.config import Kind, ReadConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.estimation.displacement import Transform
from rrl_register.estimation.transforms import Matrix, compose, decompose
from rrl_register.matching.tie_points import TiePoints
from rrl_register.raster.grid import Grid, prior_matrix, rescale_matrix
from rrl_register.raster.radiometry import recognise_kinds
from rrl_register.raster.reader import open_info, read_bands
from rrl_register.raster.stretch import to_grey
from rrl_register.structure import Image, Mask

SAME_RESOLUTION = 1.25
"""Pixel sizes that differ by less than this are left as they are."""
MIN_SIDE = 48
ENOUGH_SIDE = 256
"""No image is reduced below this many px (shorter side) for the sake of the other's resolution."""
WHOLLY_VALID = 0.999
"""Interpolation weight on valid pixels from which nothing of the others shines through."""


@dataclass(frozen=True)
class WorkingPair:
    """Both images reduced to the coarser one's resolution and to a bounded size.

    Attributes:
        fixed, moving: Grey images, ``(H, W)`` and ``(h, w)`` float32 in [0, 1].
        fixed_valid, moving_valid: Where they hold data.
        prior: What georeferences or sizes say, ``(3, 3)``, reduced moving px -> reduced fixed px.
        fixed_factor, moving_factor: File px per px of the reduced images.
        fixed_kind, moving_kind: What they show; never ``auto``.
        fixed_grid, moving_grid: Of the files.
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

    @property
    def georeferenced(self) -> bool:
        """Whether the prior comes from georeferences."""
        return self.fixed_grid.georeferenced and self.moving_grid.georeferenced

    def placed(self, matrix: Matrix) -> tuple[Image, Mask]:
        """The moving image on the fixed image's pixels by ``matrix`` (reduced px), and where it holds data there."""
        size = self.fixed.shape[::-1]
        image = cv2.warpPerspective(self.moving, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        weight = cv2.warpPerspective(self.moving_valid.astype(np.float32), matrix, size, flags=cv2.INTER_LINEAR)
        valid = weight > WHOLLY_VALID
        return np.where(valid, image, 0).astype(np.float32), np.asarray(valid)

    def at_scale(self, scale: float) -> WorkingPair:
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

    def to_files(self, transform: Transform) -> Transform:
        """A transform of reduced pixels as one of the files' pixels."""
        matrix = compose(rescale_matrix(transform.matrix, 1 / self.fixed_factor, 1 / self.moving_factor))
        displacement = transform.displacement
        return Transform(matrix, displacement and displacement.reduced(1 / self.fixed_factor))

    def fixed_points_to_file(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reduced fixed pixels ``(N, 2)`` as pixels of the fixed file."""
        return (points + 0.5) * self.fixed_factor - 0.5

    def moving_points_to_file(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reduced moving pixels ``(N, 2)`` as pixels of the moving file."""
        return (points + 0.5) * self.moving_factor - 0.5

    def in_file_px(self, length: float | None) -> float | None:
        """A length of reduced fixed px in px of the fixed file, to three digits; None for what is not known."""
        return None if length is None or not math.isfinite(length) else round(length * self.fixed_factor, 3)

    def tie_points_to_files(self, points: TiePoints) -> TiePoints:
        """Tie points of reduced pixels as those of the files' pixels."""
        agreement = None if points.agreement_px is None else points.agreement_px * self.fixed_factor
        return TiePoints(
            self.fixed_points_to_file(points.fixed), self.moving_points_to_file(points.moving), points.score, agreement
        )


def read_pair(fixed: Path, moving: Path, config: ReadConfig) -> WorkingPair:
    """Reads both images for matching.

    Raises:
        InputError: If one cannot be read or used, or their georeferences say that they share no ground.
        UsageError: If both are the same file, or a band does not exist.
    """
    if fixed.exists() and moving.exists() and fixed.samefile(moving):
        raise UsageError(f"FIXED and MOVING are the same file ({fixed}): two images of one place are needed")
    fixed_grid, moving_grid = open_info(fixed).grid, open_info(moving).grid
    prior = prior_matrix(fixed_grid, moving_grid)
    fixed_factor, moving_factor = _factors(fixed_grid, moving_grid, prior, config.max_side)
    by_size = sorted(
        [(fixed, fixed_grid, fixed_factor), (moving, moving_grid, moving_factor)], key=lambda image: min(image[1].shape)
    )
    for path, grid, factor in by_size:
        _require_size(path, grid.reduced(factor))
    kinds = recognise_kinds(fixed, moving, config)
    grey = [
        _grey(path, bands, kind, factor)
        for path, bands, kind, factor in (
            (fixed, config.fixed_bands, kinds[0], fixed_factor),
            (moving, config.moving_bands, kinds[1], moving_factor),
        )
    ]
    return WorkingPair(
        *grey[0],
        *grey[1],
        compose(rescale_matrix(prior, fixed_factor, moving_factor)),
        fixed_factor,
        moving_factor,
        *kinds,
        fixed_grid,
        moving_grid,
    )


def _factors(fixed: Grid, moving: Grid, prior: Matrix, max_side: int) -> tuple[float, float]:
    """How far to reduce each image: to the coarser one's pixel size, then both to ``max_side``."""
    scale = decompose(prior, moving.shape).scale
    fixed_factor = scale if scale > SAME_RESOLUTION else 1.0
    moving_factor = 1 / scale if scale < 1 / SAME_RESOLUTION else 1.0
    further = max(1.0, max(fixed.shape) / fixed_factor / max_side)
    return fixed_factor * further, moving_factor * further


def _require_size(path: Path, reduced: Grid) -> None:
    if min(reduced.shape) < MIN_SIDE:
        raise InputError(
            f"{path} is {reduced.width} x {reduced.height} px at the resolution that both images share, {MIN_SIDE} px "
            "are needed: take a larger part of the scene, or images closer in resolution"
        )


def _grey(path: Path, bands: tuple[int, ...], kind: Kind, factor: float) -> tuple[Image, Mask]:
    read = read_bands(path, bands, factor=factor)
    return to_grey(read.values, read.valid, kind), read.valid


def _most_reduction(image: Image) -> float:
    return max(1.0, float(min(image.shape)) / ENOUGH_SIDE)


def _reduced(image: Image, valid: Mask, factor: float) -> tuple[Image, Mask]:
    """Image and mask on the grid whose pixels are ``factor`` px wide, smoothed as much, invalid pixels left out."""
    if factor == 1:
        return image, valid
    width, height = (max(1, int(side / factor)) for side in image.shape[::-1])
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

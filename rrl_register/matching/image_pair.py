"""The two images as they are matched: grey values at a shared resolution, the prior, and what matching reuses."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.config import Kind, MatchConfig
from rrl_register.geometry.arrays import Image, Indices, Mask, Matrix, Patches
from rrl_register.geometry.transforms import Georeferences, compose, rescale_matrix
from rrl_register.geometry.window import Frame, Frames
from rrl_register.matching.local_correlation import MAX_RADIUS, Structure
from rrl_register.nn.inference.load import PatchScorer
from rrl_register.nn.patches import PatchCutter, Spectrum
from rrl_register.raster.grid import Grid

SAME_RESOLUTION = 1.25
"""Pixel sizes that differ by less than this ratio stay as they are."""
ENOUGH_SIDE = 256
"""No image is reduced below this shorter side, px, to reach the other's resolution."""
WHOLLY_VALID = 0.999
"""Interpolation weight on valid pixels from which invalid ones have no influence."""


@dataclass(frozen=True)
class MatchingImage:
    """One image as it is matched: cut out of its file, reduced, and turned into grey values.

    Attributes:
        values: ``(H, W)`` float32 in [0, 1].
        valid: ``(H, W)`` bool, pixels with data.
        kind: What the image shows; never ``auto``.
        grid: Pixel grid of the file.
        frame: Position and size of the image's pixels in the file.
    """

    values: Image
    valid: Mask
    kind: Kind
    grid: Grid
    frame: Frame

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.valid.shape[0], self.valid.shape[1]

    @property
    def factor(self) -> float:
        """File pixels per pixel."""
        return self.frame.factor

    def reduced(self, factor: float) -> MatchingImage:
        """Return the image with pixels ``factor`` times as wide, smoothed accordingly; invalid pixels have no weight.

        Args:
            factor: At least 1; limited so that the shorter side keeps ``ENOUGH_SIDE`` px.
        """
        factor = min(factor, max(1.0, min(self.shape) / ENOUGH_SIDE))
        if factor == 1:
            return self
        width, height = (max(1, int(side / factor + 1e-6)) for side in self.shape[::-1])
        sigma = 0.5 * math.sqrt(factor**2 - 1)
        weight = cv2.GaussianBlur(self.valid.astype(np.float32), (0, 0), sigma)
        smooth = cv2.GaussianBlur(np.where(self.valid, self.values, 0).astype(np.float32), (0, 0), sigma)
        sample = partial(
            cv2.warpAffine,
            M=np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2]]),
            dsize=(width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        known = np.asarray(sample(self.valid.astype(np.float32)) > WHOLLY_VALID)
        values = sample(np.asarray(smooth / np.maximum(weight, 1e-3), np.float32))
        frame = replace(self.frame, factor=self.factor * factor)
        return replace(self, values=np.where(known, values, 0).astype(np.float32), valid=known, frame=frame)


@dataclass(frozen=True)
class ImagePair:
    """Both images, reduced to the coarser one's resolution and to a bounded size.

    Attributes:
        fixed, moving: The images.
        prior: ``(3, 3)`` reduced moving px -> reduced fixed px, from the georeferences or from the sizes.
    """

    fixed: MatchingImage
    moving: MatchingImage
    prior: Matrix

    @property
    def georeferenced(self) -> bool:
        """True if the prior comes from georeferences."""
        return self.fixed.grid.georeferenced and self.moving.grid.georeferenced

    @property
    def georeferences(self) -> Georeferences | None:
        """Both georeferences, in reduced px; None if one is missing."""
        return Georeferences(self.prior, self.fixed.grid.pixel_on_ground) if self.georeferenced else None

    @property
    def georeference_error(self) -> float:
        """Known error of both georeferences together, px of the fixed file."""
        return self.fixed.grid.error_px + self.fixed.factor / self.moving.factor * self.moving.grid.error_px

    @property
    def frames(self) -> Frames:
        """Positions of both images' pixels in their files."""
        return Frames(self.fixed.frame, self.moving.frame)

    def placed(self, matrix: Matrix) -> tuple[Image, Mask]:
        """Warp the moving image onto the fixed image's pixels.

        Args:
            matrix: ``(3, 3)`` reduced moving px -> reduced fixed px.

        Returns:
            Values ``(H, W)`` float32, 0 where there is no data, and the mask ``(H, W)``.
        """
        size, valid = self.fixed.shape[::-1], self.covered(matrix)
        values = cv2.warpPerspective(
            self.moving.values, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.where(valid, values, np.float32(0)), valid

    def covered(self, matrix: Matrix) -> Mask:
        """Return the mask ``(H, W)`` of fixed pixels on which the moving image has data under ``matrix``."""
        size, known = self.fixed.shape[::-1], self.moving.valid.astype(np.float32)
        return np.asarray(cv2.warpPerspective(known, matrix, size, flags=cv2.INTER_LINEAR) > WHOLLY_VALID)

    def overlap(self, matrix: Matrix) -> Mask:
        """Return the mask ``(H, W)`` of fixed pixels on which both images have data under ``matrix``."""
        return self.covered(matrix) & self.fixed.valid

    def at_scale(self, scale: float) -> ImagePair:
        """Reduce the image of the smaller pixels to the other's resolution, as far as it is large enough.

        Args:
            scale: Fixed px per moving px, as a search has found it.
        """
        if scale < 1 / SAME_RESOLUTION:
            moving = self.moving.reduced(1 / scale)
            if moving is self.moving:
                return self
            prior = compose(rescale_matrix(self.prior, 1, moving.factor / self.moving.factor))
            return replace(self, moving=moving, prior=prior)
        if scale > SAME_RESOLUTION:
            fixed = self.fixed.reduced(scale)
            if fixed is self.fixed:
                return self
            prior = compose(rescale_matrix(self.prior, fixed.factor / self.fixed.factor, 1))
            return replace(self, fixed=fixed, prior=prior)
        return self


@dataclass(frozen=True)
class MatchingContext:
    """A pair with everything that matching reuses.

    Attributes:
        pair: The images.
        support: Ground under a patch, px.
        fixed_cutter: Cuts the fixed image's patches.
        fixed_structure: Oriented gradients of the fixed image.
        spectra: Encoders of the fixed and of the moving image.
        scorer: The network.
        config: Settings of matching.
    """

    pair: ImagePair
    support: int
    fixed_cutter: PatchCutter
    fixed_structure: Structure
    spectra: tuple[Spectrum, Spectrum]
    scorer: PatchScorer
    config: MatchConfig

    @classmethod
    def of(
        cls, pair: ImagePair, support: int, spectra: tuple[Spectrum, Spectrum], scorer: PatchScorer, config: MatchConfig
    ) -> MatchingContext:
        """Prepare a pair."""
        fixed = pair.fixed
        # Three quarters of a patch's ground, less in small images.
        half = min(3 * support // 4, 64, min(fixed.shape) // 6)
        cutter = PatchCutter(fixed.values, fixed.valid, support)
        structure = Structure.of(fixed.values, fixed.valid, half, MAX_RADIUS)
        return cls(pair, support, cutter, structure, spectra, scorer, config)

    def with_pair(self, pair: ImagePair) -> MatchingContext:
        """Prepare the same pair at another resolution, or a part of it."""
        return MatchingContext.of(pair, self.support, self.spectra, self.scorer, self.config)

    def at_scale(self, scale: float) -> MatchingContext:
        """Return the context at the resolution that suits a scale, fixed px per moving px."""
        pair = self.pair.at_scale(scale)
        return self if pair is self.pair else self.with_pair(pair)

    @property
    def margin(self) -> int:
        """Least distance of keypoints from the edge of the data, px; beyond it, a patch would be mostly filling."""
        return self.support // 4

    @property
    def correlation_half(self) -> int:
        """Half the side of a correlation window, px."""
        return self.fixed_structure.half

    def structure_of(self, placed: Image, valid: Mask) -> Structure:
        """Compute the oriented gradients of the moving image as it is placed on the fixed grid."""
        return Structure.of(placed, valid, self.correlation_half, MAX_RADIUS)

    def score(self, fixed: Patches, moving: Patches, left: Indices, right: Indices) -> NDArray[np.float32]:
        """Score the pairs (fixed ``left``, moving ``right``), each patch through its own encoder.

        Returns:
            ``(N,)`` probabilities that the pairs match.
        """
        if self.spectra[0] is Spectrum.VISIBLE:
            return self.scorer.score(fixed, moving, left, right)
        return self.scorer.score(moving, fixed, right, left)

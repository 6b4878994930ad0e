"""A pair prepared for matching: patches, oriented gradients, encoders and the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import MatchConfig
from rrl_register.geometry.arrays import Image, Indices, Mask, Patches
from rrl_register.matching.image_pair import ImagePair
from rrl_register.matching.local_correlation import MAX_RADIUS, Structure
from rrl_register.nn.encoder_choice import Spectrum
from rrl_register.nn.inference import PatchScorer
from rrl_register.nn.patches import PatchCutter


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
        cls,
        pair: ImagePair,
        support: int,
        spectra: tuple[Spectrum, Spectrum],
        scorer: PatchScorer,
        config: MatchConfig,
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

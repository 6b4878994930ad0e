"""Radiometric augmentation of training patches: the paper's, and haze, speckle and tone curves of scenes.

kornia's augmentations draw from PyTorch's global generator; a run that resumes needs its own.
"""

from __future__ import annotations

import math

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from rrl_register.training.blur import gaussian_blur
from rrl_register.training.settings import KNOWN_ONLY, Number
from rrl_register.training.simulation import tone_curves

_CURVE_NODES = 5
_BLUR_WINDOW = 7


@dataclass(frozen=True, config=KNOWN_ONLY)
class RadiometryConfig:
    """Shares of patches, 0-1, and strengths."""

    gamma: Number = 0.5
    gamma_range: tuple[Number, Number] = (0.5, 1.5)
    contrast: Number = 0.3
    blur: Number = 0.25
    blur_sigma: tuple[Number, Number] = (0.4, 1.2)
    noise: Number = 0.3
    noise_std: Number = 0.03
    haze: Number = 0.2
    haze_strength: Number = 0.6
    speckle: Number = 0.5
    speckle_std: Number = 0.15
    inversion: Number = 0.15
    tone_curve: Number = 0.15


class Radiometry:
    """Apply the augmentation; each patch draws for itself, except for the width of the blur, which a batch shares.

    Args:
        config: Shares and strengths.
        generator: Source of all randomness.
    """

    def __init__(self, config: RadiometryConfig, generator: torch.Generator) -> None:
        self._config = config
        self._generator = generator

    def visible(self, patches: Tensor) -> Tensor:
        """Alter visible patches ``(N, 1, 64, 64)`` in [0, 1]; only they have haze."""
        return self._common(self._haze(patches)).clamp(0, 1)

    def other(self, patches: Tensor, family: str) -> Tensor:
        """Alter patches of the other spectrum: speckle for SAR, inversion and tone curves for all else."""
        config = self._config
        if family == "sar":
            return self._speckle(self._common(patches)).clamp(0, 1)
        patches = torch.where(self._some(patches, config.inversion), 1 - patches, patches)
        nodes = torch.rand(len(patches), _CURVE_NODES, generator=self._generator).to(patches.device)
        curved = tone_curves(patches, nodes)
        return self._common(torch.where(self._some(patches, config.tone_curve), curved, patches)).clamp(0, 1)

    def _common(self, patches: Tensor) -> Tensor:
        config = self._config
        patches = self._blur(patches)
        gamma = self._draw(patches, *config.gamma_range)
        patches = torch.where(self._some(patches, config.gamma), patches.clamp(1e-4, 1) ** gamma, patches)
        patches = (patches - 0.5) * (1 + self._draw(patches, -1, 1) * config.contrast) + 0.5
        patches = patches + self._draw(patches, -1, 1) * config.contrast / 4
        strength = self._draw(patches, 0, config.noise_std) * self._some(patches, config.noise)
        return patches + strength * self._normal(patches)

    def _blur(self, patches: Tensor) -> Tensor:
        sigma = float(self._draw(patches[:1], *self._config.blur_sigma))
        return torch.where(self._some(patches, self._config.blur), gaussian_blur(patches, sigma, _BLUR_WINDOW), patches)

    def _haze(self, patches: Tensor) -> Tensor:
        """Add bright air, thicker towards one side: standardising would undo an even layer."""
        axis = torch.linspace(-1, 1, patches.shape[-1], device=patches.device)
        angle = self._draw(patches, -math.pi, math.pi)
        ramp = 0.5 + (angle.cos() * axis + angle.sin() * axis[:, None]) / (2 * math.sqrt(2))
        strength = self._draw(patches, 0, self._config.haze_strength) * self._some(patches, self._config.haze)
        return torch.lerp(patches, self._draw(patches, 0.7, 1), strength * ramp)

    def _speckle(self, patches: Tensor) -> Tensor:
        strength = self._draw(patches, 0, self._config.speckle_std) * self._some(patches, self._config.speckle)
        return patches + strength * self._normal(patches)

    def _draw(self, patches: Tensor, low: float, high: float) -> Tensor:
        drawn = torch.rand(len(patches), 1, 1, 1, generator=self._generator)
        return (drawn * (high - low) + low).to(patches.device)

    def _some(self, patches: Tensor, share: float) -> Tensor:
        return self._draw(patches, 0, 1) < share

    def _normal(self, patches: Tensor) -> Tensor:
        """Draw noise on the patches' device, which saves a large copy, with a seed of the generator."""
        seed = int(torch.randint(2**31, (1,), generator=self._generator))
        local = torch.Generator(patches.device).manual_seed(seed)
        return torch.randn(patches.shape, generator=local, device=patches.device)

"""What happens to the radiometry of patches in training: the paper's augmentation and what scenes need."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rrl_register.training.simulation import tone_curves

_CURVE_NODES = 5


@dataclass(frozen=True)
class RadiometryConfig:
    """Shares of patches, 0-1, and strengths."""

    gamma: float = 0.5
    gamma_range: tuple[float, float] = (0.5, 1.5)
    contrast: float = 0.3
    blur: float = 0.25
    blur_sigma: tuple[float, float] = (0.4, 1.2)
    noise: float = 0.3
    noise_std: float = 0.03
    haze: float = 0.2
    haze_strength: float = 0.6
    speckle: float = 0.5
    speckle_std: float = 0.15
    inversion: float = 0.15
    tone_curve: float = 0.15


class Radiometry:
    """Applies the augmentation; each patch draws for itself, but for the width of the blur, which a batch shares.

    Args:
        config: Shares and strengths.
        generator: Source of all randomness.
    """

    def __init__(self, config: RadiometryConfig, generator: torch.Generator) -> None:
        self._config = config
        self._generator = generator

    def visible(self, patches: Tensor) -> Tensor:
        """Patches ``(N, 1, 64, 64)`` in [0, 1] of the visible spectrum, altered; haze is of this spectrum alone."""
        return self._common(self._haze(patches)).clamp(0, 1)

    def other(self, patches: Tensor, family: str) -> Tensor:
        """Patches of the other spectrum, altered; speckle for SAR, inversion and tone curves for what has none."""
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
        axis = torch.arange(-3, 4, device=patches.device)
        kernel = torch.exp(-0.5 * (axis / sigma) ** 2)
        kernel = (kernel / kernel.sum()).reshape(1, 1, 1, 7)
        padded = functional.pad(patches, (3, 3, 3, 3), mode="replicate")
        blurred = functional.conv2d(functional.conv2d(padded, kernel), kernel.transpose(2, 3))
        return torch.where(self._some(patches, self._config.blur), blurred, patches)

    def _haze(self, patches: Tensor) -> Tensor:
        """Bright air in front of the scene, thicker towards one side: evenly spread, standardising would undo it."""
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
        """Noise whose seed comes from the generator but which is drawn where the patches lie: large, and no copy."""
        seed = int(torch.randint(2**31, (1,), generator=self._generator))
        local = torch.Generator(patches.device).manual_seed(seed)
        return torch.randn(patches.shape, generator=local, device=patches.device)

"""Radiometric augmentation of training patches: the paper's, and haze, speckle and tone curves of scenes.

kornia's augmentations draw from PyTorch's global generator; a run that resumes needs its own.
"""

from __future__ import annotations

import math

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from rrl_register.errors import UsageError
from rrl_register.training.settings import KNOWN_ONLY, Number


def gaussian_blur(planes: Tensor, sigma: float, window: int) -> Tensor:
    """Blur planes ``(N, K, H, W)`` by a Gaussian of ``sigma`` px in a window of odd side, edges repeated.

    Raises:
        UsageError: If kornia is not installed.
    """
    try:
        from kornia.filters import gaussian_blur2d
    except ImportError as error:
        raise UsageError("training needs kornia, which is not installed: pip install 'rrl-register[train]'") from error
    blurred: Tensor = gaussian_blur2d(planes, (window, window), (sigma, sigma), "replicate")
    return blurred


N_NODES = 6
REGIONS = 0.6
"""Share of simulated spectra whose tone curve differs between two kinds of region."""
MONOTONE = 0.3
"""Share of tone curves that only rise, or only fall."""
SMOOTHED = 0.4
POSTERISED = 0.15
"""Share of spectra of few flat values, as drawn maps have."""
_SMOOTH_SIGMA, _SMOOTH_WINDOW = 1.5, 9
_REGION_SIGMA, _REGION_WINDOW = 2.5, 13
_REGION_SOFTNESS = 0.04


def simulate(colours: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a spectrum for each row and render the patches of the row in it.

    Args:
        colours: ``(N, K, 3, H, W)`` in [0, 1], K patches of one image in each row.
        generator: Source of all randomness, on the CPU.

    Returns:
        ``(N, K, 1, H, W)`` in [0, 1], on the device of ``colours``; the patches of a row share their spectrum.
    """
    draw = _Draw(len(colours), generator, colours.device)
    plane = stretched(_mixed(colours, draw))
    one, other = (tone_curves(plane, _nodes(draw)) for _ in range(2))
    has_regions = draw.some(REGIONS)
    smooth = stretched(gaussian_blur(_mixed(colours, draw), _REGION_SIGMA, _REGION_WINDOW))
    region = torch.sigmoid((smooth - draw.uniform(0.25, 0.75)) / _REGION_SOFTNESS)
    spectrum = torch.where(has_regions, torch.lerp(one, other, region), one)
    smooth = gaussian_blur(spectrum, _SMOOTH_SIGMA, _SMOOTH_WINDOW)
    spectrum = torch.lerp(spectrum, smooth, draw.some(SMOOTHED) * draw.uniform(0, 1))
    levels = draw.uniform(3, 8).floor()
    flat = (smooth * levels).round() / levels
    return stretched(torch.where(draw.some(POSTERISED), flat, spectrum))[:, :, None]


class _Draw:
    """Random numbers, one for each row, shaped to be broadcast over ``(N, K, H, W)``."""

    def __init__(self, n: int, generator: torch.Generator, device: torch.device) -> None:
        self._n, self._generator, self._device = n, generator, device

    def uniform(self, low: float, high: float, *count: int) -> Tensor:
        """Return numbers between two bounds, (N, 1, 1, 1), or (N, *count)."""
        drawn = torch.rand(self._n, *(count or (1, 1, 1)), generator=self._generator)
        return (drawn * (high - low) + low).to(self._device)

    def some(self, share: float) -> Tensor:
        """Return True for a share of the rows, (N, 1, 1, 1)."""
        return self.uniform(0, 1) < share


def _mixed(colours: Tensor, draw: _Draw) -> Tensor:
    return torch.einsum("nc,nkchw->nkhw", draw.uniform(-0.6, 1.0, 3), colours)


def _nodes(draw: _Draw) -> Tensor:
    """Draw the values of a tone curve at equal steps, ``(N, N_NODES)``: any, or, in a share of the rows, in order."""
    nodes = draw.uniform(0, 1, N_NODES)
    ordered = nodes.sort(1).values
    ordered = torch.where(draw.some(0.5)[:, 0, 0], ordered, ordered.flip(1))
    return torch.where(draw.some(MONOTONE)[:, 0, 0], ordered, nodes)


def stretched(planes: Tensor) -> Tensor:
    """Stretch ``(N, K, H, W)`` so that each row spans 0 to 1."""
    low = planes.amin(dim=(1, 2, 3), keepdim=True)
    high = planes.amax(dim=(1, 2, 3), keepdim=True)
    return (planes - low) / (high - low + 1e-4)


def tone_curves(planes: Tensor, nodes: Tensor) -> Tensor:
    """Apply to each row the piecewise linear curve through its nodes.

    Args:
        planes: ``(N, ...)`` in [0, 1].
        nodes: ``(N, M)``, the curve's values at equal steps of [0, 1].
    """
    last = nodes.shape[1] - 1
    position = planes.flatten(1).clamp(0, 1) * last
    low = position.floor().clamp(max=last - 1).long()
    below, above = nodes.gather(1, low), nodes.gather(1, low + 1)
    return torch.lerp(below, above, position - low).reshape(planes.shape)


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
        """Alter visible patches ``(N, 1, 64, 64)`` in [0, 1]; only they have haze.

        Haze is bright air, thicker towards one side: standardising would undo an even layer.
        """
        axis = torch.linspace(-1, 1, patches.shape[-1], device=patches.device)
        angle = self._draw(patches, -math.pi, math.pi)
        ramp = 0.5 + (angle.cos() * axis + angle.sin() * axis[:, None]) / (2 * math.sqrt(2))
        strength = self._draw(patches, 0, self._config.haze_strength) * self._some(patches, self._config.haze)
        hazy = torch.lerp(patches, self._draw(patches, 0.7, 1), strength * ramp)
        return self._common(hazy).clamp(0, 1)

    def other(self, patches: Tensor, family: str) -> Tensor:
        """Alter patches of the other spectrum: speckle for SAR, inversion and tone curves for all else."""
        config = self._config
        if family == "sar":
            return self._noisy(self._common(patches), config.speckle_std, config.speckle).clamp(0, 1)
        patches = torch.where(self._some(patches, config.inversion), 1 - patches, patches)
        nodes = torch.rand(len(patches), _CURVE_NODES, generator=self._generator).to(patches.device)
        curved = tone_curves(patches, nodes)
        return self._common(torch.where(self._some(patches, config.tone_curve), curved, patches)).clamp(0, 1)

    def _common(self, patches: Tensor) -> Tensor:
        config = self._config
        sigma = float(self._draw(patches[:1], *config.blur_sigma))
        patches = torch.where(self._some(patches, config.blur), gaussian_blur(patches, sigma, _BLUR_WINDOW), patches)
        gamma = self._draw(patches, *config.gamma_range)
        patches = torch.where(self._some(patches, config.gamma), patches.clamp(1e-4, 1) ** gamma, patches)
        patches = (patches - 0.5) * (1 + self._draw(patches, -1, 1) * config.contrast) + 0.5
        patches = patches + self._draw(patches, -1, 1) * config.contrast / 4
        return self._noisy(patches, config.noise_std, config.noise)

    def _draw(self, patches: Tensor, low: float, high: float) -> Tensor:
        drawn = torch.rand(len(patches), 1, 1, 1, generator=self._generator)
        return (drawn * (high - low) + low).to(patches.device)

    def _some(self, patches: Tensor, share: float) -> Tensor:
        return self._draw(patches, 0, 1) < share

    def _noisy(self, patches: Tensor, std: float, share: float) -> Tensor:
        """Add noise drawn on the patches' device, which saves a large copy, with a seed of the generator."""
        strength = self._draw(patches, 0, std) * self._some(patches, share)
        seed = int(torch.randint(2**31, (1,), generator=self._generator))
        local = torch.Generator(patches.device).manual_seed(seed)
        return patches + strength * torch.randn(patches.shape, generator=local, device=patches.device)

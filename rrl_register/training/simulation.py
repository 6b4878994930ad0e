"""Simulate second spectra from colour images, for modalities without training data.

Two spectra of one place share outlines, not brightness. A random mix of the colours through random, mostly non-monotone
tone curves that differ from region to region keeps the outlines and breaks the brightness, as thermal images, night
lights, maps and depth do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rrl_register.training.blur import gaussian_blur

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
    spectrum = torch.where(draw.some(REGIONS), torch.lerp(one, other, _regions(colours, draw)), one)
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


def _regions(colours: Tensor, draw: _Draw) -> Tensor:
    """Assign each pixel softly to one of two kinds of region, ``(N, K, H, W)``: a threshold on a smoothed mix."""
    smooth = stretched(gaussian_blur(_mixed(colours, draw), _REGION_SIGMA, _REGION_WINDOW))
    return torch.sigmoid((smooth - draw.uniform(0.25, 0.75)) / _REGION_SOFTNESS)


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

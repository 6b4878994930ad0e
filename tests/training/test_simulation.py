"""Simulated spectra: what they share with the image they are made of, and what not."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.training.augmentation import gaussian_blur, simulate, stretched, tone_curves

torch.set_num_threads(1)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def landscape(n: int, seed: int = 1) -> torch.Tensor:
    """Rows of two patches of smooth colours, (n, 2, 3, 32, 32)."""
    noise = torch.rand(n, 6, 32, 32, generator=generator(seed))
    return stretched(gaussian_blur(noise, 2.0, 11)).reshape(n, 2, 3, 32, 32)


def test_a_spectrum_is_drawn_for_each_row_from_the_seed_alone() -> None:
    colours = landscape(1).expand(6, 2, 3, 32, 32)
    one, again, other = (simulate(colours, generator(seed)) for seed in (3, 3, 4))
    assert one.shape == (6, 2, 1, 32, 32)
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)
    assert not torch.allclose(one[0], one[1], atol=0.05)
    assert 0 <= float(one.min()) <= float(one.max()) <= 1


def test_patches_of_a_row_share_their_spectrum() -> None:
    colours = landscape(16)
    colours[:, 1] = colours[:, 0]
    spectra = simulate(colours, generator(5))
    assert torch.equal(spectra[:, 0], spectra[:, 1])


def test_brightness_is_broken_and_edges_are_kept() -> None:
    """Halves of a scene keep their border in nearly all spectra, and the brighter one is not always the same."""
    colours = torch.full((64, 1, 3, 32, 32), 0.2)
    colours[..., 16:] = torch.tensor([0.9, 0.6, 0.3])[:, None, None]
    spectra = simulate(colours, generator(6))[:, 0, 0]
    contrast = spectra[..., 24:].mean((1, 2)) - spectra[..., :8].mean((1, 2))
    assert (contrast.abs() > 0.2).float().mean() > 0.8
    assert 0.2 < float((contrast > 0).float().mean()) < 0.8


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.integers(0, 10))
def test_tone_curves_are_numpys_interpolation(nodes: list[float], seed: int) -> None:
    image = torch.rand(1, 5, 5, generator=generator(seed))
    expected = np.interp(image.numpy(), np.linspace(0, 1, len(nodes)), nodes)
    assert np.allclose(tone_curves(image, torch.tensor([nodes])), expected, atol=1e-5)


def test_a_blur_keeps_means_and_flattens() -> None:
    planes = torch.rand(2, 3, 40, 40, generator=generator(7))
    smooth = gaussian_blur(planes, 1.5, 9)
    assert torch.allclose(smooth.mean((2, 3)), planes.mean((2, 3)), atol=0.02)
    assert float(smooth.std()) < 0.3 * float(planes.std())
    assert torch.allclose(gaussian_blur(torch.full((1, 1, 20, 20), 0.7), 2.0, 11), torch.tensor(0.7), atol=1e-6)

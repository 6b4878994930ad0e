"""What happens to the radiometry of patches in training."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from rrl_register.training.augmentation import Radiometry, RadiometryConfig

torch.set_num_threads(1)

OFF = replace(RadiometryConfig(), gamma=0, contrast=0, blur=0, noise=0, haze=0, speckle=0, inversion=0, tone_curve=0)


def patches(n: int = 8) -> torch.Tensor:
    return torch.rand(n, 1, 64, 64, generator=torch.Generator().manual_seed(2)) * 0.6 + 0.2


def radiometry(config: RadiometryConfig, seed: int = 1) -> Radiometry:
    return Radiometry(config, torch.Generator().manual_seed(seed))


def test_with_all_shares_at_zero_patches_stay() -> None:
    for family in ("sar", "nir"):
        assert torch.allclose(radiometry(OFF).other(patches(), family), patches(), atol=1e-6)
    assert torch.allclose(radiometry(OFF).visible(patches()), patches(), atol=1e-6)


@pytest.mark.parametrize("name", ["gamma", "contrast", "blur", "noise", "haze"])
def test_each_share_of_the_visible_spectrum_alters_it(name: str) -> None:
    altered = radiometry(replace(OFF, **{name: 1.0})).visible(patches())
    assert (altered - patches()).abs().amax((1, 2, 3)).gt(1e-3).float().mean() > 0.7
    assert 0 <= float(altered.min()) <= float(altered.max()) <= 1


@pytest.mark.parametrize(("name", "family"), [("speckle", "sar"), ("inversion", "lwir"), ("tone_curve", "nir")])
def test_each_share_of_the_other_spectrum_alters_its_family_only(name: str, family: str) -> None:
    config = replace(OFF, **{name: 1.0})
    assert not torch.allclose(radiometry(config).other(patches(), family), patches(), atol=1e-2)
    stranger = "nir" if family == "sar" else "sar"
    assert torch.allclose(radiometry(config).other(patches(), stranger), patches(), atol=1e-6)
    assert torch.allclose(radiometry(config).visible(patches()), patches(), atol=1e-6)


def test_inversion_turns_brightness_around() -> None:
    assert torch.allclose(radiometry(replace(OFF, inversion=1.0)).other(patches(), "lwir"), 1 - patches(), atol=1e-6)


def test_haze_brightens_and_takes_contrast_more_on_one_side() -> None:
    dark = torch.full((32, 1, 64, 64), 0.1)
    hazy = radiometry(replace(OFF, haze=1.0, haze_strength=0.9)).visible(dark)
    assert bool((hazy >= dark - 1e-6).all())
    assert (hazy.amax((1, 2, 3)) - hazy.amin((1, 2, 3))).max() > 0.2


def test_the_seed_decides_everything() -> None:
    config = RadiometryConfig()
    one, again, other = (radiometry(config, seed).other(patches(), "sar") for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_shares_are_shares() -> None:
    shares = {f.name for f in fields(RadiometryConfig)} & {"gamma", "blur", "noise", "haze", "speckle", "inversion"}
    assert all(0 <= getattr(RadiometryConfig(), name) <= 1 for name in shares)

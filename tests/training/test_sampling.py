"""Patches cut for training: which belong together, and how far the near misses are off."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rrl_register.errors import InputError
from rrl_register.training.bank import Bank, PairImages
from rrl_register.training.sampling import GeometryConfig, PatchBatch, PatchSampler, Rotation

torch.set_num_threads(1)

SIDE = 240
STILL = GeometryConfig(relative_rotation=0, relative_log_scale=0, jitter=0)


def pair_of(*planes: Tensor, group: str = "made", family: str = "nir", n_points: int = 20) -> PairImages:
    """A pair of square images from planes in [0, 255]: visible, other and perhaps three colours."""
    full = torch.stack(planes).round().to(torch.uint8)
    x, y = torch.meshgrid(torch.linspace(90, 150, n_points // 4), torch.linspace(90, 150, 4), indexing="xy")
    return PairImages(f"{group}/1", family, group, full[None], torch.stack([x.flatten(), y.flatten()], 1))


def stack_of(*patches: Tensor, group: str = "cut") -> PairImages:
    """Ready-cut patches, the same in both spectra."""
    planes = torch.stack([p.round().to(torch.uint8).expand(2, 64, 64) for p in patches])
    return PairImages(f"{group}/1", "nir", group, planes, None)


def sampler_of(
    pairs: Sequence[PairImages], weights: dict[str, float], geometry: GeometryConfig, seed: int = 1
) -> PatchSampler:
    return PatchSampler(Bank.of(pairs, torch.device("cpu")), weights, geometry, torch.Generator().manual_seed(seed))


def texture(seed: int) -> Tensor:
    coarse = torch.rand(1, 1, 60, 60, generator=torch.Generator().manual_seed(seed))
    return 255 * functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")[0, 0]


def ramp() -> Tensor:
    """The value of a pixel is its column."""
    return torch.arange(float(SIDE)).expand(SIDE, SIDE)


def draw(geometry: GeometryConfig, *pairs: PairImages, seed: int = 1, n: int = 16, group: str = "made") -> PatchBatch:
    return sampler_of(pairs, {group: 1.0}, geometry, seed).draw(n)


def test_patches_of_one_place_in_equal_images_are_equal() -> None:
    batch = draw(STILL, pair_of(texture(1), texture(1)))
    assert batch.visible.shape == batch.other.shape == batch.near.shape == (16, 1, 64, 64)
    assert torch.allclose(batch.visible, batch.other, atol=1e-4)
    assert float(batch.visible.std(dim=(1, 2, 3)).min()) > 0.05
    assert float((batch.near - batch.visible).abs().mean(dim=(1, 2, 3)).min()) > 0.02


@pytest.mark.parametrize("change", [{"jitter": 2.0}, {"relative_rotation": 8.0}, {"relative_log_scale": 0.1}])
def test_the_other_patch_moves_as_it_is_told(change: dict[str, float]) -> None:
    batch = draw(replace(STILL, **change), pair_of(texture(1), texture(1)))
    assert float((batch.other - batch.visible).abs().mean()) > 0.005


def shift_of(patches: Tensor, reference: Tensor) -> Tensor:
    """How far patches of a ramp lie from others along the ramp, image px."""
    return 255 * (patches - reference).mean(dim=(1, 2, 3))


@pytest.mark.parametrize(("name", "change"), [("near", {"near_miss": (7.0, 7.0)}), ("other", {"jitter": 3.0})])
def test_distances_are_those_asked_for_in_patch_px(name: str, change: dict[str, tuple[float, float]]) -> None:
    """Two draws alike, over a ramp along x and one along y, give both coordinates."""
    geometry = replace(STILL, log_scale=(0.1, 0.6), **change)
    along = [draw(geometry, pair_of(plane, plane), n=64) for plane in (ramp(), ramp().T)]
    distance = torch.hypot(*(shift_of(getattr(b, name), b.visible) for b in along)) / along[0].scale
    if name == "near":
        assert torch.allclose(distance, torch.full((64,), 7.0), atol=0.1)
    else:
        assert 2.5 < float(distance.max()) < 3.1
        assert float(distance.min()) < 0.5


def test_scales_are_drawn_from_the_range_of_the_family() -> None:
    for family, (low, high) in {"nir": (-0.2, 0.3), "sar": (0.5, 0.6)}.items():
        geometry = GeometryConfig(log_scale=(-0.2, 0.3), sar_log_scale=(0.5, 0.6))
        scale = draw(geometry, pair_of(texture(1), texture(2), family=family), n=64).scale.log()
        assert low <= float(scale.min()) < low + (high - low) / 4
        assert high - (high - low) / 4 < float(scale.max()) <= high


def test_one_seed_draws_one_batch() -> None:
    pairs = [pair_of(texture(s), texture(s + 10)) for s in range(3)]
    one, again, other = (draw(GeometryConfig(), *pairs, seed=seed) for seed in (1, 1, 2))
    for name in ("visible", "other", "near", "image", "centres", "scale"):
        assert torch.equal(getattr(one, name), getattr(again, name))
    assert not torch.equal(one.centres, other.centres)


def test_a_batch_comes_from_several_images_of_one_group() -> None:
    pairs = [pair_of(texture(s), texture(s), group=group) for s in range(3) for group in ("made", "else")]
    batch = sampler_of(pairs, {"made": 1.0, "else": 1.0}, STILL).draw(12, "else")
    first, second, third = batch.image[::4].tolist()
    assert batch.image.tolist() == [first] * 4 + [second] * 4 + [third] * 4
    assert {first, second, third} == {1, 3, 5}
    assert len(sampler_of(pairs, {}, STILL).draw(13, "else").visible) == 13


def test_groups_without_weight_are_never_drawn() -> None:
    nir, sar = pair_of(texture(1), texture(1)), pair_of(texture(2), texture(2), group="radar", family="sar")
    sampler = sampler_of([nir, sar], {"made": 0.0, "radar": 1.0}, STILL)
    assert {sampler.draw(2).family for _ in range(10)} == {"sar"}


def test_other_spectra_are_simulated_from_colours() -> None:
    colours = [texture(s) for s in (1, 2, 3)]
    pair = pair_of(texture(4), 0 * texture(4), *colours)
    batch = draw(STILL, pair, group="made+simulated")
    assert batch.family == "simulated"
    assert batch.other.shape == (16, 1, 64, 64)
    assert 0 <= float(batch.other.min()) < float(batch.other.max()) <= 1
    assert not torch.equal(batch.other, draw(STILL, pair, group="made+simulated", seed=2).other)


def test_pairs_of_neighbouring_places_in_one_image_are_no_negatives() -> None:
    """Distances count in patch px: at two image px per patch px, 15 image px are close and 17 are not."""
    patches = torch.zeros(4, 1, 64, 64)
    centres = torch.tensor([[100.0, 50], [115, 50], [117, 50], [100, 50]])
    batch = PatchBatch(patches, patches, patches, torch.tensor([0, 0, 0, 1]), centres, torch.full((4,), 2.0), "nir")
    expected = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert torch.equal(batch.too_close(8.0), torch.tensor(expected, dtype=torch.bool))


def test_turned_and_flipped_patches_come_in_all_directions() -> None:
    """Over a ramp the steepest direction of a patch tells how it was turned."""
    batch = draw(STILL, pair_of(ramp(), ramp()), n=64)
    across, down = batch.visible.diff(dim=3).mean((1, 2, 3)), batch.visible.diff(dim=2).mean((1, 2, 3))
    quarter = torch.floor(torch.atan2(down, across) / (math.pi / 2))
    assert set(quarter.tolist()) == {-2, -1, 0, 1}


def test_quarter_turns_keep_rows_and_columns() -> None:
    batch = draw(replace(STILL, rotation=Rotation.QUARTER), pair_of(ramp(), ramp()), n=64)
    across, down = batch.visible.diff(dim=3).mean((1, 2, 3)), batch.visible.diff(dim=2).mean((1, 2, 3))
    assert float(torch.minimum(across.abs(), down.abs()).max()) < 1e-5
    assert {
        (round(float(torch.sign(a.round(decimals=4)))), round(float(torch.sign(d.round(decimals=4)))))
        for a, d in zip(across, down, strict=True)
    } == {(1, 0), (-1, 0), (0, 1), (0, -1)}


def test_without_weights_all_groups_are_drawn_and_simulated_ones_seldom() -> None:
    coloured = pair_of(*[texture(s) for s in range(5)])
    sampler = sampler_of([coloured, pair_of(texture(6), texture(7), group="radar", family="sar")], {}, STILL)
    drawn = Counter(sampler.draw(1).family for _ in range(180))
    assert drawn["nir"] == pytest.approx(80, abs=20)
    assert drawn["sar"] == pytest.approx(80, abs=20)
    assert drawn["simulated"] == pytest.approx(20, abs=12)


def test_a_group_that_cannot_be_drawn_is_named() -> None:
    with pytest.raises(InputError, match="there are: made"):
        sampler_of([pair_of(texture(1), texture(1))], {"else": 1.0}, STILL).draw(4)
    with pytest.raises(InputError, match="too few corners"):
        sampler_of([pair_of(texture(1), texture(1), n_points=8)], {}, STILL).draw(4)


def test_near_misses_and_their_patches_share_a_simulated_spectrum() -> None:
    """A place that is missed by nothing looks the same."""
    pair = pair_of(*[texture(s) for s in range(5)])
    batch = draw(replace(STILL, near_miss=(0.0, 0.0)), pair, group="made+simulated")
    assert torch.allclose(batch.other, batch.near, atol=1e-5)


def test_ready_cut_patches_are_hardly_moved() -> None:
    """As in the paper: quarter turns, scale within 5 %; and any two are different places."""
    cuts = [texture(seed)[:64, :64] for seed in range(40)]
    batch = draw(GeometryConfig(relative_log_scale=0.0, jitter=0.0), stack_of(*cuts), n=24, group="cut")
    assert float((batch.scale.log()).abs().max()) <= 0.05
    assert torch.equal(batch.centres, torch.full((24, 2), 31.5))
    assert torch.allclose(batch.visible, batch.other, atol=1e-4)
    assert len(batch.image.unique()) > 12
    assert torch.equal(batch.too_close(), batch.image[:, None] == batch.image[None])
    turns = [f(torch.rot90(cuts[int(batch.image[0])] / 255, k)) for k in range(4) for f in (torch.clone, torch.fliplr)]
    inner = slice(16, 48)
    away = [float((batch.visible[0, 0, inner, inner] - t[inner, inner]).abs().mean()) for t in turns]
    assert min(away) < 0.03 < sorted(away)[1]

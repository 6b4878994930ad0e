"""The training images: which are kept for validation, where patches may be cut, which are drawn together."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from rrl_register.errors import InputError
from rrl_register.training.bank import (
    EDGE_PX,
    Bank,
    PairImages,
    ReadImages,
    Source,
    colour_bytes,
    fill_invalid,
    is_validation,
    kept_for_validation,
    load_bank,
    make_pair,
)

CPU = torch.device("cpu")


def picture(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return cv2.GaussianBlur(rng.integers(0, 256, shape, dtype=np.uint8), (0, 0), 1.5)


def images(rng: np.random.Generator, bands: int = 1) -> ReadImages:
    """120 x 140 px, of which a corner of the second image holds no data."""
    visible = np.stack([picture(rng, 120, 140) for _ in range(bands)])
    valid = np.ones((120, 140), bool)
    valid[:60, :50] = False
    return ReadImages(visible, np.where(valid, picture(rng, 120, 140), 0)[None].astype(np.float32), valid)


def pair(n_points: int = 20, group: str = "made", family: str = "nir", planes: int = 2) -> PairImages:
    points = torch.full((n_points, 2), 40.0)
    return PairImages(f"{group}/1", family, group, torch.zeros(1, planes, 90, 80, dtype=torch.uint8), points)


def patches(n: int = 3, group: str = "cut") -> PairImages:
    return PairImages(f"{group}/1", "nir", group, torch.zeros(n, 2, 64, 64, dtype=torch.uint8), None)


def test_a_tenth_is_kept_for_validation() -> None:
    assert 0.08 < np.mean([is_validation(f"made/{i}") for i in range(2000)]) < 0.12


def test_a_pair_never_changes_sides() -> None:
    """What trained once would make a later validation too good, so these are pinned."""
    assert [i for i in range(60) if is_validation(f"made/{i}")] == [1, 12, 13, 48, 52, 54, 58]


def test_three_pairs_and_more_are_on_both_sides() -> None:
    many = [f"made/{i}" for i in range(60)]
    assert kept_for_validation(many) == [is_validation(name) for name in many]
    none, everyone = ["made/2", "made/3", "made/4"], ["made/1", "made/12", "made/13"]
    assert sum(kept_for_validation(none)) == 1
    assert sum(kept_for_validation(everyone)) == 2
    assert kept_for_validation(none[::-1]) == kept_for_validation(none)[::-1]


def test_one_or_two_pairs_train() -> None:
    assert kept_for_validation(["made/1", "made/12"]) == [False, False]
    assert kept_for_validation([]) == []


def test_points_keep_away_from_the_edge_and_from_missing_data(rng: np.random.Generator) -> None:
    points = make_pair("made/1", "nir", "made", images(rng)).points
    assert points is not None
    x, y = points.numpy().T
    assert len(x) > 16
    assert min(x.min(), y.min()) >= EDGE_PX
    assert x.max() < 140 - EDGE_PX
    assert y.max() < 120 - EDGE_PX
    assert not ((x < 50 + EDGE_PX) & (y < 60 + EDGE_PX)).any()


def test_colours_are_kept_where_there_are_any(rng: np.random.Generator) -> None:
    shown = images(rng, 3)
    coloured = make_pair("made/1", "nir", "made", shown)
    assert coloured.has_colours
    assert tuple(coloured.planes.shape) == (1, 5, 120, 140)
    assert np.array_equal(coloured.planes[0, 2:].numpy(), shown.visible)
    grey = make_pair("made/1", "nir", "made", shown._replace(visible=shown.visible[[0, 0, 0]]))
    assert not grey.has_colours
    assert tuple(grey.planes.shape) == (1, 2, 120, 140)


def test_sar_amplitudes_are_compressed(rng: np.random.Generator) -> None:
    """A logarithm lifts the darker half of the values."""
    sar, other = (make_pair("made/1", family, "made", images(rng)).planes[0, 1].float() for family in ("sar", "other"))
    assert float(sar.median()) > float(other.median()) + 40


def test_images_that_do_not_fit_or_show_nothing_are_named(rng: np.random.Generator) -> None:
    shown = images(rng)
    with pytest.raises(InputError, match=r"made/1 have 140 x 120 px and 139 x 120 px"):
        make_pair("made/1", "nir", "made", shown._replace(other=shown.other[:, :, 1:]))
    with pytest.raises(InputError, match=r"made/1.*the value 7"):
        make_pair("made/1", "nir", "made", shown._replace(other=np.full_like(shown.other, 7)))


def test_colours_of_more_than_8_bit_are_stretched_alike() -> None:
    values = np.linspace(0, 3000, 4000).reshape(1, 40, 100)
    bands = np.concatenate([values, values / 2, values / 4]).astype(np.float32)
    shown = colour_bytes(bands, np.ones((40, 100), bool))
    assert (shown.min(), shown.max()) == (0, 255)
    assert np.allclose(shown[1].astype(float), shown[0] / 2, atol=8)
    eight = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert np.array_equal(colour_bytes(eight, np.ones((2, 2), bool)), eight)


def test_missing_data_is_filled_with_the_mean_of_the_rest() -> None:
    image = np.array([[0, 1], [3, 9]], np.float32)
    filled = fill_invalid(image, np.array([[True, True], [True, False]]))
    assert np.allclose(filled, [[0, 1], [3, 4 / 3]])
    assert np.array_equal(fill_invalid(image, np.ones((2, 2), bool)), image)


def test_a_bank_numbers_images_and_points_through() -> None:
    bank = Bank.of([pair(20), patches(3), pair(30, "else", planes=5)], CPU)
    assert bank.first.tolist() == [0, 20, 21, 22, 23]
    assert bank.n_points.tolist() == [20, 1, 1, 1, 30]
    assert bank.points[20:23].tolist() == [[31.5, 31.5]] * 3
    assert {name: group.rows.tolist() for name, group in bank.groups.items()} == {
        "made": [0],
        "cut": [1, 2, 3],
        "else": [4],
        "else+simulated": [4],
    }
    assert bank.groups["cut"].patches
    assert not bank.groups["else"].patches


def test_scenes_are_reduced_no_further_than_they_have_ground() -> None:
    bank = Bank.of([pair(), patches(1)], CPU)
    assert bank.max_log_scale.tolist() == pytest.approx([math.log(0.8), math.inf])


def test_images_with_few_points_are_passed_over() -> None:
    assert Bank.of([pair(15)], CPU).groups == {}


def test_groups_of_unlike_images_are_refused() -> None:
    with pytest.raises(InputError, match="made mixes the families nir, sar"):
        Bank.of([pair(), pair(family="sar")], CPU)
    with pytest.raises(InputError, match="mixes scenes and ready-cut patches"):
        Bank.of([pair(), patches(group="made")], CPU)


class Held(Source):
    """A data set that trains on one pair of near infrared and one of SAR."""

    def load(self, validation: bool) -> list[PairImages]:
        return [] if validation else [pair(), pair(group="radar", family="sar")]


def test_a_bank_is_loaded_from_data_sets() -> None:
    assert load_bank([Held(), Held()], validation=False, device=CPU).groups["made"].rows.tolist() == [0, 2]
    assert set(load_bank([Held()], validation=False, device=CPU, families=("sar",)).groups) == {"radar"}
    assert load_bank([Held()], validation=True, device=CPU).groups == {}
    with pytest.raises(InputError, match="none of their 2 pairs"):
        load_bank([Held()], validation=False, device=CPU, families=("lwir",))

"""The training images: which are read, which are kept for validation, where patches may be cut."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from rrl_register.errors import InputError
from rrl_register.training.bank import EDGE_PX, PairImages, fill_invalid, is_validation, load_bank

Row = dict[str, str]
CPU = torch.device("cpu")


def picture(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return cv2.GaussianBlur(rng.integers(0, 256, shape, dtype=np.uint8), (0, 0), 1.5)


@pytest.fixture
def make_folder(tmp_path: Path, rng: np.random.Generator) -> Callable[..., Path]:
    """Writes a data set of grey 120 x 140 px pairs; each row of the list can be changed."""

    def write(n: int = 40, **changes: str) -> Path:
        visible, other = picture(rng, 120, 140), picture(rng, 120, 140)
        other[:60, :50] = 0
        cv2.imwrite(str(tmp_path / "vis.png"), visible)
        cv2.imwrite(str(tmp_path / "other.png"), other)
        cv2.imwrite(str(tmp_path / "colour.png"), picture(rng, 120, 140, 3))
        row = {"set": "made", "family": "nir", "vis": "vis.png", "other": "other.png", "residual_px": "0.5"}
        rows = [{"id": str(i), **row, **changes} for i in range(n)]
        with (tmp_path / "pairs.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path

    return write


def names(bank: list[PairImages]) -> set[str]:
    return {pair.name for pair in bank}


def test_a_tenth_is_kept_for_validation() -> None:
    assert 0.08 < np.mean([is_validation(f"made/{i}") for i in range(2000)]) < 0.12


def test_a_pair_never_changes_sides() -> None:
    """What trained once would make a later validation too good, so these are pinned."""
    assert [i for i in range(60) if is_validation(f"made/{i}")] == [1, 12, 13, 48, 52, 54, 58]


def test_no_pair_is_on_both_sides(make_folder: Callable[..., Path]) -> None:
    folder = make_folder()
    training = names(load_bank(folder, validation=False, device=CPU))
    validation = names(load_bank(folder, validation=True, device=CPU))
    assert training and validation
    assert not training & validation
    assert training | validation == {f"made/{i}" for i in range(40)}


def test_points_keep_away_from_the_edge_and_from_missing_data(make_folder: Callable[..., Path]) -> None:
    pair = load_bank(make_folder(3), validation=False, device=CPU)[0]
    x, y = pair.points.numpy().T
    assert len(x) > 16
    assert min(x.min(), y.min()) >= EDGE_PX
    assert x.max() < 140 - EDGE_PX
    assert y.max() < 120 - EDGE_PX
    assert not ((x < 50 + EDGE_PX - 2) & (y < 60 + EDGE_PX - 2)).any()


def test_planes_lie_at_full_and_at_half_resolution(make_folder: Callable[..., Path]) -> None:
    pair = load_bank(make_folder(3), validation=False, device=CPU)[0]
    assert [tuple(level.shape) for level in pair.levels] == [(2, 120, 140), (2, 60, 70)]
    assert {level.dtype for level in pair.levels} == {torch.uint8}
    assert not pair.has_colours


def test_colours_are_kept_where_there_are_any(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    pair = load_bank(make_folder(3, vis="colour.png"), validation=False, device=CPU)[0]
    assert pair.has_colours
    blue_green_red = cv2.imread(str(tmp_path / "colour.png")).transpose(2, 0, 1)
    assert np.array_equal(pair.levels[0][2:].numpy(), blue_green_red[::-1])


def test_badly_aligned_pairs_and_other_sets_are_left_out(make_folder: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="residual_px"):
        load_bank(make_folder(residual_px="9"), validation=False, device=CPU)
    with pytest.raises(InputError, match="leaves no pair"):
        load_bank(make_folder(), validation=False, device=CPU, groups=["else"])
    assert load_bank(make_folder(3, residual_px=""), validation=False, device=CPU, groups=["made"])


def test_missing_lists_and_images_are_named(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pairs\.csv"):
        load_bank(tmp_path / "none", validation=False, device=CPU)
    with pytest.raises(InputError, match=r"gone\.png"):
        load_bank(make_folder(other="gone.png"), validation=False, device=CPU)


def test_missing_data_is_filled_with_the_mean_of_the_rest() -> None:
    image = np.array([[0, 1], [3, 9]], np.float32)
    filled = fill_invalid(image, np.array([[True, True], [True, False]]))
    assert np.allclose(filled, [[0, 1], [3, 4 / 3]])
    assert np.array_equal(fill_invalid(image, np.ones((2, 2), bool)), image)

"""The maker of hard cases: geometry that agrees with the images, damage, choice of scenes, files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import hard_cases
import numpy as np
import pytest
from case_maker import damage, misregistration
from case_maker.cases import HardCase, Plan, plan_cases, sample, spoil
from case_maker.difficulties import DIFFICULTIES, NEGATIVE
from case_maker.files import write_case, write_cases
from case_maker.misregistration import MIN_OVERLAP, Misregistration, draw_overlapping, draw_relief, overlap, plan_frame
from case_maker.sources import ScenePixels, SourcePair, validation_scenes
from hypothesis import given
from hypothesis import strategies as st
from registrations import choose_pairs

from rrl_register.errors import InputError
from rrl_register.geometry.transforms import decompose, implausibility, project
from rrl_register.raster.reader import open_info
from rrl_register.training.bank import is_validation

SHAPES = [(512, 512), (340, 500), (680, 1020)]
DRAWS = [
    misregistration.shifted,
    misregistration.scaled,
    misregistration.turned,
    misregistration.tilted,
    misregistration.combined,
    misregistration.modest,
]
GEOMETRIC = ("shift", "scale", "rotation", "perspective", "combined", "geo-100", "terrain")


@pytest.fixture(scope="module")
def gradients() -> ScenePixels:
    """Two bands whose values are the pixel's place, (400, 600): an image of it says where each pixel comes from."""
    rows, columns = np.indices((400, 600)).astype(np.float32)
    return ScenePixels(np.stack([columns, rows]) / 4 + 20, np.ones((400, 600), bool))


@pytest.fixture(scope="module")
def texture() -> ScenePixels:
    noise = np.random.default_rng(3).uniform(0, 255, (1, 400, 600)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise[0], (0, 0), 2)
    return ScenePixels(np.clip(127 + 6 * (smooth - 127), 1, 255)[None], np.ones((400, 600), bool))


def places(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """What pixels of an image of ``gradients`` say of where they come from, (N, 2), source px."""
    x, y = points.T.astype(np.float32)
    looked_up = [cv2.remap(band.astype(np.float32), x, y, cv2.INTER_LINEAR).ravel() for band in image]
    return (np.stack(looked_up, axis=1) - 20) * 4


@given(seed=st.integers(0, 10_000), shape=st.sampled_from(SHAPES), draw=st.sampled_from(DRAWS))
def test_what_is_drawn_overlaps_and_is_plausible(seed: int, shape: tuple[int, int], draw: misregistration.Draw) -> None:
    matrix = draw_overlapping(draw, np.random.default_rng(seed), shape).matrix(shape)
    assert overlap(matrix, shape) >= MIN_OVERLAP
    assert implausibility(matrix, shape) is None


@given(seed=st.integers(0, 10_000))
def test_modest_misregistrations_stay_within_what_they_say(seed: int) -> None:
    parts = decompose(misregistration.modest(np.random.default_rng(seed)).matrix((300, 400)), (300, 400))
    assert abs(parts.rotation_deg) <= 10.5
    assert 0.88 < parts.scale < 1.13


@given(seed=st.integers(0, 10_000))
def test_large_misregistrations_reach_as_far_as_they_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert 0.5 <= misregistration.scaled(rng).scale <= 2
    assert 0.25 <= max(map(abs, misregistration.shifted(rng).shift)) <= 0.5
    assert 0.15 <= np.hypot(*misregistration.tilted(rng).tilt) <= 0.3
    assert 40 <= np.hypot(*misregistration.georeferenced_wrongly(rng).shift) * misregistration.MOST_SIDE <= 100


def test_overlap_is_the_shared_part_of_the_smaller_image() -> None:
    shape = (100, 200)
    assert overlap(np.eye(3), shape) == pytest.approx(1)
    assert overlap(Misregistration(shift=(0.5, 0)).matrix(shape), shape) == pytest.approx(0.5, abs=0.01)
    assert overlap(Misregistration(scale=2).matrix(shape), shape) == pytest.approx(1)
    assert overlap(Misregistration(shift=(3, 0)).matrix(shape), shape) == 0


@given(seed=st.integers(0, 10_000), shape=st.sampled_from(SHAPES), draw=st.sampled_from(DRAWS))
def test_the_fixed_image_lies_within_the_pair(seed: int, shape: tuple[int, int], draw: misregistration.Draw) -> None:
    rng = np.random.default_rng(seed)
    frame = plan_frame(shape, draw_overlapping(draw, rng, shape), rng)
    corners = project(frame.to_source, [(-0.5, -0.5), (frame.shape[1] - 0.5, frame.shape[0] - 0.5)])
    assert np.all(corners >= -0.5 - 1e-6)
    assert np.all(corners[1] <= np.array(shape[::-1]) - 0.5 + 1e-6)
    assert max(frame.shape) <= misregistration.MOST_SIDE


def test_a_small_misregistration_keeps_the_pixels_of_the_pair() -> None:
    rng = np.random.default_rng(0)
    to_source = plan_frame((1024, 1024), misregistration.modest(rng), rng).to_source
    assert to_source[0, 0] <= 1 / 0.9
    assert plan_frame((1024, 1024), Misregistration(), rng).to_source[0, 2] % 1 == 0


@given(seed=st.integers(0, 10_000))
def test_a_relief_displaces_by_two_to_five_px_along_one_line(seed: int) -> None:
    relief = draw_relief(np.random.default_rng(seed), (60, 80))
    moved = relief.at(misregistration.pixels((60, 80)))
    assert 2 - 1e-6 <= np.linalg.norm(moved, axis=1).max() <= 5 + 1e-6
    assert np.linalg.matrix_rank(moved, tol=1e-6) == 1


@pytest.mark.parametrize("suite", GEOMETRIC)
@pytest.mark.parametrize("seed", range(3))
def test_landmarks_agree_with_the_images(gradients: ScenePixels, suite: str, seed: int) -> None:
    case = spoil(gradients, gradients, suite, seed)
    assert case.landmarks_fixed is not None
    assert len(case.landmarks_fixed) > 30
    fixed, moving = case.landmarks_fixed, case.landmarks_moving
    inside = np.all((moving > 2) & (moving < np.array(case.moving.shape[:0:-1]) - 3), axis=1)
    inside &= np.all((fixed > 2) & (fixed < np.array(case.fixed.shape[:0:-1]) - 3), axis=1)
    known = places(case.moving, moving).min(axis=1) > 0
    compared = inside & known
    away = places(case.fixed, fixed) - places(case.moving, moving)
    assert compared.sum() > 15
    # Values are whole, each worth 4 px; the median of many is better than that.
    assert np.abs(np.median(away[compared], axis=0)).max() < 1.5
    assert np.abs(away[compared]).max() < 4


def test_without_relief_landmarks_follow_the_matrix(texture: ScenePixels) -> None:
    case = spoil(texture, texture, "combined", 5)
    assert np.allclose(project(case.matrix, case.landmarks_moving), case.landmarks_fixed)
    bent = spoil(texture, texture, "terrain", 5)
    away = np.linalg.norm(project(bent.matrix, bent.landmarks_moving) - bent.landmarks_fixed, axis=1)
    assert 1 < away.max() <= 5


def same(a: HardCase, b: HardCase) -> bool:
    return np.array_equal(a.fixed, b.fixed) and np.array_equal(a.moving, b.moving)


@pytest.mark.parametrize("suite", DIFFICULTIES)
def test_the_same_seed_gives_the_same_case(texture: ScenePixels, suite: str) -> None:
    first = spoil(texture, texture, suite, 1)
    assert same(first, spoil(texture, texture, suite, 1))
    assert not same(first, spoil(texture, texture, suite, 2))
    assert first.fixed.dtype == first.moving.dtype == np.uint8
    assert (first.landmarks_fixed is None) == (suite == NEGATIVE)


def test_of_two_places_the_common_size_is_taken(texture: ScenePixels) -> None:
    smaller = ScenePixels(texture.values[:, :300, :500], texture.valid[:300, :500])
    case = spoil(texture, smaller, NEGATIVE, 0)
    assert case.fixed.shape == case.moving.shape
    assert case.matrix is None


def test_nothing_is_invented_where_there_is_no_data(texture: ScenePixels) -> None:
    valid = texture.valid.copy()
    valid[:, :300] = False
    case = spoil(texture, ScenePixels(texture.values, valid), "inversion", 0)
    assert 0.2 < (case.moving == 0).mean() < 0.8


def test_reduction_averages_rather_than_skips(rng: np.random.Generator) -> None:
    noise = ScenePixels(rng.normal(100, 20, (1, 200, 200)).astype(np.float32), np.ones((200, 200), bool))
    coarse = misregistration.pixels((80, 80)) * 2 + 10
    assert sample(noise, coarse, (80, 80), 2).values.std() < 13
    assert sample(noise, coarse, (80, 80), 1).values.std() > 18


@pytest.fixture
def grey() -> np.ndarray:
    return np.tile(np.linspace(10, 250, 120, dtype=np.float32), (1, 90, 1))


def test_damage_does_what_its_name_says(grey: np.ndarray, rng: np.random.Generator) -> None:
    assert np.allclose(damage.inverted(grey, rng), 255 - grey)
    assert np.median(damage.night(grey, rng)) < 20
    assert damage.hazy(grey, rng).std() < 0.6 * grey.std()
    speckled = damage.speckled(np.full((1, 200, 200), 100, np.float32), rng)
    assert 0.25 < speckled.std() / speckled.mean() < 0.6
    spoilt = damage.dark_and_saturated(grey, rng)
    assert (spoilt > 255).mean() > 0.05
    assert (spoilt < 0.2 * grey).mean() > 0.1


def test_black_frames_reach_the_corners(grey: np.ndarray, rng: np.random.Generator) -> None:
    black = damage.framed(grey, rng)[0] == 0
    assert black[[0, 0, -1, -1], [0, -1, 0, -1]].all()
    assert 0.1 < black.mean() < 0.7


def test_stripes_are_whole_lines_and_some_holes(grey: np.ndarray, rng: np.random.Generator) -> None:
    missing = damage.striped(grey, rng)[0] == 0
    assert 3 <= missing.all(axis=1).sum() <= 72
    assert missing.any(axis=1).sum() > missing.all(axis=1).sum()


def scene(number: int, family: str, side: int = 600, folder: Path = Path()) -> SourcePair:
    return SourcePair(f"{family}/{number}", family, folder / "vis.png", folder / "other.png", side, 1.0)


SCENES = [scene(i, family) for family in ("sar", "nir", "lwir") for i in range(4)] + [scene(0, "ir", side=256)]


def test_families_take_turns_and_more_cases_begin_with_the_same() -> None:
    few, many = plan_cases(SCENES, 3, 0), plan_cases(SCENES, 9, 0)
    assert [p.scene.family for p in few if p.suite == "shift"] == ["sar", "nir", "lwir"]
    assert all(plan in many for plan in few)
    assert len({plan.name for plan in many}) == len(many)
    assert plan_cases(SCENES, 3, 1) != few


def test_scenes_suit_their_suites() -> None:
    plans = plan_cases(SCENES, 12, 0)
    assert not any(p.scene.family == "sar" for p in plans if p.suite == "inversion")
    assert not any(p.scene.side < 300 for p in plans if p.suite == "scale")
    assert any(p.scene.side < 300 for p in plans if p.suite == "rotation")


def test_negatives_are_of_two_places_of_one_family() -> None:
    negatives = [plan for plan in plan_cases(SCENES, 12, 0) if plan.suite == NEGATIVE]
    assert len(negatives) == 12
    assert all(p.scene.name != p.partner.name and p.scene.family == p.partner.family for p in negatives)
    assert all(len(plan.scenes) == 2 for plan in negatives)
    assert all(p.scene == p.partner for p in plan_cases(SCENES, 2, 0) if p.suite != NEGATIVE)


@pytest.fixture
def data(tmp_path: Path, texture: ScenePixels) -> Path:
    """A folder with pairs.csv: two pairs that training keeps for validation, one that it does not."""
    names = [f"{i:03d}" for i in range(200)]
    kept = [name for name in names if is_validation(f"nir_set/{name}")][:2]
    trained = next(name for name in names if not is_validation(f"nir_set/{name}"))
    for name in ("vis.png", "other.png"):
        cv2.imwrite(str(tmp_path / name), texture.values[0].astype(np.uint8))
    lines = [f"nir_set,{name},nir,vis.png,other.png," for name in [trained, *kept]]
    (tmp_path / "pairs.csv").write_text("\n".join(["set,id,family,vis,other,gsd_m", *lines]) + "\n")
    return tmp_path


def test_only_pairs_that_were_not_trained_on_are_used(data: Path) -> None:
    scenes = validation_scenes(data)
    assert len(scenes) == 2
    assert all(is_validation(one.name) for one in scenes)
    assert (scenes[0].side, scenes[0].gsd, scenes[0].family) == (600, 1.0, "nir")


@pytest.mark.parametrize("text", [None, "a,b\n1,2\n", "set,id,family,vis,other,gsd_m\n"])
def test_a_list_that_is_none_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(InputError, match="needed"):
        validation_scenes(tmp_path)


def test_files_are_as_the_benchmark_reads_them(data: Path, tmp_path: Path) -> None:
    plans = plan_cases(validation_scenes(data), 1, 0, ("rotation", "geo-100", "black-border", NEGATIVE))
    listed = json.loads(write_cases(tmp_path / "hard", plans).read_text())
    assert [entry["suite"] for entry in listed] == ["rotation", "geo-100", "black-border", NEGATIVE]
    for entry in listed:
        fixed, moving = (open_info(tmp_path / "hard" / entry[key]).grid for key in ("fixed", "moving"))
        assert fixed == moving
        assert fixed.georeferenced == (entry["suite"] == "geo-100")
        assert (entry["landmarks_fixed"] is None) == (entry["suite"] == NEGATIVE)
    rotation = listed[0]
    mapped = project(rotation["matrix"], rotation["landmarks_moving"])
    assert np.allclose(mapped, rotation["landmarks_fixed"], atol=0.01)


def test_colours_keep_their_order(tmp_path: Path) -> None:
    red = np.zeros((3, 64, 64), np.uint8)
    red[0] = 200
    plan = Plan("one", "rotation", SCENES[0], SCENES[0], 0)
    write_case(tmp_path, plan, HardCase(red, red, None, None, None))
    assert cv2.imread(str(tmp_path / "one_fixed.png"))[0, 0].tolist() == [0, 0, 200]


def test_the_script_writes_cases(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(
        sys, "argv", ["hard_cases.py", str(data), str(data / "hard"), "--per-kind", "1", "--kinds", "haze"]
    )
    hard_cases.main()
    assert capsys.readouterr().out.strip() == str(data / "hard" / "pairs.json")
    pairs = choose_pairs(data / "hard" / "pairs.json", None, 1)
    assert [pair["id"] for pair in pairs] == ["haze-000"]
    monkeypatch.setattr(sys, "argv", ["hard_cases.py", str(data), str(data / "hard"), "--kinds", "rain"])
    with pytest.raises(SystemExit, match="rain"):
        hard_cases.main()

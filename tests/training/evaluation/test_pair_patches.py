"""Patches of image pairs: lists as described, matching patches match, near misses are as near as stated."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rrl_register.errors import InputError, OutputExistsError, UsageError
from rrl_register.geometry.transforms import project, similarity
from rrl_register.training.evaluation.pair_patches import (
    CutConfig,
    FamilyPatches,
    PairPaths,
    check_patch_files,
    cut_family,
    draw_elsewhere,
    read_image_pairs,
    save_family,
)
from rrl_register.training.evaluation.patch_set import load_patch_set

SQUARE = [[0, 0], [9, 0], [9, 9], [0, 9]]


def entry(name: str, family: str = "nir", **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "family": family,
        "fixed": f"in/{name}_fixed.tif",
        "moving": f"in/{name}_moving.tif",
        "landmarks_fixed": SQUARE,
        "landmarks_moving": SQUARE,
        **changes,
    }


def stored(folder: Path, entries: object) -> Path:
    path = folder / "pairs.json"
    path.write_text(json.dumps(entries))
    return path


def test_pairs_are_grouped_and_their_paths_are_the_lists(tmp_path: Path) -> None:
    path = stored(tmp_path, [entry("a"), entry("b", "sar"), entry("c")])
    read = read_image_pairs(path)
    assert {family: [pair.name for pair in pairs] for family, pairs in read.items()} == {
        "nir": ["a", "c"],
        "sar": ["b"],
    }
    assert read["sar"][0].fixed == tmp_path / "in/b_fixed.tif"
    assert read["sar"][0].moving == tmp_path / "in/b_moving.tif"
    assert np.array_equal(read["nir"][0].fixed_points, SQUARE)


def test_pairs_without_landmarks_are_passed_over(tmp_path: Path) -> None:
    none = {"landmarks_fixed": None, "landmarks_moving": None}
    missing = {key: value for key, value in entry("d").items() if not key.startswith("landmarks")}
    path = stored(tmp_path, [entry("a"), entry("b", **none), entry("c", landmarks_fixed=[]), missing])
    assert [pair.name for pair in read_image_pairs(path)["nir"]] == ["a"]


def test_families_can_be_chosen(tmp_path: Path) -> None:
    path = stored(tmp_path, [entry("a"), entry("b", "sar"), entry("c", "lwir")])
    assert list(read_image_pairs(path, ["lwir", "nir"])) == ["lwir", "nir"]
    with pytest.raises(UsageError, match=r"no family swir .* nir, sar, lwir"):
        read_image_pairs(path, ["nir", "swir"])


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"a": 1}, "no list of image pairs"),
        ([1, 2], "no list of image pairs"),
        ([{key: value for key, value in entry("a").items() if key != "family"}], "'family'"),
        ([entry("a", landmarks_moving=SQUARE[:3])], r"\(4, 2\) and \(3, 2\)"),
        ([entry("a", landmarks_moving=None)], "landmarks"),
        ([entry("a", landmarks_fixed=None)], "has landmarks"),
        ([], "has landmarks"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, entries: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_image_pairs(stored(tmp_path, entries))


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_text("{")
    for name in ("pairs.json", "missing.json"):
        with pytest.raises(InputError, match=name):
            read_image_pairs(tmp_path / name)


SIZE = (260, 240)
FIXED_TO_MOVING = similarity(1.1, 8.0, (12.0, -5.0), (130.0, 120.0))
CORNERS = np.array([[30.0, 20.0], [220.0, 25.0], [215.0, 200.0], [25.0, 210.0], [120.0, 110.0]])
CONFIG = CutConfig(per_family=40)


def texture(seed: int) -> np.ndarray:
    """Blobs of about 6 px, 8 bit."""
    noise = np.random.default_rng(seed).random((40, 44), np.float32)
    return np.rint(cv2.resize(noise, SIZE, interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255).astype(np.uint8)


@pytest.fixture
def make_pair(make_raster: Callable[..., Path]) -> Callable[..., PairPaths]:
    """Writes a texture, and the same one turned, scaled and shifted by a known transform."""

    def make(name: str, seed: int, family: str = "nir") -> PairPaths:
        fixed = texture(seed)
        moving = cv2.warpPerspective(fixed, FIXED_TO_MOVING, SIZE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        paths = make_raster(fixed, f"{name}_fixed.tif"), make_raster(moving, f"{name}_moving.tif")
        return PairPaths(name, family, *paths, CORNERS, project(FIXED_TO_MOVING, CORNERS))

    return make


@pytest.fixture
def cut(make_pair: Callable[..., PairPaths]) -> FamilyPatches:
    return cut_family("nir", [make_pair("a", 1), make_pair("b", 2)], CONFIG)


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each two patches, grey levels."""
    return np.abs(one.astype(float) - other).mean(axis=(1, 2))


def test_matching_patches_show_the_same_place(cut: FamilyPatches) -> None:
    assert (cut.support, len(cut)) == (64, 20)
    assert cut.visible.shape == cut.other.shape == cut.near.shape == (20, 64, 64)
    assert cut.visible.dtype == np.uint8
    assert cut.scenes.tolist() == ["a"] * 10 + ["b"] * 10
    assert difference(cut.visible, cut.other).max() < 8
    assert difference(cut.visible, cut.near).min() > 16
    assert difference(cut.visible, cut.other[cut.elsewhere]).min() > 16


@pytest.mark.parametrize("distance", [4.0, 8.0, 12.0])
def test_near_misses_are_as_far_off_as_asked(make_pair: Callable[..., PairPaths], distance: float) -> None:
    cut = cut_family("nir", [make_pair("a", 1)], replace(CONFIG, near_miss=distance))
    for right, near in zip(cut.other, cut.near, strict=True):
        # The middle of the right patch, looked for in the near miss.
        found = cv2.matchTemplate(near, right[16:48, 16:48], cv2.TM_CCOEFF_NORMED)
        offset = np.array(cv2.minMaxLoc(found)[3]) - 16
        assert cv2.minMaxLoc(found)[1] > 0.98
        assert np.hypot(*offset) == pytest.approx(distance, abs=0.75)


def test_near_misses_are_as_sharp_as_the_right_place(make_pair: Callable[..., PairPaths]) -> None:
    """A wrong patch that was interpolated differently would be told by that."""
    cut = cut_family("nir", [make_pair("a", 1)], replace(CONFIG, per_family=200))
    sharpness = [np.mean([cv2.Laplacian(p, cv2.CV_64F).std() for p in part]) for part in (cut.other, cut.near)]
    assert sharpness[1] == pytest.approx(sharpness[0], rel=0.05)


def test_patches_do_not_depend_on_other_families_or_the_run(make_pair: Callable[..., PairPaths]) -> None:
    pairs = [make_pair("a", 1), make_pair("b", 2)]
    one, again = cut_family("nir", pairs, CONFIG), cut_family("nir", pairs, CONFIG)
    for part in ("visible", "other", "near", "elsewhere"):
        assert np.array_equal(getattr(one, part), getattr(again, part))


@pytest.mark.parametrize(("family", "support"), [("sar", 128), ("nir", 64), ("lwir", 64)])
def test_the_ground_under_a_patch_follows_the_family(
    make_pair: Callable[..., PairPaths], family: str, support: int
) -> None:
    pairs = [make_pair("a", 1, family), make_pair("b", 2, family)]
    assert cut_family(family, pairs, CONFIG).support == support
    assert cut_family(family, pairs, replace(CONFIG, support=96)).support == 96


def test_sar_goes_through_the_logarithm(make_pair: Callable[..., PairPaths]) -> None:
    pairs = [make_pair("a", 1, "sar"), make_pair("b", 2, "sar")]
    linear, compressed = (
        cut_family(f, [replace(p, family=f) for p in pairs], replace(CONFIG, support=64)) for f in ("ir", "sar")
    )
    assert np.array_equal(linear.visible, compressed.visible)
    expected = 255 * np.log1p(20 * (linear.other / 255)) / np.log1p(20)
    # Not exactly: one is interpolated before the logarithm, the other after it.
    assert np.abs(compressed.other - expected).mean() < 2
    assert np.abs(compressed.other.astype(float) - linear.other).mean() > 20


def test_labelled_patches_are_halves_of_right_and_wrong(cut: FamilyPatches) -> None:
    images, labels = cut.labelled()
    near, _ = cut.labelled(near=True)
    assert (images.shape, images.dtype) == ((40, 2, 64, 64), np.uint8)
    assert labels.tolist() == [1] * 20 + [0] * 20
    assert np.array_equal(images[:20], near[:20])
    assert np.array_equal(images[20:, 0], cut.visible)
    assert np.array_equal(images[20:, 1], cut.other[cut.elsewhere])
    assert np.array_equal(near[20:, 1], cut.near)


def test_saved_patches_are_a_set_again(cut: FamilyPatches, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    check_patch_files(folder, ["nir"])
    paths = save_family(folder, cut)
    assert sorted(paths) == sorted(folder.iterdir())
    for name, near in (("nir", False), ("nir_near", True)):
        read = load_patch_set(*(folder / f"{name}_{part}.npy" for part in ("images", "labels", "scenes")))
        images, labels = cut.labelled(near)
        assert np.array_equal(read.images, images)
        assert np.array_equal(read.labels, labels)
        assert read.scenes is not None
        assert read.scenes.tolist() == [*cut.scenes, *cut.scenes]


def test_saved_patches_are_not_replaced_unless_told(cut: FamilyPatches, tmp_path: Path) -> None:
    (tmp_path / "nir_near_labels.npy").write_text("precious")
    with pytest.raises(OutputExistsError, match="nir_near_labels"):
        check_patch_files(tmp_path, ["nir"])
    check_patch_files(tmp_path, ["nir"], overwrite=True)
    save_family(tmp_path, cut, overwrite=True)
    assert len(np.load(tmp_path / "nir_near_labels.npy")) == 40
    with pytest.raises(UsageError, match="cannot create the folder"):
        check_patch_files(tmp_path / "nir_labels.npy" / "in", ["nir"])


def test_images_too_small_for_a_patch_are_told(make_pair: Callable[..., PairPaths]) -> None:
    with pytest.raises(InputError, match="smaller --support"):
        cut_family("nir", [make_pair("a", 1)], replace(CONFIG, near_miss=100.0))


def test_landmarks_on_a_line_are_told(make_pair: Callable[..., PairPaths]) -> None:
    line = np.array([[10.0 * i, 5.0 * i] for i in range(1, 8)])
    pair = replace(make_pair("a", 1), fixed_points=line, moving_points=line)
    with pytest.raises(InputError, match="landmarks of the pair a"):
        cut_family("nir", [pair], CONFIG)


places = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400), st.integers(0, 400)), min_size=2, max_size=40)


@given(places, st.integers(0, 5))
def test_elsewhere_is_where_nothing_is_shared(found: list[tuple[int, int, int]], seed: int) -> None:
    scene, *xy = np.array(found).T
    points = np.column_stack(xy).astype(float)
    shares = (scene[:, None] == scene) & (np.abs(points[:, None] - points).max(axis=2) < 64)
    assume(not shares.all(axis=1).any())
    # A place that shares ground with nearly all others may not be served in time; those are told, too.
    assume((~shares).mean(axis=1).min() > 0.2)
    index = draw_elsewhere("x", scene, points, 64, np.random.default_rng(seed))
    assert index.shape == (len(scene),)
    assert not shares[np.arange(len(scene)), index].any()


def test_nowhere_else_to_go_is_told() -> None:
    with pytest.raises(InputError, match="share no ground"):
        draw_elsewhere("x", np.zeros(3, int), np.array([[0.0, 0], [10, 0], [20, 0]]), 64, np.random.default_rng(0))


@pytest.mark.shared_data
def test_real_pairs_give_patches(shared_data: Path) -> None:
    listed = shared_data / "dev" / "pairs.json"
    family = next(
        family for family in ("nir", "lwir") if any(e["family"] == family for e in json.loads(listed.read_text()))
    )
    pairs = read_image_pairs(listed, [family])[family][:1]
    cut = cut_family(family, pairs, replace(CONFIG, per_family=20))
    assert len(cut) == 10
    assert cut.visible.std() > 10

    def likeness(other: np.ndarray) -> float:
        return float(
            np.median([abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in zip(cut.visible, other, strict=True)])
        )

    assert likeness(cut.other) > likeness(cut.other[cut.elsewhere])

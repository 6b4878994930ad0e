"""Scenes that are too large to be matched whole: found on a reduced image, settled in windows at full resolution."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from image_pairs import image_pair
from rrl_register.config import Kind, MatchConfig, ReadConfig, RegisterConfig, ResourceConfig
from rrl_register.errors import UsageError
from rrl_register.geometry.transforms import compose, project, similarity, translation
from rrl_register.matching import full_resolution as windows
from rrl_register.matching.read_pair import PairFiles
from rrl_register.nn.patches import Spectrum
from rrl_register.pipeline.register import register

UTM31 = CRS.from_epsg(32631)
SIDE = 720
TRUE = compose(translation(361, 354), similarity(1.01, 0.8), translation(-355, -360))
CONFIG = RegisterConfig(
    read=ReadConfig(max_side=256, fixed_kind=Kind.OPTICAL, moving_kind=Kind.IR), match=MatchConfig(n_keypoints=120)
)


@dataclass
class Correlation:
    """Plays the network's part: takes the other spectrum for a negative, and scores by correlation."""

    device: str = "cpu"
    name: str = "correlation"
    pairs: list[int] = field(default_factory=list)

    def describe(self, patches: np.ndarray, spectrum: Spectrum) -> np.ndarray:
        centre = patches[:, 0, 16:48, 16:48].reshape(-1, 8, 4, 8, 4).mean((2, 4)).reshape(-1, 64)
        return _unit(centre if spectrum is Spectrum.VISIBLE else -centre)

    def score(self, visible: np.ndarray, other: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        self.pairs.append(len(left))
        a, b = _unit(visible.reshape(len(visible), 64 * 64)), _unit(-other.reshape(len(other), 64 * 64))
        return np.clip((a[left] * b[right]).sum(1), 0, 1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    centred = vectors - vectors.mean(1, keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6), np.float32)


@pytest.fixture(scope="module")
def world() -> np.ndarray:
    """Texture of all scales, bytes from 20 to 250, (820, 820)."""
    rng = np.random.default_rng(5)
    total = np.zeros((SIDE + 100,) * 2, np.float32)
    for sigma in (1.5, 4, 10):
        noise = cv2.GaussianBlur(rng.standard_normal(total.shape).astype(np.float32), (0, 0), sigma)
        total += noise / noise.std()
    return np.asarray(np.clip(130 + 30 * total, 20, 250), np.uint8)


@pytest.fixture
def pair(make_raster: Callable[..., Path], world: np.ndarray) -> tuple[Path, Path]:
    """Moving (x, y) shows, as a negative, what fixed ``TRUE`` (x, y) shows; georeferences say it is the same."""
    place = {"crs": UTM31, "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    inside = translation(50, 50)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moving = cv2.warpPerspective(world, compose(inside, TRUE), (SIDE, SIDE), flags=flags)
    fixed = world[50:-50, 50:-50]
    return make_raster(fixed, "fixed.tif", **place), make_raster(np.uint8(255) - moving, "moving.tif", **place)


def error_px(matrix: np.ndarray | None) -> float:
    assert matrix is not None
    places = np.array([(60, 60), (660, 80), (650, 640), (70, 650), (360, 360)], float)
    return float(np.linalg.norm(project(matrix, places) - project(TRUE, places), axis=1).max())


def test_the_result_is_as_exact_as_the_files_allow(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of a pixel of an image that was reduced by 2.8 would be half a pixel."""
    found = register(*pair, CONFIG, scorer=Correlation())
    assert found.status == "ok"
    assert error_px(found.matrix) < 0.1
    assert "windows" in found.seconds
    residual = np.linalg.norm(project(found.matrix, found.tie_points.moving) - found.tie_points.fixed, axis=1)
    assert found.rmse_px == pytest.approx(np.sqrt((residual[found.inlier] ** 2).mean()), abs=0.01)
    assert found.tie_points.fixed.max() > 500
    assert found.covariance is not None


def test_what_was_not_reduced_is_not_looked_at_again(pair: tuple[Path, Path]) -> None:
    found = register(*pair, replace(CONFIG, read=replace(CONFIG.read, max_side=SIDE)), scorer=Correlation())
    assert found.status == "ok"
    assert "windows" not in found.seconds


def test_less_memory_means_smaller_images(pair: tuple[Path, Path]) -> None:
    """The whole is reduced further; windows make up for it."""
    tight = ResourceConfig(max_memory=128 << 20)
    config = replace(CONFIG, read=replace(CONFIG.read, max_side=2048), resources=tight)
    found = register(*pair, config, scorer=Correlation())
    assert error_px(found.matrix) < 0.2


@pytest.mark.parametrize("megabytes", [1, 60])
def test_too_little_memory_is_refused_with_what_is_needed(pair: tuple[Path, Path], megabytes: int) -> None:
    config = replace(CONFIG, resources=ResourceConfig(max_memory=megabytes << 20))
    with pytest.raises(UsageError, match=rf"--max-memory {megabytes}MiB is too little for 1 bands; needed 128MiB"):
        register(*pair, config, scorer=Correlation())


def test_windows_that_prove_nothing_leave_the_estimate_of_the_whole(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = register(*pair, replace(CONFIG, read=replace(CONFIG.read)), scorer=Correlation())
    monkeypatch.setattr(PairFiles, "window", lambda *_: None)
    found = register(*pair, CONFIG, scorer=Correlation())
    assert found.status == "ok"
    assert 0.05 < error_px(found.matrix) < 2
    assert error_px(whole.matrix) < error_px(found.matrix)


def test_resolutions_end_with_the_files_own() -> None:
    assert windows.resolutions(1.0) == windows.resolutions(1.2) == ()
    assert windows.resolutions(3.5) == (3.5,)
    assert windows.resolutions(4.0) == (4.0,)
    assert windows.resolutions(9.0) == pytest.approx((3.0, 9.0))
    assert len(windows.resolutions(40.0)) == 3


def estimate_of(check: float, spread: float | None) -> SimpleNamespace:
    uncertainty = None if spread is None else SimpleNamespace(max=spread)
    return SimpleNamespace(evidence=SimpleNamespace(check_rmse_px=check), uncertainty=uncertainty)


@pytest.mark.parametrize(
    ("check", "spread", "radius"),
    [(0.1, 0.1, 8), (1.2, 0.5, 12), (9, 9, 20), (float("nan"), None, 18), (float("nan"), 1.0, 9)],
)
def test_the_search_reaches_as_far_as_the_estimate_may_be_off(check: float, spread: float | None, radius: int) -> None:
    assert windows.search_radius(estimate_of(check, spread), 3.0) == radius


def scene_of(fixed_valid: np.ndarray) -> SimpleNamespace:
    rng = np.random.default_rng(8)
    image = cv2.GaussianBlur(rng.random(fixed_valid.shape, np.float32), (0, 0), 2)
    pair = image_pair(image, image, fixed_valid=fixed_valid, factors=(8.0, 8.0))
    return SimpleNamespace(pair=pair, matrix=np.eye(3), step=1.0)


def test_windows_are_spread_over_what_both_images_show() -> None:
    valid = np.ones((300, 400), bool)
    valid[:, 300:] = False
    chosen = windows.choose_windows(scene_of(valid), 8.0)
    assert 16 <= len(chosen) <= windows.N_WINDOWS
    assert all(window.width == window.height == windows.WINDOW for window in chosen)
    assert all(window.left >= 0 and window.left + window.width <= 3200 for window in chosen)
    lefts, tops = {w.left // 600 for w in chosen}, {w.top // 600 for w in chosen}
    assert lefts == {0, 1, 2, 3} and tops == {0, 1, 2, 3}
    assert all(window.left < 2400 for window in chosen)
    assert [window.top for window in chosen] == sorted(window.top for window in chosen)


def test_a_small_scene_has_few_windows_and_a_blank_one_none() -> None:
    assert 1 <= len(windows.choose_windows(scene_of(np.ones((100, 90), bool)), 6.0)) <= 4
    assert windows.choose_windows(scene_of(np.zeros((100, 90), bool)), 6.0) == []


@pytest.mark.shared_data
def test_a_real_scene_is_settled_in_windows(shared_data: Path) -> None:
    """Reduced by 2.7, as a scene of 5500 px would be."""
    pairs = {p["id"]: p for p in json.loads((shared_data / "dev" / "pairs.json").read_text())}
    pair = pairs["sar-145"]
    files = (shared_data / "dev" / pair[image] for image in ("fixed", "moving"))
    found = register(*files, RegisterConfig(read=ReadConfig(max_side=384)))
    assert found.transform is not None
    away = found.transform.forward(np.array(pair["landmarks_moving"])) - np.array(pair["landmarks_fixed"])
    assert np.linalg.norm(away, axis=1).mean() < 2
    assert found.seconds["windows"] > 0

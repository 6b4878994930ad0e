"""Registrations of real images under known transforms: what comes out, however the search goes about it.

Images are windows of the sample pairs; the moving one is resampled so that a chosen transform is the true one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine

from rrl_register import ImageArray, register
from rrl_register.config import (
    Device,
    Effort,
    EstimateConfig,
    Kind,
    MatchConfig,
    ModelChoice,
    ReadConfig,
    RegisterConfig,
)
from rrl_register.errors import InputError
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.transforms import project
from rrl_register.nn.inference.load import LoadedScorer, load_scorer
from rrl_register.raster.grid import Grid

CORNER, SIDE = np.array([170, 170]), 256
"""Window of the synthetic optical and SAR pair that the fixed image is, px."""
MIDDLE = (SIDE - 1) / 2
TOLERANCE_PX = 1.5
"""Mean error up to which a registration is right here; most are right to 0.5 px."""
ON_THE_GROUND = Grid(SIDE, SIDE, rasterio.crs.CRS.from_epsg(32633), Affine(2, 0, 500_000, 0, -2, 5_300_000))


def turned(degrees: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    """A similarity about the middle of both images, (3, 3), moving px -> fixed px."""
    angle = np.radians(degrees)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    x, y = MIDDLE - c * MIDDLE + s * MIDDLE + shift[0], MIDDLE - s * MIDDLE - c * MIDDLE + shift[1]
    return np.array([[c, -s, x], [s, c, y], [0, 0, 1]])


TILTED = turned(2) @ np.array([[1, 0, 0], [0, 1, 0], [2e-4, -1e-4, 1]])


@dataclass(frozen=True)
class Pair:
    """Two images and the true transform between them, (3, 3), moving px -> fixed px."""

    fixed: np.ndarray
    moving: np.ndarray
    truth: np.ndarray

    def error(self, found: Registration) -> float:
        """Mean distance of the transform found from the true one, over the moving image, fixed px."""
        assert found.transform is not None
        axis = np.linspace(40, SIDE - 41, 6)
        points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        true = project(self.truth, points)
        seen = np.all((true >= 0) & (true < SIDE), axis=1)
        return float(np.linalg.norm(found.transform.forward(points) - true, axis=1)[seen].mean())


@pytest.fixture(scope="module")
def scorer() -> LoadedScorer:
    return load_scorer(None, Device.CPU, threads=1)


@pytest.fixture(scope="module")
def whole(samples: Path, truth_of: Callable[[str], np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The optical image, (3, 600, 600), logarithms of SAR amplitudes, (600, 600), and the transform between them."""
    images = []
    for part in ("fixed", "moving"):
        with rasterio.open(samples / f"synthetic_optical_sar_{part}.tif") as dataset:
            images.append(dataset.read())
    amplitude = np.log(images[1][0].astype(np.float32))
    sar = cv2.normalize(amplitude, None, 1, 255, cv2.NORM_MINMAX)
    return images[0], sar, truth_of("synthetic_optical_sar")


@pytest.fixture(scope="module")
def make_pair(whole: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Callable[..., Pair]:
    """Builds a pair: the optical window, and the SAR image, or a negative, resampled for a true transform."""
    optical, sar, known = whole

    def make(truth: np.ndarray, corner: np.ndarray = CORNER, negative: bool = False) -> Pair:
        x, y = CORNER
        fixed = optical[:, y : y + SIDE, x : x + SIDE]
        to_whole = np.array([[1, 0, corner[0]], [0, 1, corner[1]], [0, 0, 1.0]]) @ truth
        source, to_source = (sar, np.linalg.inv(known) @ to_whole)
        if negative:
            source, to_source = 256 - optical.astype(np.float32).mean(axis=0).clip(1), to_whole
        moving = cv2.warpPerspective(source, to_source, (SIDE, SIDE), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        return Pair(fixed, moving.round().clip(1, 255).astype(np.uint8), truth)

    return make


@pytest.fixture(scope="module")
def find(scorer: LoadedScorer) -> Callable[..., Registration]:
    """Registers two images with settings of matching and of the estimate."""

    def run(fixed: object, moving: object, model: ModelChoice = ModelChoice.AUTO, **match: object) -> Registration:
        settings = RegisterConfig(match=MatchConfig(**match), estimate=EstimateConfig(model=model))
        return register(fixed, moving, settings, scorer=scorer)  # type: ignore[arg-type]

    return run


Make = Callable[..., Pair]
Find = Callable[..., Registration]


def assert_right(found: Registration, pair: Pair) -> None:
    """The transform is the true one, and the figures of the result agree with it."""
    assert (found.status, found.reason) == ("ok", "")
    assert pair.error(found) < TOLERANCE_PX
    assert found.n_inliers == found.inlier.sum() >= 12
    assert found.n_tie_points == len(found.tie_points.fixed) >= found.n_inliers
    assert found.n_candidates > 0
    assert found.rmse_px is not None and 0 < found.rmse_px < 3
    assert found.confidence is not None and found.confidence > 0.5
    residual = found.transform.forward(found.tie_points.moving) - found.tie_points.fixed
    assert np.linalg.norm(residual[found.inlier], axis=1).max() < 3.01


def assert_refused(found: Registration) -> None:
    """Nothing is returned that could be taken for a transform, and the reason says so in a line."""
    assert found.status == "failed"
    assert found.matrix is None
    assert found.transform is None
    assert found.reason
    assert "\n" not in found.reason


@pytest.mark.parametrize(
    "truth",
    [
        turned(),
        turned(shift=(17.3, -9.6)),
        turned(shift=(-40, 30)),
        turned(5, 1.03, (6, 4)),
        turned(30),
        turned(scale=0.7),
        turned(scale=1.4),
        TILTED,
    ],
    ids=["same", "shift", "far", "slight", "30 degrees", "0.7", "1.4", "tilted"],
)
def test_a_negative_is_found_wherever_it_lies(make_pair: Make, find: Find, truth: np.ndarray) -> None:
    pair = make_pair(truth, negative=True)
    assert_right(find(pair.fixed, pair.moving), pair)


@pytest.mark.parametrize("truth", [turned(), turned(shift=(12.4, 8.8)), turned(-4, 0.97, (5, -7)), TILTED], ids=str)
def test_a_radar_image_is_found_near_its_georeference(make_pair: Make, find: Find, truth: np.ndarray) -> None:
    pair = make_pair(truth)
    images = (ImageArray(image, ON_THE_GROUND) for image in (pair.fixed, pair.moving))
    assert_right(find(*images), pair)


@pytest.mark.parametrize(("degrees", "rotation"), [(90, "90"), (180, "175"), (-95, "-90")])
def test_a_rotation_that_is_given_need_not_be_exact(make_pair: Make, find: Find, degrees: float, rotation: str) -> None:
    pair = make_pair(turned(degrees, shift=(5, 5)), negative=True)
    assert_right(find(pair.fixed, pair.moving, rotation=rotation), pair)


@pytest.mark.parametrize("effort", list(Effort))
def test_every_effort_finds_the_same_place(make_pair: Make, find: Find, effort: Effort) -> None:
    pair = make_pair(turned(3, 1.02, (9, -5)), negative=True)
    assert_right(find(pair.fixed, pair.moving, effort=effort), pair)


def test_more_effort_scores_more_pairs(make_pair: Make, find: Find) -> None:
    pair = make_pair(turned(3, shift=(9, -5)))
    images = [ImageArray(image, ON_THE_GROUND) for image in (pair.fixed, pair.moving)]
    fast, thorough = (find(*images, effort=effort) for effort in (Effort.FAST, Effort.THOROUGH))
    assert fast.n_candidates <= thorough.n_candidates


@pytest.mark.parametrize(
    ("model", "truth"),
    [
        (ModelChoice.TRANSLATION, turned(shift=(8, -6))),
        (ModelChoice.SIMILARITY, turned(4, 1.04, (3, 2))),
        (ModelChoice.AFFINE, turned(4, 1.04) @ np.array([[1, 0.03, 0], [0, 1, 0], [0, 0, 1.0]])),
        (ModelChoice.HOMOGRAPHY, TILTED),
        (ModelChoice.THIN_PLATE, turned(2)),
        (ModelChoice.POLYNOMIAL2, turned(2)),
    ],
)
def test_a_model_that_is_asked_for_is_fitted(
    make_pair: Make, find: Find, model: ModelChoice, truth: np.ndarray
) -> None:
    pair = make_pair(truth, negative=True)
    found = find(pair.fixed, pair.moving, model)
    assert found.model == model.value
    assert_right(found, pair)


def test_the_simplest_model_that_predicts_is_chosen(make_pair: Make, find: Find) -> None:
    shifted, tilted = make_pair(turned(shift=(10, 4)), negative=True), make_pair(TILTED, negative=True)
    assert find(shifted.fixed, shifted.moving).model in ("translation", "similarity")
    assert find(tilted.fixed, tilted.moving).model not in ("translation", "similarity", "affine")


def test_a_model_too_simple_shows_in_the_errors(make_pair: Make, find: Find) -> None:
    pair, near = make_pair(turned(3), negative=True), {"rotation": "none", "scale": "none", "effort": Effort.FAST}
    right, wrong = (find(pair.fixed, pair.moving, m, **near) for m in (ModelChoice.SIMILARITY, ModelChoice.TRANSLATION))
    assert right.check_rmse_px is not None
    assert wrong.status == "failed" or (wrong.check_rmse_px or 0) > 1.5 * right.check_rmse_px


def test_a_shift_beyond_the_limit_is_not_searched(make_pair: Make, find: Find) -> None:
    pair = make_pair(turned(shift=(60, 0)))
    images = [ImageArray(image, ON_THE_GROUND) for image in (pair.fixed, pair.moving)]
    near = find(*images, max_shift="5px", effort=Effort.FAST)
    assert near.status == "failed" or pair.error(near) > 5
    assert_right(find(*images, max_shift="80px"), pair)


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_a_masked_half_does_without(make_pair: Make, find: Find, side: str) -> None:
    pair = make_pair(turned(shift=(6, -4)), negative=True)
    valid = np.ones((SIDE, SIDE), bool)
    valid[:, : SIDE // 2] = False
    images = {"fixed": pair.fixed, "moving": pair.moving}
    images[side] = ImageArray(np.where(valid, images[side], 0), valid=valid)  # type: ignore[assignment]
    found = find(images["fixed"], images["moving"])
    assert_right(found, pair)
    places = getattr(found.tie_points, side)[found.inlier]
    assert places[:, 0].min() > SIDE // 2 - 2


def test_images_that_share_a_part_are_laid_on_it(make_pair: Make, find: Find) -> None:
    pair = make_pair(turned(shift=(110, 60)), negative=True)
    assert_right(find(pair.fixed, pair.moving), pair)


def test_noise_costs_points_and_not_the_place(make_pair: Make, find: Find, rng: np.random.Generator) -> None:
    pair = make_pair(turned(shift=(9, 5)), negative=True)
    noisy = (pair.moving + rng.normal(0, 15, pair.moving.shape)).clip(1, 255).astype(np.uint8)
    found = find(pair.fixed, noisy)
    assert_right(found, replace(pair, moving=noisy))


def test_another_place_is_refused(make_pair: Make, find: Find) -> None:
    pair = make_pair(turned(), corner=np.array([330, 10]))
    assert_refused(find(pair.fixed, pair.moving, effort=Effort.FAST, rotation="none", scale="none"))


@pytest.mark.parametrize("which", ["noise", "ramp"])
def test_an_image_without_texture_is_refused(make_pair: Make, find: Find, rng: np.random.Generator, which: str) -> None:
    ramp = np.tile(np.linspace(1, 255, SIDE), (SIDE, 1))
    blank = {"noise": rng.integers(1, 256, (SIDE, SIDE)), "ramp": ramp}[which]
    moving = blank.astype(np.uint8)
    assert_refused(find(make_pair(turned()).fixed, moving, effort=Effort.FAST, rotation="none", scale="none"))


def test_an_image_of_one_value_is_no_input(make_pair: Make, find: Find) -> None:
    with pytest.raises(InputError, match="the moving array has the same value in all"):
        find(make_pair(turned()).fixed, np.full((SIDE, SIDE), 90, np.uint8))


def test_a_repeated_pattern_is_not_mistaken_for_a_place(find: Find) -> None:
    tile = np.random.default_rng(3).integers(1, 256, (32, 32), dtype=np.uint8)
    wallpaper = np.tile(cv2.GaussianBlur(tile, (0, 0), 2), (SIDE // 32, SIDE // 32))
    found = find(wallpaper, np.roll(255 - wallpaper, 13, axis=1), rotation="none", scale="none", effort=Effort.FAST)
    if found.status == "ok":  # any whole number of tiles is as true as any other
        shift = found.transform.forward(np.array([[MIDDLE, MIDDLE]]))[0] - MIDDLE
        assert np.abs((shift - (-13, 0) + 16) % 32 - 16).max() < TOLERANCE_PX


def test_points_by_hand_take_the_place_of_the_coarse_search(make_pair: Make, find: Find, tmp_path: Path) -> None:
    pair = make_pair(turned(35, 1.2), negative=True)
    moving = np.array([(60.0, 60.0), (200.0, 70.0), (120.0, 190.0), (180.0, 180.0)])
    rows = [f"{f[0]},{f[1]},{m[0]},{m[1]}" for f, m in zip(project(pair.truth, moving) + 1.5, moving, strict=True)]
    points = tmp_path / "points.csv"
    points.write_text("\n".join(["fixed_x,fixed_y,moving_x,moving_y", *rows]) + "\n")
    assert_right(find(pair.fixed, pair.moving, init_points=points), pair)


def test_fewer_keypoints_are_used_if_asked_for(make_pair: Make, find: Find) -> None:
    pair = make_pair(turned(shift=(5, 5)), negative=True)
    near = {"rotation": "none", "scale": "none"}
    few, many = (find(pair.fixed, pair.moving, n_keypoints=n, **near) for n in (60, 400))
    assert few.n_tie_points < many.n_tie_points
    assert_right(many, pair)


def test_the_same_call_returns_the_same_result(make_pair: Make, find: Find) -> None:
    pair = make_pair(turned(4, 1.02, (5, 6)), negative=True)
    one, two = (find(pair.fixed, pair.moving) for _ in range(2))
    np.testing.assert_array_equal(one.matrix, two.matrix)
    np.testing.assert_array_equal(one.tie_points.fixed, two.tie_points.fixed)
    assert one.evidence == two.evidence


def test_the_kind_that_is_given_is_the_kind_that_is_used(make_pair: Make, scorer: LoadedScorer) -> None:
    pair = make_pair(turned(shift=(4, 4)))
    settings = RegisterConfig(read=ReadConfig(moving_kind=Kind.SAR), match=MatchConfig(rotation="none", scale="none"))
    found = register(pair.fixed, np.exp(pair.moving / 50.0).astype(np.float32), settings, scorer=scorer)
    assert (found.moving_kind, found.support_px) == ("sar", 128)
    assert_right(found, pair)

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rrl_register.geometry.transforms import centre_of, corners_of, invert, project, similarity
from rrl_register.matching.coarse import Hypothesis, coarse_hypotheses
from rrl_register.matching.coarse_scan import SearchGrid
from rrl_register.matching.initial_transforms import UPRIGHT, rotation_grid, scale_grid, search_grids, wide_grid

SHAPE = (240, 320)
CENTRE = centre_of(SHAPE)


def scene(seed: int = 0) -> np.ndarray:
    """Overlapping polygons of random grey: edges of all lengths and directions."""
    rng = np.random.default_rng(seed)
    image = np.full(SHAPE, 0.5, np.float32)
    for _ in range(120):
        place = rng.uniform(0, SHAPE[::-1], 2) + rng.normal(0, 25, (4, 2))
        cv2.fillConvexPoly(image, cv2.convexHull(place.astype(np.int32)), float(rng.uniform(0, 1)))
    return cv2.GaussianBlur(image, (0, 0), 1.0)


def other_spectrum(image: np.ndarray, seed: int = 1) -> np.ndarray:
    """A radiometry with inverted contrast here and there, blur and noise."""
    noise = np.random.default_rng(seed).normal(0, 0.05, image.shape)
    return (cv2.GaussianBlur(np.abs(1.4 * image - 0.5), (0, 0), 1.0) + noise).astype(np.float32)


FIXED = scene()
ALL = np.ones(SHAPE, bool)
FEW = SearchGrid(rotation_grid(6), UPRIGHT.scales)


def taken(truth: np.ndarray, shape: tuple[int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """The moving image (and its mask) that ``truth`` maps onto the fixed one."""
    to_moving, size = invert(truth), shape[::-1]
    image = cv2.warpPerspective(other_spectrum(FIXED), to_moving, size, flags=cv2.INTER_LINEAR)
    valid = cv2.warpPerspective(np.ones(SHAPE, np.float32), to_moving, size) > 0.99
    return np.where(valid, image, 0).astype(np.float32), valid


def corner_error(found: Hypothesis, truth: np.ndarray, shape: tuple[int, int] = SHAPE) -> float:
    corners = corners_of(shape)
    return float(np.linalg.norm(project(found.matrix, corners) - project(truth, corners), axis=1).mean())


@pytest.mark.parametrize(
    ("rotation", "scale", "shift"), [(0, 1, (0, 0)), (14, 1.12, (40, -25)), (-17, 0.86, (-60, 30)), (4, 1.2, (85, 0))]
)
def test_rotation_scale_and_shift_are_found(rotation: float, scale: float, shift: tuple[float, float]) -> None:
    truth = similarity(scale, rotation, shift, CENTRE)
    best = coarse_hypotheses(FIXED, ALL, *taken(truth), grid=UPRIGHT)[0]
    assert corner_error(best, truth) < 3
    assert best.rotation_deg == pytest.approx(rotation, abs=1)
    assert best.scale == pytest.approx(scale, rel=0.02)
    assert best.score > 6


def test_perspective_is_followed_in_part() -> None:
    truth = similarity(1.05, 5, (15, 10), CENTRE) @ np.array([[1, 0.02, 0], [0, 1, 0], [1e-4, -1e-4, 1]])
    assert corner_error(coarse_hypotheses(FIXED, ALL, *taken(truth), grid=UPRIGHT)[0], truth) < 0.03 * SHAPE[1]


def test_the_small_search_of_a_georeferenced_pair_suffices_for_a_small_error() -> None:
    truth = similarity(1.02, -3, (30, 20), CENTRE)
    (grid,) = search_grids("auto", "auto", georeferenced=True)
    found = coarse_hypotheses(FIXED, ALL, *taken(truth), grid=grid, max_shift=100)
    assert corner_error(found[0], truth) < 3


@pytest.mark.parametrize(
    ("rotation", "scale", "shift"), [(95, 1.9, (10, -10)), (-150, 0.55, (70, 40)), (180, 1.0, (100, -60))]
)
def test_any_rotation_and_half_to_double_scale_are_found(
    rotation: float, scale: float, shift: tuple[float, float]
) -> None:
    truth = similarity(scale, rotation, shift, CENTRE)
    found = coarse_hypotheses(FIXED, ALL, *taken(truth), grid=wide_grid(), max_shift=SHAPE[1] / 2)
    assert corner_error(found[0], truth) < 5 * scale


@pytest.mark.parametrize(("rotation", "scale"), [("90", "auto"), ("100", "1.8"), ("auto", "1.7"), ("auto", "auto")])
def test_what_is_known_of_rotation_and_scale_is_searched_around(rotation: str, scale: str) -> None:
    truth = similarity(1.8, 95, (20, 10), CENTRE)
    moving, valid = taken(truth)
    grid = search_grids(rotation, scale, georeferenced=False)[-1]
    assert corner_error(coarse_hypotheses(FIXED, ALL, moving, valid, grid=grid, max_shift=60)[0], truth) < 9


@pytest.mark.parametrize("georeferenced", [True, False])
def test_none_allows_no_more_than_the_error_of_a_georeference(georeferenced: bool) -> None:
    (grid,) = search_grids("none", "none", georeferenced)
    assert max(map(abs, grid.rotations)) <= 5
    assert 0.9 < min(grid.scales) <= max(grid.scales) < 1.1


def test_a_scale_far_from_one_is_not_searched_upright_first() -> None:
    (grid,) = search_grids("auto", "1.8", georeferenced=False)
    assert len(grid.rotations) == 72
    assert 1.5 < min(grid.scales) <= max(grid.scales) < 2.2


def test_a_grid_counts_from_another_scale() -> None:
    grid = SearchGrid((0.0,), (0.5, 2.0)).times(4)
    assert grid == SearchGrid((0.0,), (2.0, 8.0))


def test_images_may_differ_in_shape() -> None:
    shape = (200, 260)
    truth = similarity(1.04, 6, (30, 20), centre_of(shape))
    moving, valid = taken(truth, shape)
    assert corner_error(coarse_hypotheses(FIXED, ALL, moving, valid, grid=UPRIGHT)[0], truth, shape) < 3


def test_black_borders_do_not_draw_the_search() -> None:
    """Both images carry the same wedge of nodata, which only a shift of nothing would lay on itself."""
    truth = similarity(1, 5, (25, -15), CENTRE)
    moving, valid = taken(truth)
    wedge = np.add.outer(np.arange(SHAPE[0]), np.arange(SHAPE[1])) < 130
    fixed_valid, valid = ~wedge, valid & ~wedge
    found = coarse_hypotheses(np.where(wedge, 0, FIXED), fixed_valid, np.where(valid, moving, 0), valid, grid=FEW)
    assert corner_error(found[0], truth) < 3


def test_hypotheses_are_ranked_and_distinct() -> None:
    found = coarse_hypotheses(FIXED, ALL, *taken(similarity(1, 5, (10, 5), CENTRE)), grid=FEW, n=3)
    assert 1 < len(found) <= 3
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    assert corner_error(found[0], found[1].matrix) > 0.05 * SHAPE[1]
    assert found[0].correlation > 2 * found[1].correlation


def test_another_scene_scores_far_lower() -> None:
    right = coarse_hypotheses(FIXED, ALL, *taken(np.eye(3)), grid=FEW)[0]
    wrong = coarse_hypotheses(FIXED, ALL, other_spectrum(scene(seed=7)), ALL, grid=FEW)[0]
    assert wrong.score < 0.6 * right.score
    assert wrong.correlation < 0.6 * right.correlation


def test_the_shift_stays_within_its_bound() -> None:
    moving, valid = taken(similarity(1, 0, (80, 0), CENTRE))
    for hypothesis in coarse_hypotheses(FIXED, ALL, moving, valid, grid=FEW, max_shift=30):
        assert np.linalg.norm(project(hypothesis.matrix, [CENTRE])[0] - CENTRE) < 30 + 0.06 * SHAPE[1]


def test_repeated_searches_agree_exactly() -> None:
    moving, valid = taken(similarity(1, 5, (10, 5), CENTRE))
    first, second = (coarse_hypotheses(FIXED, ALL, moving, valid, grid=FEW) for _ in range(2))
    assert all(np.array_equal(a.matrix, b.matrix) and a.score == b.score for a, b in zip(first, second, strict=True))


def test_nothing_valid_means_no_hypothesis() -> None:
    assert coarse_hypotheses(FIXED, ALL, FIXED, ~ALL, grid=UPRIGHT) == []
    assert coarse_hypotheses(FIXED, ~ALL, FIXED, ALL, grid=UPRIGHT) == []


def test_flat_images_raise_nothing() -> None:
    flat = np.full(SHAPE, 0.5, np.float32)
    assert all(np.isfinite(h.score) for h in coarse_hypotheses(flat, ALL, flat, ALL, grid=SearchGrid((0.0,), (1.0,))))


@given(st.floats(0, 179), st.floats(0.5, 10))
@example(85.31085479327169, 6.042129374822796)
def test_rotations_reach_both_limits_and_hold_zero(limit: float, step: float) -> None:
    grid = np.array(rotation_grid(limit, step))
    assert grid[0] == -limit and grid[-1] == limit
    assert 0 in grid
    assert np.diff(grid).max(initial=0) <= step + 1e-9


def test_the_whole_turn_has_no_direction_twice() -> None:
    grid = np.array(rotation_grid(180, 5))
    assert len(grid) == 72
    assert np.diff(grid) == pytest.approx(5)


@given(st.floats(0.3, 1), st.floats(1, 3), st.floats(1.01, 1.3))
def test_scales_reach_both_limits(low: float, high: float, step: float) -> None:
    grid = np.array(scale_grid(low, high, step))
    assert grid[0] == pytest.approx(low) and grid[-1] == pytest.approx(high)
    assert (grid[1:] / grid[:-1]).max(initial=1) <= step * (1 + 1e-6)


@pytest.mark.parametrize("georeferenced", [True, False])
def test_default_grids_hold_the_identity(georeferenced: bool) -> None:
    grid = search_grids("auto", "auto", georeferenced)[0]
    assert any(scale == pytest.approx(1, rel=0.01) for scale in grid.scales)
    assert 0 in grid.rotations


@pytest.mark.shared_data
@pytest.mark.parametrize("family", ["nir_ground", "lwir_road", "sar_s1s2"])
def test_real_pairs_are_found_turned_scaled_and_shifted(shared_data: Path, family: str) -> None:
    with (shared_data / "train" / "pairs.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["set"] == family)
    fixed, aligned = (
        cv2.imread(str(shared_data / "train" / row[name]), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255
        for name in ("vis", "other")
    )
    shape = fixed.shape
    truth = similarity(1.05, -7, (0.06 * shape[1], -0.04 * shape[0]), centre_of(shape))
    moving = cv2.warpPerspective(aligned, invert(truth), shape[::-1])
    valid = cv2.warpPerspective(np.ones(shape, np.float32), invert(truth), shape[::-1]) > 0.99
    best = coarse_hypotheses(fixed, np.ones(shape, bool), moving, valid, grid=UPRIGHT)[0]
    assert corner_error(best, truth, shape) < 0.03 * max(shape)

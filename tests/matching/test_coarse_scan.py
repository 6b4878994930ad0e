"""The exhaustive scan: each rotation, scale and shift has its place in the correlation maps."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.transforms import centre_of, corners_of, invert, project, similarity
from rrl_register.matching.coarse_scan import Peak, SearchGrid, scan

SHAPE = (150, 200)
ALL = np.ones(SHAPE, bool)


def scene() -> np.ndarray:
    rng = np.random.default_rng(3)
    image = np.full(SHAPE, 0.5, np.float32)
    for _ in range(80):
        place = rng.uniform(0, SHAPE[::-1], 2) + rng.normal(0, 18, (4, 2))
        cv2.fillConvexPoly(image, cv2.convexHull(place.astype(np.int32)), float(rng.uniform(0, 1)))
    return cv2.GaussianBlur(image, (0, 0), 1.0)


FIXED = scene()


def taken(truth: Matrix) -> tuple[np.ndarray, np.ndarray]:
    to_moving, size = invert(truth), SHAPE[::-1]
    image = cv2.warpPerspective(1 - FIXED, to_moving, size)
    valid = cv2.warpPerspective(np.ones(SHAPE, np.float32), to_moving, size) > 0.99
    return np.where(valid, image, 0).astype(np.float32), valid


def corner_error(peak: Peak, truth: Matrix) -> float:
    corners = corners_of(SHAPE)
    return float(np.linalg.norm(project(peak.matrix, corners) - project(truth, corners), axis=1).mean())


@settings(max_examples=15, deadline=None)
@given(
    rotation=st.sampled_from([-170, -90, -30, 0, 10, 60, 120, 180]),
    scale=st.sampled_from([0.6, 1.0, 1.7]),
    dx=st.integers(-50, 50),
    dy=st.integers(-35, 35),
)
def test_the_highest_peak_is_the_transform(rotation: int, scale: float, dx: int, dy: int) -> None:
    truth = similarity(scale, rotation, (dx, dy), centre_of(SHAPE))
    best = scan(
        FIXED, ALL, *taken(truth), SearchGrid((rotation - 12.0, rotation, rotation + 12.0), (0.6, 1.0, 1.7), 96), 100
    )[0]
    assert best.scale == scale
    assert corner_error(best, truth) < 5 * max(scale, 1)


def test_peaks_fall_and_each_map_gives_some() -> None:
    found = scan(FIXED, ALL, *taken(np.eye(3)), SearchGrid((0.0, 30.0), (0.8, 1.0), 96), 40)
    heights = [peak.height for peak in found]
    assert heights == sorted(heights, reverse=True)
    assert {peak.scale for peak in found} == {0.8, 1.0}
    assert len(found) == 2 * 2 * 2


@pytest.mark.parametrize("reach", [15, 40])
def test_no_centre_comes_to_lie_beyond_the_reach(reach: float) -> None:
    found = scan(FIXED, ALL, *taken(similarity(1, 0, (70, 0))), SearchGrid((0.0, 90.0), (0.7, 1.0, 1.4), 96), reach)
    centre = np.array(centre_of(SHAPE))
    away = [np.linalg.norm(project(peak.matrix, [centre])[0] - centre) for peak in found]
    assert max(away) < reach + 4


def test_images_of_different_sizes_are_searched_at_their_own_scale() -> None:
    """A moving image of half the size, whose pixels are twice as large on the ground."""
    size = (SHAPE[1] // 2, SHAPE[0] // 2)
    small = cv2.resize(1 - FIXED, size, interpolation=cv2.INTER_AREA)
    valid = np.ones(small.shape, bool)
    best = scan(FIXED, ALL, small, valid, SearchGrid((0.0,), (1.0, 2.0), 96), 60)[0]
    assert best.scale == 2.0
    np.testing.assert_allclose(project(best.matrix, corners_of(small.shape)), 2 * corners_of(small.shape) + 0.5, atol=3)


def test_threads_do_not_change_the_result() -> None:
    moving = taken(similarity(1, 20, (10, 5), centre_of(SHAPE)))
    first, second = (scan(FIXED, ALL, *moving, SearchGrid((0.0, 20.0), (0.9, 1.0, 1.1), 96), 40) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.height == other.height
        np.testing.assert_array_equal(one.matrix, other.matrix)

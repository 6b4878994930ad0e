from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from case_maker.damage import turned_frame
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.config import Kind
from rrl_register.matching.features.keypoints import corner_response, detect, spread_grid
from rrl_register.matching.features.oriented_gradients import eroded
from rrl_register.raster.reader import read_bands
from rrl_register.raster.stretch import to_grey


def texture(shape: tuple[int, int] = (200, 260), seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    image = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


IMAGE = texture()
ALL = np.ones(IMAGE.shape, bool)


def holed() -> np.ndarray:
    valid = ALL.copy()
    valid[60:120, 100:180] = False
    return valid


def at(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    return mask[points[:, 1].astype(int), points[:, 0].astype(int)]


@pytest.mark.parametrize("find", [detect, spread_grid])
def test_points_keep_their_distance_from_borders(find) -> None:
    valid = holed()
    points = find(np.where(valid, IMAGE, 0), valid, margin=10)
    assert len(points) > 20
    assert points.dtype == np.float64
    assert at(eroded(np.pad(valid, 1), 10)[1:-1, 1:-1], points).all()


@pytest.mark.parametrize("find", [detect, spread_grid])
def test_no_point_is_found_where_nothing_is_valid_or_nothing_shows(find) -> None:
    assert find(IMAGE, np.zeros(IMAGE.shape, bool)).shape == (0, 2)
    assert find(np.full(IMAGE.shape, 0.5, np.float32), ALL).shape == (0, 2)


@given(st.integers(1, 300))
def test_no_more_points_than_asked_for_and_none_twice(n: int) -> None:
    points = detect(IMAGE, ALL, n)
    assert len(points) == min(n, len(detect(IMAGE, ALL, 10_000)))
    assert len(np.unique(points, axis=0)) == len(points)


def test_points_spread_over_the_scene_though_one_corner_is_richest() -> None:
    image = 0.5 + 0.02 * (texture(seed=1) - 0.5)
    image[:60, :60] = IMAGE[:60, :60]
    points = detect(image.astype(np.float32), ALL, 80)
    quadrants = np.bincount((points[:, 0] > 130).astype(int) + 2 * (points[:, 1] > 100), minlength=4)
    assert quadrants.min() >= 12


def test_the_corners_of_a_square_are_found_and_its_sides_are_not() -> None:
    image = np.zeros((120, 120), np.float32)
    image[40:80, 30:90] = 1
    points = detect(image, np.ones(image.shape, bool), 4)
    corners = np.array([[30, 40], [89, 40], [30, 79], [89, 79]])
    distance = np.linalg.norm(points[:, None] - corners, axis=-1)
    assert distance.min(axis=0).max() < 4
    assert distance.min(axis=1).max() < 4


def test_inverted_contrast_has_the_same_corners() -> None:
    np.testing.assert_allclose(corner_response(IMAGE, ALL), corner_response(1 - IMAGE, ALL), atol=1e-3)


def test_a_shifted_image_has_shifted_points() -> None:
    points, shifted = detect(IMAGE[:180, :240], ALL[:180, :240], 150), detect(IMAGE[7:187, 5:245], ALL[:180, :240], 150)
    distance = np.linalg.norm(points[:, None] - [5, 7] - shifted, axis=-1).min(axis=1)
    assert (distance < 1.5).mean() > 0.7


def test_the_grid_has_one_point_in_every_cell() -> None:
    points = spread_grid(IMAGE, ALL, step=20, margin=0)
    cells = np.unique(points.astype(int) // 20, axis=0)
    assert len(points) == len(cells) == 10 * 13


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_frame_of_a_turned_raster_gives_no_keypoints(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    inside = turned_frame((256, 256), 15)
    smooth = cv2.GaussianBlur(rng.uniform(0, 255, (256, 256)).astype(np.float32), (0, 0), 2)
    framed = np.where(inside, np.clip(127 + 8 * (smooth - 127), 30, 255), 0).astype(np.uint8)
    coded = cv2.imencode(".jpg", framed)[1]
    cv2.imwrite(str(tmp_path / f"framed{suffix}"), cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE))
    points = found_in(tmp_path / f"framed{suffix}")
    assert len(points) > 50
    assert cv2.erode(inside.astype(np.uint8), np.ones((9, 9), np.uint8))[points[:, 1], points[:, 0]].all()


def test_lost_lines_give_no_keypoints(tmp_path: Path) -> None:
    image = np.tile(np.linspace(60, 200, 128).astype(np.uint8), (128, 1))
    image[40:42] = image[80:90] = image[10:20, 50:70] = 0
    cv2.imwrite(str(tmp_path / "lossy.png"), image)
    assert not len(found_in(tmp_path / "lossy.png"))


@pytest.mark.parametrize("gain", [0.08, 6.0])
def test_night_and_a_saturated_half_leave_keypoints(tmp_path: Path, rng: np.random.Generator, gain: float) -> None:
    smooth = cv2.GaussianBlur(rng.uniform(0, 255, (128, 256)).astype(np.float32), (0, 0), 2)
    scene = np.clip(100 + 8 * (smooth - 127), 10, 240)
    scene[:, 128:] *= gain
    scene[20:24, 200:204] = 255
    cv2.imwrite(str(tmp_path / "scene.png"), np.clip(scene, 1, 255).astype(np.uint8))
    points = found_in(tmp_path / "scene.png")
    assert (points[:, 0] < 120).sum() > 20
    assert gain > 1 or (points[:, 0] > 136).sum() > 20


def found_in(path: Path) -> np.ndarray:
    """Keypoints of a file, (n, 2) whole px, as a registration looks for them."""
    read = read_bands(path)
    return detect(to_grey(read.values, read.valid, Kind.IR), read.valid).astype(int)

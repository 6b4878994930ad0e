"""The picture of a registration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from rrl_register.exchange.registration import Registration
from rrl_register.geometry.displacement import Displacement
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.raster.grid import Grid
from rrl_register.report.pictures import CAPTION_HEIGHT, CHECKS, GREEN, RED, checkerboard, preview, preview_of_files

Build = Callable[..., Registration]


@pytest.fixture
def with_points(make_registration: Build) -> Build:
    def build(n_inliers: int, n_rejected: int) -> Registration:
        n = n_inliers + n_rejected
        points = np.random.default_rng(0).uniform(0, 200, (n, 2))
        return make_registration(tie_points=TiePoints(points, points, np.ones(n)), inlier=np.arange(n) < n_inliers)

    return build


def grey(height: int, width: int, value: float = 0.5) -> np.ndarray:
    return np.full((height, width), value, np.float32)


def coloured(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a line of this colour was drawn; its edges are blended with the ground."""
    strong = int(np.argmax(colour))
    others = np.delete(picture, strong, axis=-1).max(axis=-1).astype(int)
    return picture[..., strong].astype(int) - others > 40


@pytest.mark.parametrize("shape", [(200, 200), (2000, 2000), (100, 3000), (3000, 100), (3, 5)])
def test_size_is_bounded_for_every_shape(make_registration: Build, shape: tuple[int, int]) -> None:
    picture = preview(grey(*shape), grey(*shape), grey(*shape), make_registration())
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[1] <= 1600


def test_images_of_two_shapes_fit_beside_each_other(make_registration: Build) -> None:
    picture = preview(grey(300, 200), grey(300, 200), grey(150, 400), make_registration())
    assert picture.shape == (CAPTION_HEIGHT + 300, 200 + 8 + 200 + 8 + 400, 3)


@pytest.mark.parametrize(("n_inliers", "n_rejected"), [(5, 0), (0, 5), (5, 5), (0, 0), (4000, 3000)])
def test_inliers_are_green_and_rejected_points_red(with_points: Build, n_inliers: int, n_rejected: int) -> None:
    picture = preview(grey(200, 200), grey(200, 200), grey(200, 200), with_points(n_inliers, n_rejected))
    matches = picture[CAPTION_HEIGHT:, 208:]
    assert coloured(matches, GREEN).any() == (n_inliers > 0)
    assert coloured(matches, RED).any() == (n_rejected > 0)


def test_lines_join_the_right_places_at_any_resolution(make_registration: Build) -> None:
    """One inlier at the centre of two images of 400 px, shown at half and at quarter resolution."""
    grid, centre = Grid(400, 400), np.array([[199.5, 199.5]])
    one_inlier = make_registration(
        fixed_grid=grid, moving_grid=grid, tie_points=TiePoints(centre, centre, np.ones(1)), inlier=np.array([True])
    )
    picture = preview(grey(200, 200), grey(200, 200), grey(100, 100), one_inlier)
    rows, columns = np.nonzero(coloured(picture, GREEN))
    start, end = columns.argmin(), columns.argmax()
    assert abs(columns[start] - (208 + 100)) <= 1
    assert abs(rows[start] - (CAPTION_HEIGHT + 100)) <= 1
    assert abs(columns[end] - (416 + 50)) <= 1
    assert abs(rows[end] - (CAPTION_HEIGHT + 50)) <= 1


def test_a_displacement_is_seen_at_the_preview_s_resolution(
    make_raster: Callable[..., Path], make_registration: Build
) -> None:
    """A displacement by 80 px, of images of 1320 px that are shown at 0.4 of that: the same as a shift by 80 px."""
    image = cv2.resize(np.random.default_rng(0).integers(1, 255, (33, 33), np.uint8), (1320, 1320))
    fixed, moving = make_raster(image, "fixed.tif"), make_raster(image, "moving.tif")
    grid, nothing = Grid(1320, 1320), np.empty((0, 2))
    hull = np.array([(0.0, 0.0), (1319.0, 0.0), (1319.0, 1319.0), (0.0, 1319.0)])
    steady = Displacement(0, np.array([(80.0, 0.0)]), nothing, nothing, np.zeros(2), 100.0, hull)
    shift = np.array([[1.0, 0, 80], [0, 1, 0], [0, 0, 1]])
    displaced = make_registration(displacement=steady, fixed_grid=grid, moving_grid=grid)
    shifted = make_registration(matrix=shift, fixed_grid=grid, moving_grid=grid)
    assert np.array_equal(preview_of_files(fixed, moving, displaced), preview_of_files(fixed, moving, shifted))


def test_a_failed_registration_shows_the_fixed_image_alone(make_registration: Build) -> None:
    failed = make_registration(status="failed", reason="nothing matched", matrix=None)
    picture = preview(grey(200, 200, 0.5), None, grey(200, 200, 1), failed)
    assert np.all(picture[CAPTION_HEIGHT:, :200] == 128)


def test_checkerboard_shows_half_of_each_image() -> None:
    board = checkerboard(grey(160, 160, 0), grey(160, 160, 1))
    side = 160 // CHECKS
    assert board.mean() == pytest.approx(0.5)
    assert (board[0, 0], board[0, side], board[side, 0], board[side, side]) == (0, 1, 1, 0)


def test_files_are_read_and_aligned_at_the_preview_s_resolution(
    samples: Path, make_registration: Build, truth_of: Callable[[str], np.ndarray]
) -> None:
    grid = Grid(515, 403)
    result = make_registration(matrix=truth_of("rgb_nir"), fixed_grid=grid, moving_grid=grid)
    picture = preview_of_files(samples / "rgb_nir_fixed.tif", samples / "rgb_nir_moving.tif", result)
    assert picture.shape == (CAPTION_HEIGHT + 403, 3 * 515 + 16, 3)
    assert picture[CAPTION_HEIGHT:, :515].std() > 20

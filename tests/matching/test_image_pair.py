"""Both images at one resolution, and the way back to the pixels of the files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from affine import Affine
from hypothesis import example, given
from hypothesis import strategies as st
from rasterio.crs import CRS

from image_pairs import image_pair
from rrl_register.config import Kind, ReadConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.estimation.cross_validation import Uncertainty, in_file_px
from rrl_register.geometry.displacement import Displacement, Transform
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.geometry.transforms import project, rescale_matrix
from rrl_register.geometry.window import Frame
from rrl_register.matching.image_pair import ImagePair
from rrl_register.matching.read_pair import read_pair

UTM31 = CRS.from_epsg(32631)
WIDTH_M, HEIGHT_M = 2000, 1500


@pytest.fixture
def make_scene(make_raster: Callable[..., Path]) -> Callable[..., Path]:
    """Writes the same 2000 x 1500 m of smooth texture at any pixel size."""
    noise = np.random.default_rng(35).random((15, 20), dtype=np.float32)
    ground = cv2.resize(noise, (WIDTH_M, HEIGHT_M), interpolation=cv2.INTER_CUBIC)

    def write(name: str, gsd: float, *, georeferenced: bool = True, left: float = 500_000) -> Path:
        size = (round(WIDTH_M / gsd), round(HEIGHT_M / gsd))
        image = cv2.resize(ground, size, interpolation=cv2.INTER_AREA)
        place = {"crs": UTM31, "transform": Affine(gsd, 0, left, 0, -gsd, 5_000_000)} if georeferenced else {}
        return make_raster(image, name, **place)

    return write


def by_points(matrix: np.ndarray) -> np.ndarray:
    return project(matrix, [(10.0, 10), (90, 20), (30, 70)])


HULL = np.array([(0.0, 0.0), (400.0, 10.0), (380.0, 420.0), (5.0, 400.0)])
IDENTITY = by_points(np.eye(3))


@pytest.mark.parametrize(
    ("fixed_gsd", "moving_gsd", "factors"),
    [(10, 4, (1, 2.5)), (4, 10, (2.5, 1)), (10, 10, (1, 1)), (10, 8.5, (1, 1)), (10, 7.9, (1, 1 / 0.79))],
)
def test_the_finer_image_is_reduced_to_the_coarser_one(
    make_scene: Callable[..., Path], fixed_gsd: float, moving_gsd: float, factors: tuple[float, float]
) -> None:
    """Pixel sizes less than a quarter apart stay as they are."""
    pair = read_pair(make_scene("fixed.tif", fixed_gsd), make_scene("moving.tif", moving_gsd), ReadConfig())
    assert (pair.fixed.factor, pair.moving.factor) == pytest.approx(factors, rel=1e-3)
    assert pair.fixed.shape == pair.fixed.valid.shape == pair.fixed.grid.reduced(pair.fixed.factor).shape
    assert pair.georeferenced


@pytest.mark.parametrize("georeferenced", [True, False])
def test_the_prior_lays_one_ground_on_the_other(make_scene: Callable[..., Path], georeferenced: bool) -> None:
    paths = [make_scene(f"{gsd}.tif", gsd, georeferenced=georeferenced) for gsd in (10, 4)]
    pair = read_pair(*paths, ReadConfig())
    assert pair.georeferenced == georeferenced
    assert np.allclose(by_points(pair.prior), IDENTITY, atol=0.05)
    placed, valid = pair.placed(pair.prior)
    assert valid.mean() > 0.97
    assert float(np.abs(placed - pair.fixed.values)[valid].mean()) < 0.01


def test_large_scenes_are_matched_on_reduced_images(make_scene: Callable[..., Path]) -> None:
    paths = make_scene("fixed.tif", 5), make_scene("moving.tif", 10)
    pair = read_pair(*paths, ReadConfig(max_side=100))
    assert (pair.fixed.factor, pair.moving.factor) == pytest.approx((4, 2))
    assert pair.fixed.shape == pair.moving.shape == (75, 100)


def test_grey_images_lie_between_0_and_1_and_kinds_are_settled(make_scene: Callable[..., Path]) -> None:
    paths = make_scene("fixed.tif", 10), make_scene("moving.tif", 10, left=500_300)
    pair = read_pair(*paths, ReadConfig(moving_kind=Kind.SAR))
    assert pair.moving.kind is Kind.SAR
    assert pair.fixed.kind in (Kind.OPTICAL, Kind.IR)
    for image in (pair.fixed.values, pair.moving.values):
        assert image.dtype == np.float32
        assert (float(image.min()), float(image.max())) == (0, 1)


@pytest.fixture(scope="module")
def some_pair() -> ImagePair:
    image = np.zeros((60, 80), np.float32)
    return image_pair(image, image, kinds=(Kind.OPTICAL, Kind.SAR))


def with_factors(pair: ImagePair, fixed: float, moving: float) -> ImagePair:
    images = (replace(image, frame=Frame(factor)) for image, factor in ((pair.fixed, fixed), (pair.moving, moving)))
    return ImagePair(*images, pair.prior)


@given(fixed_factor=st.floats(1, 9), moving_factor=st.floats(1, 9), x=st.floats(-10, 500), y=st.floats(-10, 500))
def test_a_transform_of_the_files_survives_the_way_through_reduced_pixels(
    some_pair: ImagePair, fixed_factor: float, moving_factor: float, x: float, y: float
) -> None:
    matrix = np.array([[1.1, 0.2, -30], [-0.1, 0.9, 12], [1e-5, -2e-5, 1]])
    pair = with_factors(some_pair, fixed_factor, moving_factor)
    reduced = rescale_matrix(matrix, fixed_factor, moving_factor)
    point = np.array([(x, y)])
    assert np.allclose(pair.frames.to_files(Transform(reduced)).forward(point), project(matrix, point), atol=1e-6)
    bend = Displacement(
        1, np.array([(2, 1), (3, -1), (0, 2)]), np.empty((0, 2)), np.empty((0, 2)), np.zeros(2), 60.0, HULL
    )
    displaced = pair.frames.to_files(Transform(reduced, bend.reduced(fixed_factor))).forward(point)
    assert np.allclose(displaced, Transform(matrix, bend).forward(point), atol=1e-6)
    there = pair.frames.fixed.to_file(project(reduced, point))
    assert np.allclose(there, project(matrix, pair.frames.moving.to_file(point)), atol=1e-6)


def test_points_and_lengths_are_told_in_pixels_of_the_files(some_pair: ImagePair) -> None:
    pair = with_factors(some_pair, 2.0, 4.0)
    places = np.array([(0.0, 10.0), (3.5, 7.0)])
    points = pair.frames.tie_points_to_files(TiePoints(places, places, np.array([0.9, 0.8]), np.array([0.25, np.nan])))
    assert points.fixed.tolist() == [[0.5, 20.5], [7.5, 14.5]]
    assert points.moving.tolist() == [[1.5, 41.5], [15.5, 29.5]]
    np.testing.assert_array_equal(points.agreement_px, [0.5, np.nan])
    assert pair.frames.tie_points_to_files(TiePoints(places, places, np.ones(2))).agreement_px is None
    assert [pair.frames.in_file_px(length) for length in (1.23456, float("nan"), None)] == [2.469, None, None]
    assert in_file_px(Uncertainty(0.5, 1.5), 2.0) == {"mean": 1.0, "max": 3.0}
    assert in_file_px(None, 2.0) is None


def test_placed_pixels_without_data_are_black_and_marked(some_pair: ImagePair) -> None:
    moving_valid = np.ones((60, 80), bool)
    moving_valid[:, :10] = False
    pair = image_pair(some_pair.fixed.values, np.ones((60, 80), np.float32), moving_valid=moving_valid)
    image, valid = pair.placed(np.array([[1, 0, 5], [0, 1, -20], [0, 0, 1]], float))
    expected = np.zeros((60, 80), bool)
    expected[:40, 15:] = True
    assert np.array_equal(valid, expected)
    assert np.array_equal(image, expected.astype(np.float32))


def test_one_file_is_no_pair_under_whatever_name(make_scene: Callable[..., Path], tmp_path: Path) -> None:
    path = make_scene("fixed.tif", 20)
    (tmp_path / "link.tif").symlink_to(path)
    for other in (path, tmp_path / "link.tif"):
        with pytest.raises(UsageError, match="same file"):
            read_pair(path, other, ReadConfig())


def test_images_too_small_at_the_common_resolution_are_refused(
    make_scene: Callable[..., Path], make_raster: Callable[..., Path]
) -> None:
    """60 px of 5 m are 30 px of 10 m."""
    large = make_scene("large.tif", 10)
    image = np.random.default_rng(36).random((60, 60), np.float32)
    small = make_raster(image, "small.tif", crs=UTM31, transform=Affine(5, 0, 500_500, 0, -5, 4_999_500))
    with pytest.raises(InputError, match="30 x 30 px") as caught:
        read_pair(large, small, ReadConfig())
    assert "small.tif" in str(caught.value)
    assert "48 px are needed" in str(caught.value)


def test_georeferences_without_common_ground_are_refused(make_scene: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="overlap"):
        read_pair(make_scene("here.tif", 20), make_scene("there.tif", 20, left=600_000), ReadConfig())


def test_the_smaller_image_is_named_when_there_is_too_little_of_it(make_raster: Callable[..., Path]) -> None:
    """A moving image of one pixel reduces the fixed one to as little: that is not the fixed image's fault."""
    fixed = make_raster(np.arange(90_000, dtype=np.uint16).reshape(300, 300), "fixed.tif")
    dot = make_raster(np.array([[9]], np.uint8), "dot.tif")
    with pytest.raises(InputError, match=r"dot\.tif is 1 x 1 px"):
        read_pair(fixed, dot, ReadConfig())


@given(st.floats(0.5, 2))
@example(0.59)  # 413 px by any rounding but that of floats
def test_at_another_scale_a_transform_still_means_the_same(scale: float) -> None:
    """The image of the smaller pixels is reduced, and what both factors say of the files stays what it was."""
    noise = np.random.default_rng(1).random((640, 700), dtype=np.float32)
    matrix = np.array([[scale, 0.1, 5], [-0.1, scale, 9], [0, 0, 1]])
    pair = image_pair(noise, noise, matrix, factors=(2.0, 2.0))
    suited = pair.at_scale(scale)
    np.testing.assert_allclose(
        by_points(suited.frames.to_files(Transform(suited.prior)).matrix),
        by_points(pair.frames.to_files(Transform(matrix)).matrix),
        atol=1e-6,
    )
    for image, factor in ((suited.fixed, suited.fixed.factor), (suited.moving, suited.moving.factor)):
        assert image.shape == (int(1280 / factor + 1e-6), int(1400 / factor + 1e-6))
    relative = scale * suited.moving.factor / suited.fixed.factor
    assert 0.79 < relative < 1.26


def test_a_reduced_image_keeps_its_places_and_its_gaps() -> None:
    x = np.tile(np.arange(600, dtype=np.float32), (512, 1))
    valid = np.ones(x.shape, bool)
    valid[:, :100] = False
    pair = image_pair(x, np.where(valid, x, -9), fixed_valid=valid, moving_valid=valid)
    suited = pair.at_scale(0.5)
    assert suited.moving.shape == (256, 300)
    assert not suited.moving.valid[:, :49].any()
    assert suited.moving.valid[:, 53:].all()
    columns = np.arange(60, 290)
    np.testing.assert_allclose(suited.moving.values[128, columns], 2 * columns + 0.5, atol=0.01)


def test_a_small_image_is_not_reduced_further() -> None:
    image = np.zeros((256, 300), np.float32)
    pair = image_pair(image, image)
    assert pair.at_scale(2.0) is pair

"""``Registration.apply`` on arrays and files, and results that are carried over to larger images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from scipy.ndimage import binary_erosion

from rrl_register.config import Resampling, WarpConfig
from rrl_register.errors import InputError, OutputExistsError
from rrl_register.exchange.registration import Registration
from rrl_register.raster.grid import Grid
from rrl_register.raster.sources import ImageArray
from rrl_register.warping.warp import warp_array

Build = Callable[..., Registration]

MATRIX = np.array([[1.01, 0.02, 4.3], [-0.02, 0.99, -2.6], [1e-5, -1e-5, 1.0]])
FIXED, MOVING = Grid(80, 60), Grid(70, 50)


@pytest.fixture
def found(make_registration: Build) -> Registration:
    return make_registration(matrix=MATRIX, fixed_grid=FIXED, moving_grid=MOVING)


@pytest.mark.parametrize("shape", [(50, 70), (3, 50, 70)])
def test_an_array_gives_an_array_and_its_mask(
    found: Registration, rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    image = rng.integers(1, 255, shape, np.uint8)
    values, valid = found.apply(image)
    expected, inside = warp_array(image, MATRIX, FIXED.shape)
    assert values.dtype == np.uint8
    assert np.array_equal(values, expected) and np.array_equal(valid, inside)


def test_pixels_without_data_stay_without(found: Registration, rng: np.random.Generator) -> None:
    image, known = rng.random((50, 70)), np.ones((50, 70), bool)
    image[10, 10], known[20:30, 20:30] = np.nan, False
    valid = found.apply(ImageArray(image, valid=known)).valid
    assert (valid == warp_array(image, MATRIX, FIXED.shape, valid=known & np.isfinite(image))[1]).all()


def test_a_file_gives_arrays_without_its_alpha_band(
    found: Registration, make_raster: Callable[..., Path], rng: np.random.Generator
) -> None:
    bands = rng.integers(1, 255, (2, 50, 70), np.uint8)
    bands[1] = 255
    bands[1, :20] = 0
    path = make_raster(bands, colours=(ColorInterp.gray, ColorInterp.alpha))
    values, valid = found.apply(path)
    assert values.shape == (1, 60, 80)
    assert (valid == warp_array(bands[0], MATRIX, FIXED.shape, valid=bands[1] > 0)[1]).all()


def test_an_output_is_written(found: Registration, tmp_path: Path, rng: np.random.Generator) -> None:
    image, output = rng.integers(1, 255, (2, 50, 70), np.uint8), tmp_path / "out.tif"
    config = WarpConfig(Resampling.BILINEAR, nodata=0)
    assert found.apply(ImageArray(image, names=("a", "b")), output, config) == output
    with rasterio.open(output) as dataset:
        assert dataset.descriptions == ("a", "b")
        assert np.array_equal(dataset.read(), found.apply(image, config=config).values)
    with pytest.raises(OutputExistsError):
        found.apply(image, output)
    found.apply(image, output, overwrite=True)


def test_a_file_in_gives_a_file_out(
    found: Registration, make_raster: Callable[..., Path], tmp_path: Path, rng: np.random.Generator
) -> None:
    image = rng.integers(1, 255, (1, 50, 70), np.uint8)
    output = found.apply(str(make_raster(image)), str(tmp_path / "out.tif"))
    with rasterio.open(output) as dataset:
        assert np.array_equal(dataset.read(), found.apply(image).values)


def test_an_array_of_half_the_resolution_lies_on_the_same_ground(found: Registration) -> None:
    rows, columns = np.indices((50, 70)).astype(float)
    fine = 3 * columns + 2 * rows
    coarse = fine.reshape(25, 2, 35, 2).mean(axis=(1, 3))
    one, other = found.apply(fine), found.apply(coarse)
    inner = binary_erosion(one.valid & other.valid, iterations=5)
    assert inner.sum() > 1000
    assert np.abs(one.values - other.values)[inner].max() < 0.01


def test_a_georeference_says_which_part_an_array_shows(make_registration: Build) -> None:
    ground = Affine.translation(5e5, 5.3e6) * Affine.scale(2, -2)
    whole = Grid(70, 50, CRS.from_epsg(32633), ground)
    part = Grid(30, 20, whole.crs, ground * Affine.translation(25, 10))
    found = make_registration(matrix=MATRIX, fixed_grid=FIXED, moving_grid=whole)
    image = np.arange(3500.0).reshape(50, 70)
    alone = found.apply(ImageArray(image[10:30, 25:55], part))
    inner = binary_erosion(alone.valid, iterations=3)
    assert inner.sum() > 200
    assert np.allclose(alone.values[inner], found.apply(image).values[inner])


def test_a_failed_registration_is_applied_to_nothing(make_registration: Build) -> None:
    failed = make_registration(matrix=None, status="failed", reason="too few")
    with pytest.raises(InputError, match="too few"):
        failed.apply(np.ones((50, 70)))


@given(factors=st.tuples(st.integers(1, 9), st.integers(1, 9)), place=st.tuples(st.floats(0, 60), st.floats(0, 40)))
def test_an_enlarged_result_agrees_with_the_reduced_one(
    make_registration: Build, factors: tuple[int, int], place: tuple[float, float]
) -> None:
    fixed_factor, moving_factor = factors
    reduced = make_registration(
        matrix=MATRIX, rmse_px=0.5, check_rmse_px=None, uncertainty_px={"mean": 0.1, "max": 0.2}
    )
    whole = reduced.enlarged(fixed_factor, moving_factor, Grid(800, 600), Grid(700, 500))
    point = np.array([place])
    on_whole = whole.transform.forward((point + 0.5) * moving_factor - 0.5)
    assert np.allclose((on_whole + 0.5) / fixed_factor - 0.5, reduced.transform.forward(point))
    assert whole.rmse_px == 0.5 * fixed_factor
    assert whole.check_rmse_px is None
    assert (whole.fixed_grid, whole.moving_grid) == (Grid(800, 600), Grid(700, 500))
    if factors != (1, 1):
        assert whole.uncertainty_px == {"mean": 0.1 * fixed_factor, "max": 0.2 * fixed_factor}
        assert np.allclose(whole.tie_points.fixed, (reduced.tie_points.fixed + 0.5) * fixed_factor - 0.5)

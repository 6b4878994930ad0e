"""Carrying a transform over to another file of the same ground."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.io import DatasetReader

from rrl_register.cli import main
from rrl_register.errors import InputError
from rrl_register.exchange.registration import Registration, apply_transform, read_registration
from rrl_register.geometry.displacement import Displacement
from rrl_register.raster.grid import Grid
from rrl_register.warping.apply import to_registered_pixels
from rrl_register.warping.warp import warp_array

Build = Callable[..., Registration]

UTM = CRS.from_epsg(32618)


def map_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    x, y, w = matrix @ np.vstack([points.T, np.ones(len(points))])
    return np.column_stack([x / w, y / w])


def corners(grid: Grid) -> np.ndarray:
    """Outer corners of the image, px."""
    right, bottom = grid.width - 0.5, grid.height - 0.5
    return np.array([(-0.5, -0.5), (right, -0.5), (-0.5, bottom), (right, bottom)])


@given(width=st.integers(40, 900), height=st.integers(40, 900), factor=st.integers(1, 8))
def test_without_georeference_the_outer_corners_coincide(width: int, height: int, factor: int) -> None:
    moving, image = Grid(width, height), Grid(width * factor, height * factor)
    assert np.allclose(map_points(to_registered_pixels(image, moving), corners(image)), corners(moving))


@given(
    gsd=st.floats(0.5, 40),
    ratio=st.floats(0.2, 5),
    offset=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    size=st.integers(400, 600),
)
def test_with_georeferences_the_ground_decides(
    gsd: float, ratio: float, offset: tuple[float, float], size: int
) -> None:
    """A crop at another resolution keeps its place on the ground."""
    shape = Affine.scale(gsd, -gsd)
    moving = Grid(1000, 1000, UTM, Affine.translation(500_000, 4_000_000) * shape)
    left, top = 500_000 + gsd * (200 + offset[0] / 10), 4_000_000 - gsd * (200 + offset[1] / 10)
    image = Grid(size, size, UTM, Affine.translation(left, top) * shape * Affine.scale(ratio))
    pixels = np.array([(0.0, 0.0), (10.5, 33.0), (size - 1.0, 5.0)])
    on_moving = map_points(to_registered_pixels(image, moving), pixels)
    assert np.allclose(moving.pixel_to_map(on_moving), image.pixel_to_map(pixels), atol=1e-6 * gsd)


def test_a_reduced_copy_may_be_off_by_its_rounding() -> None:
    to_registered_pixels(Grid(257, 172), Grid(1030, 690))


def test_another_aspect_is_refused() -> None:
    with pytest.raises(InputError, match="500 x 400 px, the one registered 500 x 500 px"):
        to_registered_pixels(Grid(500, 400), Grid(500, 500))


def test_other_ground_is_refused() -> None:
    here = Grid(100, 100, UTM, Affine.translation(500_000, 4_000_000) * Affine.scale(10, -10))
    there = Grid(100, 100, UTM, Affine.translation(600_000, 4_000_000) * Affine.scale(10, -10))
    with pytest.raises(InputError, match="do not overlap"):
        to_registered_pixels(there, here)


def test_the_transform_of_a_failed_registration_is_refused(tmp_path: Path, make_registration: Build) -> None:
    failed = make_registration(status="failed", matrix=None, reason="nothing matched")
    with pytest.raises(InputError, match="nothing matched"):
        apply_transform(failed, tmp_path / "image.tif", tmp_path / "out.tif")


@pytest.mark.parametrize("text", ["", "not json", "[]", "{}", '{"schema": 1, "status": "ok"}', '{"schema": 2}', "\x00"])
def test_a_file_that_is_no_result_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(InputError, match=str(path)) as caught:
        read_registration(path)
    assert "\n" not in str(caught.value)


BENT = Displacement(
    degree=2,
    coefficients=np.array([(2, 1), (3, 0), (0, -2), (1, 4), (-4, 2), (1, -3)], float),
    knots=np.empty((0, 2)),
    weights=np.empty((0, 2)),
    centre=np.array([257.0, 201.0]),
    scale=250.0,
    hull=np.array([(10.0, 10.0), (500.0, 10.0), (500.0, 390.0), (10.0, 390.0)]),
)


@pytest.mark.parametrize("displacement", [None, BENT], ids=["matrix", "displaced"])
@pytest.mark.parametrize("factor", [1, 2, 0.5])
def test_apply_brings_another_resolution_to_the_same_place(
    samples: Path,
    tmp_path: Path,
    make_registration: Build,
    truth_of: Callable[[str], np.ndarray],
    factor: float,
    displacement: Displacement | None,
) -> None:
    """The moving image at its own, double and half resolution lands on the fixed grid alike, by command line."""
    moving, other = samples / "rgb_nir_moving.tif", tmp_path / "other.tif"
    grid = resampled_copy(moving, other, factor)
    result = make_registration(matrix=truth_of("rgb_nir"), fixed_grid=grid, moving_grid=grid, displacement=displacement)
    (tmp_path / "result.json").write_text(json.dumps(result.to_json()))
    for image, name in ((moving, "one.tif"), (other, "two.tif")):
        command = ["apply", tmp_path / "result.json", image, "-o", tmp_path / name]
        run = CliRunner().invoke(main, [str(word) for word in command])
        assert (run.exit_code, run.output.strip()) == (0, str(tmp_path / name))
    with rasterio.open(tmp_path / "one.tif") as one, rasterio.open(tmp_path / "two.tif") as two:
        assert (
            (one.crs, one.transform, one.shape)
            == (two.crs, two.transform, two.shape)
            == (grid.crs, grid.transform, grid.shape)
        )
        difference = smooth(one) - smooth(two)
        here = smooth(one)
    if displacement is not None:
        straight, _ = warp_array(read_first(moving), result.matrix, grid.shape)
        assert np.nanmax(np.abs(here - cv2.GaussianBlur(straight.astype(np.float32), (0, 0), 3))) > 5
    inside = np.isfinite(difference)
    assert inside.mean() > 0.7
    assert np.sqrt(np.mean(difference[inside] ** 2)) < 1.5


def read_first(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def resampled_copy(source: Path, target: Path, factor: float) -> Grid:
    """Write a copy with ``factor`` times the pixels per side; gives the source's grid."""
    with rasterio.open(source) as dataset:
        shape = round(dataset.height * factor), round(dataset.width * factor)
        grid = Grid(dataset.width, dataset.height, dataset.crs, dataset.transform)
        scale = Affine.scale(dataset.width / shape[1], dataset.height / shape[0])
        data = dataset.read(out_shape=(1, *shape), resampling=Resampling.cubic if factor > 1 else Resampling.average)
        profile = dataset.profile | {"height": shape[0], "width": shape[1], "transform": dataset.transform * scale}
    with rasterio.open(target, "w", **profile) as dataset:
        dataset.write(data)
    return grid


def smooth(dataset: DatasetReader) -> np.ndarray:
    """The first band without the detail that a coarser image cannot hold; NaN near what holds no data."""
    values = dataset.read(1).astype(np.float32)
    near_edge = cv2.erode((values > 0).astype(np.uint8), np.ones((15, 15)), borderValue=0) == 0
    blurred = cv2.GaussianBlur(values, (0, 0), 3)
    blurred[near_edge] = np.nan
    return blurred

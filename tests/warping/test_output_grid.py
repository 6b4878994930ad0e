"""Which pixels are written, and that the warp brings the moving image to the right ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.warp import transform as reproject

from rrl_register.config import Crop, OutputGrid, WarpConfig
from rrl_register.errors import InputError
from rrl_register.geometry.displacement import Displacement, Transform
from rrl_register.geometry.transforms import project
from rrl_register.geometry.window import Box
from rrl_register.raster.grid import Grid
from rrl_register.warping.output_grid import Layout, plan_output, require_georeferences
from rrl_register.warping.warp import TO_FIXED_TAG, warp_to_file

UTM = CRS.from_epsg(32632)
NEXT_UTM = CRS.from_epsg(32633)
TILTED = np.array([[0.94, 0.12, 5.3], [-0.1, 1.05, -3.7], [1e-4, -2e-4, 1]])
LIKE = Path("like.tif")


def shift(dx: float, dy: float, scale: float = 1.0) -> np.ndarray:
    return np.array([[scale, 0, dx], [0, scale, dy], [0, 0, 1]], np.float64)


def placed(width: int, height: int, gsd: float, left: float = 5e5, top: float = 4e6, crs: CRS = UTM) -> Grid:
    return Grid(width, height, crs, Affine.translation(left, top) * Affine.scale(gsd, -gsd))


def bump(size: float) -> Displacement:
    """Up to some px, smooth, within 100 x 100 px."""
    hull = np.array([(2.0, 2.0), (98.0, 2.0), (98.0, 98.0), (2.0, 98.0)])
    coefficients = size * np.array([(1, -1), (1, 0.5), (0, 1), (-1, 1), (0.5, 0), (1, -1)])
    nothing = np.empty((0, 2))
    return Displacement(2, coefficients, nothing, nothing, np.full(2, 50.0), 50.0, hull)


def plan(matrix: np.ndarray, fixed: Grid, moving: Grid, like: Grid | None = None, **settings: Any) -> Layout:
    displacement = settings.pop("displacement", None)
    config = WarpConfig(**settings, **({} if like is None else {"grid": LIKE}))
    return plan_output(matrix, fixed, moving, config, displacement, like)


def test_by_default_the_fixed_grid_is_written() -> None:
    fixed = placed(80, 70, 3)
    layout = plan(TILTED, fixed, Grid(90, 60))
    assert layout.grid == fixed
    assert layout.frame == Box.of_shape((70, 80))
    assert layout.displacements is None
    assert np.array_equal(layout.to_fixed, np.eye(3))
    assert np.allclose(layout.matrix, TILTED / (TILTED[2] @ (44.5, 29.5, 1)))


@pytest.mark.parametrize(
    ("crop", "frame"), [(Crop.FIXED, (0, 70, 0, 80)), (Crop.OVERLAP, (0, 50, 30, 80)), (Crop.UNION, (-10, 70, 0, 120))]
)
@pytest.mark.parametrize("georeferenced", [True, False])
def test_crops(crop: Crop, frame: tuple[int, ...], georeferenced: bool) -> None:
    fixed = placed(80, 70, 3) if georeferenced else Grid(80, 70)
    layout = plan(shift(30, -10), fixed, Grid(90, 60), crop=crop)
    assert tuple(layout.frame) == frame
    assert layout.grid.shape == layout.frame.shape
    if georeferenced:
        corner = fixed.pixel_to_map([(frame[2], frame[0])])
        assert np.allclose(layout.grid.pixel_to_map([(0, 0)]), corner)
    assert np.array_equal(layout.to_fixed, shift(frame[2], frame[0]))


@given(
    angle=st.floats(-40, 40),
    scale=st.floats(0.4, 2),
    size=st.sampled_from([0.0, 2.0]),
    dx=st.floats(-40, 40),
    tilt=st.floats(-1e-3, 1e-3),
)
def test_the_overlap_is_the_smallest_box_that_holds_what_both_show(
    angle: float, scale: float, size: float, dx: float, tilt: float
) -> None:
    c, s = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle))
    matrix = np.array([[c, -s, 30 + dx], [s, c, 10], [tilt, 0, 1]])
    displacement = bump(size) if size else None
    layout = plan(matrix, Grid(100, 100), Grid(50, 60), crop=Crop.OVERLAP, displacement=displacement)
    y, x = np.mgrid[:100, :100]
    seen = Transform(matrix, displacement).backward(np.column_stack([x.ravel(), y.ravel()])).reshape(100, 100, 2)
    inside = np.all((seen >= -0.5) & (seen < (49.5, 59.5)), axis=2)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert np.abs(np.subtract(layout.frame, (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))).max() <= 1
    assert layout.frame.within(Box(rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)).shape == (
        len(rows),
        len(columns),
    )


def test_the_moving_images_resolution_is_kept_on_the_fixed_ground() -> None:
    fixed, moving = placed(50, 40, 10), placed(300, 200, 2, left=5e5 + 100, top=4e6 - 50)
    layout = plan(shift(10.3, 4.9, 0.2), fixed, moving, grid=OutputGrid.MOVING)
    assert layout.grid == placed(250, 200, 2)
    assert np.allclose(project(layout.to_fixed, [(-0.5, -0.5), (4.5, 4.5)]), [(-0.5, -0.5), (0.5, 0.5)])
    # The moving image is still brought to where the transform says, not to where its georeference does.
    assert np.allclose(project(layout.to_fixed, project(layout.matrix, [(7, 9)])), [(10.3 + 1.4, 4.9 + 1.8)])


def test_oblong_and_turned_pixels_of_the_moving_image_are_kept() -> None:
    fixed = placed(50, 40, 10)
    turned = Affine.translation(5e5, 4e6) * Affine.rotation(30) * Affine.scale(2, -5)
    layout = plan(shift(3, 3), fixed, Grid(60, 60, UTM, turned), grid=OutputGrid.MOVING)
    found = layout.grid.transform
    assert np.allclose([found.a, found.b, found.d, found.e], [turned.a, turned.b, turned.d, turned.e])
    corners = layout.grid.map_to_pixel(fixed.pixel_to_map([(-0.5, -0.5), (49.5, -0.5), (-0.5, 39.5), (49.5, 39.5)]))
    assert np.allclose(corners.min(axis=0), -0.5)
    assert np.all(np.array(layout.grid.shape[::-1]) - 0.5 - corners.max(axis=0) >= -1e-6)
    assert np.all(np.array(layout.grid.shape[::-1]) - 0.5 - corners.max(axis=0) < 1)


def test_without_its_georeference_the_transform_says_how_large_and_turned_the_moving_image_is() -> None:
    angle = math.radians(20)
    matrix = np.array(
        [
            [0.25 * math.cos(angle), -0.25 * math.sin(angle), 9],
            [0.25 * math.sin(angle), 0.25 * math.cos(angle), 3],
            [0, 0, 1],
        ]
    )
    layout = plan(matrix, placed(50, 40, 10), Grid(100, 100), grid=OutputGrid.MOVING)
    assert layout.grid.gsd == pytest.approx(2.5)
    assert np.allclose(layout.matrix[:2, :2], np.eye(2))
    assert layout.grid.crs == UTM
    no_place = plan(matrix, Grid(50, 40), Grid(100, 100), grid=OutputGrid.MOVING)
    assert no_place.grid == Grid(*layout.grid.shape[::-1])
    assert np.allclose(no_place.to_fixed, layout.to_fixed)


def test_another_rasters_grid_in_the_same_crs() -> None:
    fixed, like = placed(50, 40, 10), placed(77, 66, 3, left=5e5 + 40, top=4e6 - 20)
    layout = plan(shift(1, 2), fixed, Grid(50, 40), like)
    assert layout.grid == like
    assert layout.displacements is None
    on_map = like.pixel_to_map(project(layout.matrix, [(20.0, 11.0)]))
    assert np.allclose(on_map, fixed.pixel_to_map([(21.0, 13.0)]))


@pytest.mark.parametrize("displacement", [None, bump(2.0)], ids=["matrix", "displaced"])
def test_another_rasters_grid_in_another_crs_is_reached_exactly(displacement: Displacement | None) -> None:
    # Large enough for the curvature of the projections to be seen: 300 km.
    fixed = placed(100, 100, 3000, left=5e5)
    x, y = reproject(UTM, NEXT_UTM, [6.5e5], [3.85e6])
    like = placed(60, 60, 3000, left=x[0] - 9e4, top=y[0] + 9e4, crs=NEXT_UTM)
    layout = plan(TILTED, fixed, Grid(100, 100), like, displacement=displacement)
    pixels = np.array([(3.0, 5.0), (30.0, 31.0), (55.0, 2.0), (58.0, 57.0)])
    along = np.array([np.ravel(layout.displacements.at(u[:1], u[1:])) for u in pixels])
    found = project(np.linalg.inv(layout.matrix), pixels - along)
    eastings, northings = like.pixel_to_map(pixels).T
    on_fixed = fixed.map_to_pixel(np.column_stack(reproject(NEXT_UTM, UTM, eastings, northings)))
    assert np.allclose(found, Transform(TILTED, displacement).backward(on_fixed), rtol=0, atol=1e-3)
    straight = project(np.linalg.inv(layout.matrix), pixels)
    assert np.abs(straight - found).max() > 0.005


@pytest.mark.parametrize("crop", list(Crop))
def test_nothing_to_write_is_refused(crop: Crop) -> None:
    with pytest.raises(InputError, match="Nothing of the moving image"):
        plan(shift(300, 0), Grid(50, 40), Grid(50, 40), crop=crop)


def test_other_ground_than_the_scenes_is_refused() -> None:
    with pytest.raises(InputError, match=r"like.tif in place of the moving image: .*do not overlap"):
        plan(np.eye(3), placed(50, 40, 10), Grid(50, 40), placed(50, 40, 10, left=7e5))


@pytest.mark.parametrize(
    ("fixed", "like", "whose"), [(Grid(9, 9), placed(9, 9, 1), "fixed"), (placed(9, 9, 1), Grid(9, 9), "like.tif")]
)
def test_another_rasters_grid_needs_two_georeferences(fixed: Grid, like: Grid, whose: str) -> None:
    for ask in (
        lambda: plan(np.eye(3), fixed, Grid(9, 9), like),
        lambda: require_georeferences(fixed, WarpConfig(grid=LIKE), like),
    ):
        with pytest.raises(InputError, match=f"{whose}.* has no georeference"):
            ask()


def test_the_horizon_has_no_union() -> None:
    matrix = np.array([[1, 0, 0], [0, 1, 0], [-0.015, 0, 1.0]])
    with pytest.raises(InputError, match="horizon"):
        plan(matrix, Grid(50, 50), Grid(100, 50), crop=Crop.UNION)
    assert plan(matrix, Grid(50, 50), Grid(100, 50), crop=Crop.OVERLAP).grid == Grid(50, 50)


@pytest.fixture
def moving(make_raster: Callable[..., Path], rng: np.random.Generator) -> Path:
    return make_raster(rng.integers(1, 255, (60, 70), dtype=np.uint8), nodata=0)


def warped(
    moving: Path, matrix: np.ndarray, fixed: Grid, displacement: Displacement | None = None, **settings: Any
) -> Any:
    output = moving.with_name("aligned.tif")
    warp_to_file(moving, matrix, fixed, output, WarpConfig(**settings), True, displacement)
    with rasterio.open(output) as dataset:
        return dataset.read(1), dataset.tags(), Grid(dataset.width, dataset.height, dataset.crs, dataset.transform)


@pytest.mark.parametrize("block_size", [16, 512])
def test_a_crop_has_the_pixels_of_the_whole(moving: Path, block_size: int) -> None:
    matrix = shift(30.3, -10.2) @ TILTED
    whole, tags, _ = warped(moving, matrix, Grid(80, 70))
    assert TO_FIXED_TAG not in tags
    part, tags, _ = warped(moving, matrix, Grid(80, 70), crop=Crop.OVERLAP, block_size=block_size)
    a, b, left, d, e, top = map(float, tags[TO_FIXED_TAG].split(","))
    assert (a, b, d, e) == (1, 0, 0, 1)
    rows, columns = slice(int(top), int(top) + part.shape[0]), slice(int(left), int(left) + part.shape[1])
    assert np.array_equal(part, whole[rows, columns])
    assert np.count_nonzero(whole) == np.count_nonzero(part)
    union, tags, _ = warped(moving, matrix, Grid(80, 70), crop=Crop.UNION, block_size=block_size)
    left, top = (int(tags[TO_FIXED_TAG].split(",")[place]) for place in (2, 5))
    assert np.array_equal(union[-top : 70 - top, -left : 80 - left], whole)
    assert np.count_nonzero(union) > np.count_nonzero(whole)


def test_at_the_moving_resolution_no_pixel_is_changed_by_a_whole_shift(moving: Path) -> None:
    """Fixed pixels four times as large; on the moving image's own grid the warp is a copy."""
    fixed = placed(30, 30, 8)
    values, tags, grid = warped(moving, shift(1.5 - 0.375, 2.5 - 0.375, 0.25), fixed, grid=OutputGrid.MOVING)
    with rasterio.open(moving) as dataset:
        assert np.array_equal(values[10 : 10 + 60, 6 : 6 + 70], dataset.read(1))
    assert grid == placed(120, 120, 2)
    assert TO_FIXED_TAG not in tags


def test_the_grid_of_a_raster_is_read_from_it(moving: Path, make_raster: Callable[..., Path]) -> None:
    fixed = placed(80, 70, 3)
    like = placed(40, 30, 3, left=5e5 + 30, top=4e6 - 60)
    path = make_raster(np.ones((30, 40), np.uint8), "like.tif", crs=UTM, transform=like.transform)
    values, _, grid = warped(moving, TILTED, fixed, grid=path)
    assert grid == like
    whole, *_ = warped(moving, TILTED, fixed)
    assert np.array_equal(values, whole[20:50, 10:50])

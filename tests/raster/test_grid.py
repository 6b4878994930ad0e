"""Georeferences of pixel grids, and the prior that relates two of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.warp import calculate_default_transform
from rasterio.warp import transform as reproject

from rrl_register.errors import InputError
from rrl_register.geometry.transforms import project, reduction_matrix, rescale_matrix
from rrl_register.raster.grid import Grid, between, crs_text, grid_from_control, grid_of, overlap_box, prior_matrix

UTM31 = CRS.from_epsg(32631)
UTM32 = CRS.from_epsg(32632)
WGS84 = CRS.from_epsg(4326)

sizes = st.integers(2, 3000)
factors = st.floats(1, 9)


def utm_grid(width: int = 400, height: int = 300, gsd: float = 10.0, left: float = 500_000, turn: float = 0.0) -> Grid:
    place = Affine.translation(left, 5_000_000) * Affine.rotation(turn) * Affine.scale(gsd, -gsd)
    return Grid(width, height, UTM31, place)


def points_of(grid: Grid) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, grid.width - 1, 5), np.linspace(0, grid.height - 1, 5))
    return np.column_stack([x.ravel(), y.ravel()])


def test_the_centre_of_the_first_pixel_is_half_a_pixel_from_the_corner() -> None:
    assert utm_grid(gsd=10).pixel_to_map([(0, 0)]).tolist() == [[500_005, 4_999_995]]


@given(turn=st.floats(-180, 180), gsd=st.floats(0.1, 100), x=st.floats(-1e4, 1e4), y=st.floats(-1e4, 1e4))
def test_map_and_pixel_are_inverse(turn: float, gsd: float, x: float, y: float) -> None:
    grid = utm_grid(gsd=gsd, turn=turn)
    assert np.allclose(grid.map_to_pixel(grid.pixel_to_map([(x, y)])), [(x, y)], atol=1e-5)


def test_without_geotransform_there_is_no_map() -> None:
    with pytest.raises(InputError, match="geotransform"):
        Grid(10, 10).pixel_to_map([(0, 0)])
    assert not Grid(10, 10).georeferenced
    assert Grid(10, 10).gsd is None
    assert Grid(10, 10).metres_per_pixel is None


def test_a_geotransform_without_crs_is_no_georeference() -> None:
    grid = Grid(10, 10, None, Affine.scale(2, -2))
    assert not grid.georeferenced
    assert grid.gsd == 2


def test_pixel_size_is_the_geometric_mean() -> None:
    assert math.isclose(Grid(9, 9, UTM31, Affine.rotation(30) * Affine.scale(4, -9)).gsd or 0, 6)


def test_pixel_size_on_the_ground_in_projected_and_geographic_coordinates() -> None:
    # On the central meridian of a UTM zone the map is 0.04 % too small.
    assert math.isclose(utm_grid(gsd=10).metres_per_pixel or 0, 10, rel_tol=0.01)
    at_60_north = Grid(100, 100, WGS84, Affine.translation(3, 60) * Affine.scale(1e-4, -1e-4))
    assert math.isclose(at_60_north.metres_per_pixel or 0, 11.12 * math.sqrt(0.5), rel_tol=0.01)


def test_bounds_are_the_outer_edges() -> None:
    assert utm_grid(400, 300, 10).bounds == (500_000, 4_997_000, 504_000, 5_000_000)


@given(width=sizes, height=sizes, factor=factors)
def test_reduced_grid_keeps_the_ground_under_each_pixel(width: int, height: int, factor: float) -> None:
    grid = utm_grid(width, height)
    reduced = grid.reduced(factor)
    full = points_of(grid)
    assert np.allclose(reduced.pixel_to_map((full + 0.5) / factor - 0.5), grid.pixel_to_map(full), atol=1e-6)
    assert reduced.width == max(1, math.floor(width / factor + 1e-9))
    assert reduced.crs == grid.crs


def test_reducing_by_one_changes_nothing() -> None:
    assert utm_grid().reduced(1) == utm_grid()


@pytest.mark.parametrize(
    "grid",
    [Grid(7, 5), Grid(7, 5, None, Affine.scale(2, -2)), utm_grid(turn=12), Grid(3, 4, CRS.from_proj4("+proj=ortho"))],
)
def test_json_brings_back_the_same_grid(grid: Grid) -> None:
    assert Grid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"width": 3},
        {"width": "wide", "height": 3},
        {"width": 0, "height": 3},
        {"width": 3, "height": 3, "transform": [1, 2]},
        {"width": 3, "height": 3, "crs": "EPSG:0"},
    ],
)
def test_a_broken_description_is_refused_in_one_line(broken: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        Grid.from_dict(broken)
    assert "\n" not in str(caught.value)


@given(turn=st.floats(-40, 40), gsd=st.floats(4, 25), shift=st.floats(-800, 800))
def test_prior_follows_the_ground_within_one_crs(turn: float, gsd: float, shift: float) -> None:
    fixed, moving = utm_grid(), utm_grid(gsd=gsd, left=500_000 + shift, turn=turn)
    on_moving = points_of(moving)
    on_fixed = project(prior_matrix(fixed, moving), on_moving)
    assert np.allclose(fixed.pixel_to_map(on_fixed), moving.pixel_to_map(on_moving), atol=1e-5)


@pytest.mark.parametrize("crs", [UTM32, WGS84], ids=["utm32", "wgs84"])
def test_prior_follows_the_ground_across_crs(crs: CRS) -> None:
    fixed = utm_grid()
    transform, width, height = calculate_default_transform(UTM31, crs, 400, 300, *fixed.bounds)
    moving = Grid(width, height, crs, transform)
    matrix = prior_matrix(fixed, moving)
    back = prior_matrix(moving, fixed)
    middle = points_of(fixed)
    assert np.abs(project(matrix, project(back, middle)) - middle).max() < 0.01
    ground = moving.pixel_to_map(project(back, middle))
    there = np.column_stack(reproject(crs, UTM31, ground[:, 0], ground[:, 1]))
    # Meridians are curved on the map: over 4 km no homography comes closer.
    assert np.abs(fixed.map_to_pixel(there) - middle).max() < 0.05


def test_a_small_scene_within_a_large_one_of_another_crs_is_placed_exactly() -> None:
    """The fit is made where the images overlap, so that the curvature of a whole zone does not enter."""
    fixed = utm_grid(100, 100, gsd=10)
    large = Grid(6000, 6000, WGS84, Affine.translation(0, 48) * Affine.scale(1e-3, -1e-3))
    middle = points_of(fixed)
    ground = fixed.pixel_to_map(middle)
    on_large = large.map_to_pixel(np.column_stack(reproject(UTM31, WGS84, ground[:, 0], ground[:, 1])))
    assert np.abs(project(prior_matrix(fixed, large), on_large) - middle).max() < 0.01


@pytest.mark.parametrize(
    "far", [utm_grid(left=900_000), Grid(400, 300, WGS84, Affine.translation(40, 10) * Affine.scale(1e-4, -1e-4))]
)
def test_images_of_different_ground_are_refused_with_both_bounds(far: Grid) -> None:
    with pytest.raises(InputError, match="do not overlap") as caught:
        prior_matrix(utm_grid(), far)
    assert "500000" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_turned_images_whose_boxes_alone_meet_do_not_overlap() -> None:
    corner = utm_grid(400, 400, turn=45)
    other = utm_grid(40, 40, left=500_000 + 2_600)
    beside = Grid(40, 40, UTM31, Affine.translation(500_100, 5_002_700) * Affine.scale(10, -10))
    with pytest.raises(InputError, match="do not overlap"):
        prior_matrix(corner, beside)
    assert prior_matrix(corner, other).shape == (3, 3)


@given(fixed=st.tuples(sizes, sizes), scale=st.floats(0.2, 5))
def test_prior_from_size_aligns_centres(fixed: tuple[int, int], scale: float) -> None:
    moving = (max(1, round(fixed[0] * scale)), max(1, round(fixed[1] * scale)))
    one, other = Grid(*fixed), Grid(*moving)
    matrix = prior_matrix(one, other)
    assert np.allclose(project(matrix, [other.centre]), [one.centre], atol=1e-6)
    ratio = math.sqrt(fixed[0] * fixed[1] / (moving[0] * moving[1]))
    assert np.allclose(matrix[:2, :2], ratio * np.eye(2))


def test_one_georeference_alone_does_not_help() -> None:
    assert np.allclose(prior_matrix(utm_grid(400, 300), Grid(200, 150)), [[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])


@given(fixed_factor=factors, moving_factor=factors, x=st.floats(0, 2000), y=st.floats(0, 2000))
def test_rescaled_matrix_takes_the_same_way(fixed_factor: float, moving_factor: float, x: float, y: float) -> None:
    matrix = np.array([[1.1, 0.2, -30], [-0.1, 0.9, 12], [1e-5, -2e-5, 1]])
    rescaled = rescale_matrix(matrix, fixed_factor, moving_factor)
    on_reduced = project(rescaled, (np.array([(x, y)]) + 0.5) / moving_factor - 0.5)
    assert np.allclose((on_reduced + 0.5) * fixed_factor - 0.5, project(matrix, [(x, y)]), atol=1e-6)
    assert np.allclose(rescale_matrix(rescaled, 1 / fixed_factor, 1 / moving_factor), matrix)


def test_reduction_matrix_moves_the_centre_of_a_pair_to_the_centre_of_its_pixel() -> None:
    assert np.allclose(project(reduction_matrix(2), [(0.5, 0.5)]), [(0, 0)])


@pytest.mark.parametrize(("left", "crosses"), [(179.8, True), (179.0, False), (-180.2, True), (-180.0, False)])
def test_longitudes_on_both_sides_of_the_antimeridian_are_refused(left: float, crosses: bool) -> None:
    grid = Grid(500, 400, CRS.from_epsg(4326), Affine(0.001, 0, left, 0, -0.001, -17))
    if crosses:
        with pytest.raises(InputError, match="antimeridian"):
            prior_matrix(grid, grid)
    else:
        assert np.allclose(prior_matrix(grid, grid), np.eye(3))


def test_one_projection_may_cross_the_antimeridian_two_may_not() -> None:
    """Fiji in UTM 60 S: metres do not jump; on the way to another CRS degrees do."""
    utm60, utm1 = (
        Grid(500, 400, CRS.from_epsg(code), Affine(100, 0, left, 0, -100, 8_100_000))
        for code, left in ((32760, 800_000), (32701, 150_000))
    )
    assert np.allclose(prior_matrix(utm60, utm60), np.eye(3))
    with pytest.raises(InputError, match="antimeridian"):
        prior_matrix(utm60, utm1)
    with pytest.raises(InputError, match="antimeridian"):
        prior_matrix(utm1, Grid(500, 400, CRS.from_epsg(4326), Affine(0.001, 0, -179.9, 0, -0.001, -17)))


CONTROL = np.array([(0.0, 0.0), (400.0, 0.0), (0.0, 300.0), (400.0, 300.0), (130.0, 210.0)])


@given(turn=st.floats(-180, 180), gsd=st.floats(0.5, 50), mirrored=st.booleans())
def test_control_points_of_an_affine_image_give_its_geotransform(turn: float, gsd: float, mirrored: bool) -> None:
    place = Affine.translation(5e5, 5e6) * Affine.rotation(turn) * Affine.scale(gsd, gsd if mirrored else -gsd)
    places = np.array([place * tuple(point) for point in CONTROL])
    grid = grid_from_control(400, 300, UTM31, CONTROL, places)
    assert grid.georeferenced
    assert grid.error_px < 1e-4
    assert np.allclose(grid.map_to_pixel(places), CONTROL - 0.5, atol=1e-4)


@given(off=st.floats(2, 200), at=st.integers(0, len(CONTROL) - 1))
def test_the_error_of_fitted_control_points_is_their_largest_residual(off: float, at: int) -> None:
    places = CONTROL * (10, -10) + (5e5, 5e6)
    places[at, 0] += 10 * off
    grid = grid_from_control(400, 300, UTM31, CONTROL, places)
    residuals = np.hypot(*(grid.map_to_pixel(places) + 0.5 - CONTROL).T)
    assert grid.error_px == pytest.approx(residuals.max(), rel=1e-6)
    assert 0 < grid.error_px < off


def test_control_points_on_a_line_or_in_one_place_are_no_georeference() -> None:
    for pixels in (CONTROL * (1, 0), np.ones_like(CONTROL)):
        assert grid_from_control(400, 300, UTM31, pixels, CONTROL) == Grid(400, 300)


def with_control(make_raster: Callable[..., Path], count: int, **place: object) -> Grid:
    points = [GroundControlPoint(row=y, col=x, x=5e5 + 10 * x, y=5e6 - 10 * y) for x, y in CONTROL[:count]]
    path = make_raster(np.ones((300, 400), np.uint8), **place)
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = points, UTM31
    with rasterio.open(path) as dataset:
        return grid_of(dataset)


def test_a_file_with_control_points_alone_is_placed_by_them(make_raster: Callable[..., Path]) -> None:
    assert np.allclose(with_control(make_raster, 4).pixel_to_map([(0, 0)]), [(5e5 + 5, 5e6 - 5)], atol=1e-3)
    assert not with_control(make_raster, 3).georeferenced


@pytest.mark.parametrize(("shift", "by_points"), [(0, False), (300, True)])
def test_of_control_points_and_a_geotransform_the_one_that_fits_is_taken(
    make_raster: Callable[..., Path], tmp_path: Path, shift: float, by_points: bool
) -> None:
    """The points, in degrees, agree with each other; the geotransform may lie elsewhere."""
    place = Affine(10, 0, 5e5 + shift, 0, -10, 5e6)
    path = make_raster(np.ones((300, 400), np.uint8), crs=UTM31, transform=place)
    places = CONTROL * (10, -10) + (5e5, 5e6)
    points = "".join(
        f'<GCP Id="{n}" Pixel="{x}" Line="{y}" X="{longitude:.12f}" Y="{latitude:.12f}"/>'
        for n, ((x, y), longitude, latitude) in enumerate(
            zip(CONTROL, *reproject(UTM31, WGS84, *places.T), strict=True)
        )
    )
    output = tmp_path / "both.vrt"
    rasterio.shutil.copy(path, output, driver="VRT")
    listed = f'<GCPList Projection="EPSG:4326" dataAxisToSRSAxisMapping="2,1">{points}</GCPList><VRTRasterBand '
    output.write_text(output.read_text().replace("<VRTRasterBand ", listed, 1))
    with rasterio.open(output) as dataset:
        assert len(dataset.gcps[0]) == len(CONTROL)
        grid = grid_of(dataset)
    assert (grid.crs == WGS84) == by_points
    assert np.allclose(
        between(CONTROL, grid, Grid(400, 300, UTM31, place)), CONTROL - (shift / 10, 0), atol=0.1
    )  # degrees bend


def test_a_few_wrong_control_points_are_left_out() -> None:
    x, y = np.meshgrid(np.linspace(0, 400, 5), np.linspace(0, 300, 5))
    pixels = np.column_stack([x.ravel(), y.ravel()])
    places = pixels * (10, -10) + (5e5, 5e6)
    places[[3, 11, 20]] += (700, 4000)
    grid = grid_from_control(400, 300, UTM31, pixels, places)
    assert grid.error_px < 1e-6
    assert np.allclose(grid.pixel_to_map([(0, 0)]), [(5e5 + 5, 5e6 - 5)])


def test_a_geotransform_is_read_as_it_is_and_the_identity_is_none(make_raster: Callable[..., Path]) -> None:
    place = Affine(10, 0, 5e5, 0, -10, 5e6)
    with rasterio.open(make_raster(np.ones((30, 40), np.uint8), crs=UTM31, transform=place)) as dataset:
        assert grid_of(dataset) == Grid(40, 30, UTM31, place)
    with rasterio.open(make_raster(np.ones((30, 40), np.uint8))) as dataset:
        assert grid_of(dataset) == Grid(40, 30)


@given(left=st.floats(-3500, 3500), gsd=st.floats(5, 20), margin=st.floats(0, 50))
def test_the_box_of_the_overlap_holds_what_both_show(left: float, gsd: float, margin: float) -> None:
    fixed, moving = utm_grid(), utm_grid(gsd=gsd, left=500_000 + left)
    (x0, y0), (x1, y1) = overlap_box(fixed, moving, margin)
    assert x0 == pytest.approx(max(-0.5, left / 10 - 0.5 - margin), abs=1e-6)
    assert x1 == pytest.approx(min(399.5, (left + 400 * gsd) / 10 - 0.5 + margin), abs=1e-6)
    assert (y0, y1) == pytest.approx((-0.5, min(299.5, 30 * gsd - 0.5 + margin)), abs=1e-6)


@given(turn=st.floats(-180, 180), gsd=st.floats(1, 50))
def test_pixels_go_to_another_grid_and_back(turn: float, gsd: float) -> None:
    one, other = utm_grid(), Grid(300, 300, UTM32, Affine.translation(3e4, 5e6) * Affine.scale(gsd, -gsd))
    turned = utm_grid(turn=turn)
    for grid in (other, turned):
        assert np.allclose(between(between(points_of(one), one, grid), grid, one), points_of(one), atol=1e-4)


@pytest.mark.parametrize("text", ["EPSG:32631", "EPSG:4326", "ESRI:54030"])
def test_a_crs_that_has_a_code_is_written_by_it(text: str) -> None:
    assert crs_text(CRS.from_user_input(text)) == text


def test_a_crs_without_a_code_is_written_in_full() -> None:
    own = CRS.from_proj4("+proj=laea +lat_0=47 +lon_0=11 +datum=WGS84")
    assert CRS.from_user_input(crs_text(own)) == own
    assert len(crs_text(own)) > 40


FULL_DISK = "+proj=geos +h=35785831 +lon_0=0 +sweep=y +ellps=WGS84"


def test_places_off_the_globe_are_infinite_and_the_others_as_alone() -> None:
    disk = Grid(11, 11, CRS.from_user_input(FULL_DISK), Affine(1.2e6, 0, -6.6e6, 0, -1.2e6, 6.6e6))
    plain = Grid(360, 180, CRS.from_epsg(4326), Affine(1, 0, -180, 0, -1, 90))
    points = np.array([(5.0, 5.0), (0.0, 0.0), (7.0, 5.0)])
    together = between(points, disk, plain)
    assert np.isfinite(together).all(axis=1).tolist() == [True, False, True]
    np.testing.assert_allclose(together[0], (179.5, 89.5), atol=1e-6)
    np.testing.assert_array_equal(together[2:], between(points[2:], disk, plain))
    assert between(np.empty((0, 2)), disk, plain).shape == (0, 2)


def test_a_crs_without_a_place_on_earth_is_an_error_of_one_line() -> None:
    local = Grid(9, 9, CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]'), Affine(1, 0, 0, 0, -1, 0))
    with pytest.raises(InputError, match="No place of an image in"):
        prior_matrix(local, Grid(9, 9, CRS.from_epsg(32633), Affine(1, 0, 0, 0, -1, 0)))

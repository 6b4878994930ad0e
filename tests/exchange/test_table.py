"""Tie points of a result as a table, rejected ones with the reason; and pixels as other programs show them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from rrl_register.exchange.registration import Registration
from rrl_register.exchange.table import PointTable, Reason, from_lon_lat, from_map, to_lon_lat, to_map
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.raster.grid import Grid

Build = Callable[..., Registration]

PIXELS = np.array([(0.0, 0.0), (3.25, 90.0), (199.0, 149.5)])
UTM = Grid(200, 150, CRS.from_epsg(32631), Affine(10, 0, 500_000, 0, -10, 5_000_000))


@pytest.fixture
def judged(make_registration: Build) -> Registration:
    """One point of each fate, under a shift by (2, 0)."""
    places = np.array([(10.0, 20), (30, 40), (50, 60), (70, 80)])
    fixed = places + np.array([(2.0, 0), (2.5, 0), (9, 0), (2, 0)])
    tied = TiePoints(fixed, places, np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.2, np.nan, 0.1, 4.0]))
    rejected = TiePoints(np.array([(100.0, 100)]), np.array([(95.0, 100)]), np.array([0.2]))
    inlier = np.array([True, True, False, True])
    matrix = np.array([[1.0, 0, 2], [0, 1, 0], [0, 0, 1]])
    return make_registration(tie_points=tied, inlier=inlier, rejected=rejected, matrix=matrix)


def test_every_point_has_its_reason(judged: Registration) -> None:
    table = PointTable.of(judged)
    assert table.reason == (
        "",
        Reason.FAILED_FORWARD_BACKWARD,
        Reason.OUTLIER,
        Reason.FAILED_FORWARD_BACKWARD,
        Reason.REFUSED,
    )
    assert table.enable.tolist() == [True, False, False, False, False]
    assert table.inlier.tolist() == [True, True, False, True, False]
    assert table.score.tolist() == [0.9, 0.8, 0.7, 0.6, 0.2]


def test_residuals_are_those_of_the_transform(judged: Registration) -> None:
    table = PointTable.of(judged)
    assert table.residual_px.tolist() == [0, 0.5, 7, 0, 3]
    assert table.away.tolist() == [[0, 0], [0.5, 0], [7, 0], [0, 0], [3, 0]]


def test_points_without_a_forward_backward_check_pass_it(make_registration: Build) -> None:
    table = PointTable.of(make_registration())
    assert table.enable.tolist() == [True, True, True, False, False]
    assert set(table.reason) == {"", Reason.OUTLIER}


def test_a_failed_registration_has_points_and_no_residuals(make_registration: Build) -> None:
    table = PointTable.of(make_registration(status="failed", matrix=None))
    assert len(table) == 5
    assert np.isnan(table.residual_px).all()
    assert np.isnan(table.away).all()


def test_the_table_of_a_result_is_that_of_its_file(judged: Registration) -> None:
    first, second = PointTable.of(judged), PointTable.of(Registration.from_json(judged.to_json()))
    for name, value in vars(first).items():
        np.testing.assert_array_equal(getattr(second, name), value)


def test_enabled_points_alone_are_fitted(judged: Registration) -> None:
    assert PointTable.of(judged).enabled.fixed.tolist() == [[12, 20]]


def test_a_picture_lies_below_its_corner() -> None:
    """As QGIS shows a raster without georeference: (0, 0) is the corner of the first pixel, rows count downwards."""
    assert to_map(Grid(4, 3), [(0, 0), (3, 2)]).tolist() == [[0.5, -0.5], [3.5, -2.5]]


@pytest.mark.parametrize(
    "grid",
    [
        Grid(200, 150),
        Grid(200, 150, None, Affine(2, 0, 10, 0, -2, 20)),
        UTM,
        Grid(200, 150, CRS.from_epsg(32631), Affine.translation(5e5, 5e6) * Affine.rotation(30) * Affine.scale(3, -3)),
    ],
    ids=["picture", "world file", "north up", "rotated"],
)
def test_places_come_back(grid: Grid) -> None:
    np.testing.assert_allclose(from_map(grid, to_map(grid, PIXELS)), PIXELS, atol=1e-6)
    np.testing.assert_allclose(from_lon_lat(grid, to_lon_lat(grid, PIXELS)), PIXELS, atol=1e-6)


@given(x=st.floats(-50, 250), y=st.floats(-50, 200), epsg=st.sampled_from([3857, 32632, 4326]))
def test_coordinates_of_another_crs_find_their_pixel(x: float, y: float, epsg: int) -> None:
    other = CRS.from_epsg(epsg)
    there = from_crs(to_lon_lat(UTM, [(x, y)]), other)
    np.testing.assert_allclose(from_map(UTM, there, other), [(x, y)], atol=1e-4)


def from_crs(lon_lat: np.ndarray, crs: CRS) -> np.ndarray:
    """Longitude and latitude in a CRS, by a grid whose map coordinates are its pixels' corners."""
    plain = Grid(1, 1, crs, Affine.identity())
    return from_map(plain, lon_lat, CRS.from_epsg(4326)) + 0.5

"""Fields of points in GeoJSON, CSV and GeoPackage, one record at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from rrl_register.errors import InputError
from rrl_register.exchange.named_fields import columns, fixed_point, is_enabled, moving_point, number, table_of
from rrl_register.exchange.table import Grids, PointTable, from_gdal, to_gdal
from rrl_register.raster.grid import Grid

UTM = Grid(200, 150, CRS.from_epsg(32631), Affine(10, 0, 500_000, 0, -10, 5_000_000))
GRIDS = Grids(UTM, Grid(180, 160))
PLACES = st.floats(-1000, 1000).map(lambda value: round(value, 3))


@pytest.mark.parametrize(
    ("record", "place"),
    [
        ({"moving_x": 3, "moving_y": "4.5"}, (3, 4.5)),
        ({"moving_x": "", "moving_y": "", "col": 3.5, "row": 5}, (3, 4.5)),
        ({"moving_x": 3, "moving_y": 4.5, "col": 100, "row": 100}, (3, 4.5)),
        ({"moving_x": None, "moving_y": 1, "col": "3.5", "row": "5"}, (3, 4.5)),
        ({"moving_x": math.nan, "moving_y": 1, "col": 3.5, "row": 5}, (3, 4.5)),
    ],
)
def test_the_place_in_the_moving_image(record: dict[str, Any], place: tuple[float, float]) -> None:
    assert moving_point(record) == place


@pytest.mark.parametrize(
    "record", [{}, {"moving_x": 1}, {"col": 1}, {"moving_x": 1, "row": 2}, {"moving_x": "", "moving_y": 2}]
)
def test_a_record_without_a_place_in_the_moving_image(record: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="moving_x and moving_y, or col and row, are missing"):
        moving_point(record)


@pytest.mark.parametrize(
    ("record", "place"),
    [
        ({"fixed_x": 3, "fixed_y": "4"}, (3, 4)),
        ({"x": 500_035, "y": 4_999_955}, (3, 4)),
        ({"fixed_x": 3, "fixed_y": 4, "x": 0, "y": 0}, (3, 4)),
    ],
)
def test_the_place_in_the_fixed_image(record: dict[str, Any], place: tuple[float, float]) -> None:
    assert fixed_point(record, GRIDS) == pytest.approx(place)


@pytest.mark.parametrize("record", [{}, {"fixed_x": 1}, {"x": 1}, {"fixed_x": 1, "y": 2}])
def test_a_record_without_a_place_in_the_fixed_image(record: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="fixed_x and fixed_y, or x and y, are missing"):
        fixed_point(record, GRIDS)


@pytest.mark.parametrize("value", ["x", "", None, "nan", "inf", "-inf", [], {}, "1,5"])
def test_other_values_are_no_numbers(value: Any) -> None:
    with pytest.raises(InputError, match=r"score is .*, which is no number"):
        number({"score": value}, "score")


@pytest.mark.parametrize(
    ("value", "enabled"),
    [(1, True), ("Yes", True), (" true ", True), (None, True), (0, False), ("No", False), (False, False)],
)
def test_ways_to_enable_and_disable_a_point(value: Any, enabled: bool) -> None:
    assert is_enabled({"enable": value}) is enabled
    assert is_enabled({}) is True


@pytest.mark.parametrize("value", ["on", "2", 0.5, "-"])
def test_other_flags_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="use 1 or 0"):
        is_enabled({"enable": value})


def test_an_invalid_record_is_named_by_its_number() -> None:
    good = {"moving_x": 1, "moving_y": 2}
    with pytest.raises(InputError, match=r"^point 3: moving_y is 'far', which is no number$"):
        table_of([good, good, good | {"moving_y": "far"}], [(0, 0)] * 3)


@given(
    st.lists(
        st.tuples(PLACES, PLACES, PLACES, PLACES, st.booleans(), st.one_of(st.none(), st.floats(0, 1))), max_size=8
    )
)
def test_records_of_a_table_build_the_same_table(points: list[tuple[Any, ...]]) -> None:
    fixed, moving = [point[:2] for point in points], [point[2:4] for point in points]
    score = np.array([math.nan if point[5] is None else point[5] for point in points])
    table = PointTable.read(fixed, moving, [point[4] for point in points], score)
    names = columns(table, GRIDS)
    records = [dict(zip(names, row, strict=True)) for row in zip(*names.values(), strict=True)]
    back = table_of(records, [fixed_point(record, GRIDS) for record in records])
    for name in ("fixed", "moving", "enable", "score", "inlier"):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))


@given(st.tuples(PLACES, PLACES))
def test_gdal_counts_from_the_corner_of_a_pixel(place: tuple[float, float]) -> None:
    counted = to_gdal(np.array([place]))
    np.testing.assert_allclose(counted - place, 0.5)
    np.testing.assert_allclose(from_gdal(counted), [place])

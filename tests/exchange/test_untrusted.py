"""Files of strangers: RESULT.json and files of points whose every value may be wrong end in one line."""

from __future__ import annotations

import copy
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from rrl_register.config.files import MOST_POINTS
from rrl_register.errors import InputError
from rrl_register.exchange.formats import read_points, write_points
from rrl_register.exchange.registration import Registration, read_registration
from rrl_register.exchange.table import Grids, PointTable
from rrl_register.geometry.displacement import Displacement
from rrl_register.raster.grid import Grid

Make = Callable[..., Registration]
SECONDS = 20
"""Longest time of a refusal, on a slow machine."""


@pytest.fixture(scope="module")
def content(make_registration: Make) -> dict[str, Any]:
    """A RESULT.json with every field."""
    hull = np.array([(0.0, 0), (99, 0), (99, 99)])
    plate = Displacement(1, np.zeros((3, 2)), hull / 50, np.zeros((3, 2)), np.full(2, 50.0), 50.0, hull)
    grid = Grid(200, 200, CRS.from_epsg(32633), Affine(10, 0, 5e5, 0, -10, 5e6))
    result = make_registration(
        displacement=plate,
        covariance=np.eye(8),
        uncertainty_px={"mean": 0.1, "max": 0.2},
        similarity={"before": {"nmi": 1.0, "gradient_ssim": 0.1}},
        fixed_grid=grid,
        moving_grid=grid,
    )
    return json.loads(json.dumps(result.to_json()))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value, and to the first of each list."""
    if isinstance(value, dict):
        return [at, *(way for name, item in value.items() for way in places(item, (*at, name)))]
    if isinstance(value, list) and value:
        return [at, *places(value[0], (*at, 0))]
    return [at]


def changed(content: dict[str, Any], way: tuple[Any, ...], value: Any) -> Any:
    data = copy.deepcopy(content)
    if not way:
        return value
    part: Any = data
    for step in way[:-1]:
        part = part[step]
    part[way[-1]] = value
    return data


@pytest.mark.parametrize(
    "value", ["x", "9", -1, 1e300, float("nan"), float("inf"), 10**30, True, [], {}, [[]], None, "\u202e<b>"]
)
def test_any_value_at_any_place_is_read_or_refused(content: dict[str, Any], tmp_path: Path, value: Any) -> None:
    path, refused = tmp_path / "r.json", 0
    for way in places(content):
        path.write_text(json.dumps(changed(content, way, value)))
        try:
            read_registration(path)
        except InputError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    ("way", "value", "message"),
    [
        (("displacement", "degree"), 10**9, "displacement.degree"),
        (("displacement", "degree"), 2, "do not belong to degree 2"),
        (("displacement", "knots"), [[0.5, 0.5]] * 100_000, "displacement.knots"),
        (("displacement", "scale"), 0, "displacement.scale"),
        (("displacement", "hull"), [[0, 0], [1, 1], [1, 1]], "corner of the hull is repeated"),
        (("fixed_grid", "width"), 10**9, "fixed_grid.width"),
        (("fixed_grid", "transform"), [0, 0, 0, 0, 0, 0], "no inverse"),
        (("fixed_grid", "crs"), "http://127.0.0.1:9/crs", "no code such as EPSG"),
        (("matrix",), [[0, 0, 0]] * 3, "singular"),
        (("matrix",), [[1, 0, 0], [0, 1, 0]], "matrix: List should have at least 3 items"),
        (("matrix", 0, 0), "1", "valid number"),
        (("confidence",), 1.5, "confidence"),
        (("fixed_kind",), "<b>", "fixed_kind"),
    ],
)
def test_impossible_values_are_named(
    content: dict[str, Any], tmp_path: Path, way: tuple[Any, ...], value: Any, message: str
) -> None:
    (tmp_path / "r.json").write_text(json.dumps(changed(content, way, value)))
    with pytest.raises(InputError, match=message):
        read_registration(tmp_path / "r.json")


def test_too_many_tie_points_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    path, point = tmp_path / "r.json", content["tie_points"][0]
    for count in (MOST_POINTS + 1, 1_000_000):
        path.write_text(json.dumps(changed(content, ("tie_points",), [point] * count)))
        begun = time.monotonic()
        with pytest.raises(InputError, match=r"100000|too many here"):
            read_registration(path)
        assert time.monotonic() - begun < SECONDS


def test_all_fields_come_back(content: dict[str, Any]) -> None:
    assert json.loads(json.dumps(Registration.from_json(content).to_json())) == content
    former = {name: value for name, value in content.items() if name not in ("rejected", "covariance", "similarity")}
    assert Registration.from_json({**former, "schema": 1}).n_inliers == 3


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "{}", '{"schema": 2}', '{"schema": [2]}', "[" * 100_000])
def test_other_json_is_no_result(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError):
        read_registration(tmp_path / "r.json")


ON_MAP = Grid(200, 200, CRS.from_epsg(32633), Affine(10, 0, 5e5, 0, -10, 5e6))
GRIDS = Grids(ON_MAP, ON_MAP)
FEATURE = '{{"type": "Feature", "geometry": {{"type": "Point", "coordinates": {0}}}, "properties": {1}}}'
MOVING = '{"moving_x": 1, "moving_y": 1}'
POINTS = {
    "digits.gcp": "-gcp " + "1" * 200_000 + "x",
    "spaces.gcp": "-gcp 1" + " " * 200_000 + "x",
    "options.gcp": "-gcp 1 1 1 " * 50_000,
    "infinite.gcp": "-gcp 1 1 1e999 1",
    "many.gcp": "-gcp 1 1 1 1\n" * (MOST_POINTS + 1),
    "address.points": "#CRS: http://127.0.0.1:9/\nmapX,mapY,sourceX,sourceY,enable\n1,1,1,1,1\n",
    "pole.points": f"#CRS: {CRS.from_epsg(4326).to_wkt()}\nmapX,mapY,sourceX,sourceY,enable\n1,1e30,1,1,1\n",
    "nan.points": "mapX,mapY,sourceX,sourceY,enable\nnan,1,1,1,1\n",
    "many.points": "mapX,mapY,sourceX,sourceY,enable\n" + "1,1,1,1,1\n" * (MOST_POINTS + 1),
    "nested.geojson": '{"type": "FeatureCollection", "features": ' + "[" * 100_000,
    "deep.geojson": FEATURE.format("[" * 500 + "]" * 500, MOVING),
    "pole.geojson": FEATURE.format("[500, 100]", MOVING),
    "huge.geojson": FEATURE.format("[1, 45]", '{"moving_x": 1' + "0" * 4000 + ', "moving_y": 1}'),
    "infinite.geojson": FEATURE.format("[Infinity, 45]", MOVING),
    "texts.geojson": FEATURE.format('"ab"', MOVING),
    "objects.geojson": FEATURE.format('{"0": 1}', MOVING),
    "columns.csv": "a," * 200_000 + "\n1\n",
    "cell.csv": "fixed_x,fixed_y,moving_x,moving_y\n" + "1" * 200_000 + ",1,1,1\n",
    "quote.csv": 'fixed_x,fixed_y,moving_x,moving_y\n"' + "1,1,1,1\n" * 50_000,
    "null.csv": "fixed_x,fixed_y,moving_x,moving_y\n\0,1,1,1\n",
    "many.csv": "fixed_x,fixed_y,moving_x,moving_y\n" + "1,1,1,1\n" * (MOST_POINTS + 1),
    "text.gpkg": "no database",
}


@pytest.mark.parametrize("name", POINTS)
def test_points_that_do_harm_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(POINTS[name])
    begun = time.monotonic()
    with pytest.raises(InputError) as caught:
        read_points(tmp_path / name, GRIDS)
    assert time.monotonic() - begun < SECONDS
    assert "\n" not in str(caught.value)


@pytest.fixture
def package(make_registration: Make, tmp_path: Path) -> Path:
    """A GeoPackage of points, as this program writes it."""
    pytest.importorskip("pyogrio", reason="pyogrio is not installed")
    write_points(tmp_path / "p.gpkg", PointTable.of(make_registration(fixed_grid=ON_MAP, moving_grid=ON_MAP)), GRIDS)
    return tmp_path / "p.gpkg"


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS fid, NULL AS geom FROM n"


@pytest.mark.parametrize("table", ["tie_points", "gpkg_contents", "gpkg_geometry_columns"])
def test_a_layer_that_never_ends_is_refused(package: Path, table: str) -> None:
    with sqlite3.connect(package) as database:
        database.execute(f"DROP TABLE {table}")
        database.execute(f"CREATE VIEW {table} AS {ENDLESS}")
    database.close()
    with pytest.raises(InputError, match="is a view"):
        read_points(package, GRIDS)


def test_a_view_beside_the_layer_is_of_no_matter(package: Path) -> None:
    with sqlite3.connect(package) as database:
        database.execute(f"CREATE VIEW other AS {ENDLESS}")
    database.close()
    assert len(read_points(package, GRIDS)) == 5

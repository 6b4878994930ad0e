"""STAC items of warped images."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from zipfile import ZipFile

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from rrl_register.errors import UsageError
from rrl_register.exchange import stac
from rrl_register.exchange.registration import Registration
from rrl_register.exchange.stac import acquired, require_pystac, stac_item
from rrl_register.raster.grid import Grid

pystac = pytest.importorskip("pystac")

UTM = Grid(200, 100, CRS.from_epsg(32631), Affine(10, 0, 500_000, 0, -10, 5_000_000))
OWN_CRS = CRS.from_string("+proj=laea +lat_0=47 +lon_0=3 +x_0=500000 +y_0=5000000 +ellps=GRS80")
UNCODED = Grid(200, 100, OWN_CRS, UTM.transform)
PICTURE = Grid(200, 100)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CORE = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
every_grid = pytest.mark.parametrize("grid", [UTM, UNCODED, PICTURE], ids=["georeferenced", "own CRS", "picture"])


@pytest.fixture
def described(
    tmp_path: Path, make_raster: Callable[..., Path], make_registration: Callable[..., Registration]
) -> Callable[..., dict[str, Any]]:
    moving = make_raster(np.zeros((8, 8), np.uint8), "moving.tif")
    (tmp_path / "items").mkdir()

    def describe(grid: Grid = UTM) -> dict[str, Any]:
        names = {name: tmp_path / file for name, file in (("fixed", "fixed.tif"), ("result", "items/result.json"))}
        result = make_registration(fixed_grid=grid, check_rmse_px=0.75)
        path, output = tmp_path / "items" / "item.json", tmp_path / "out" / "aligned.tif"
        return stac_item(path, output, result, moving=moving, now=NOW, **names)

    return describe


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Any:
    """pystac's validator with the schemas that pystac brings, those of STAC 1.1; others it cannot get."""
    pytest.importorskip("jsonschema")
    from pystac.validation.stac_validator import JsonSchemaSTACValidator

    def refuse() -> NoReturn:
        raise AssertionError("asks the network for a schema")

    monkeypatch.setattr(pystac.StacIO, "default", refuse)
    return JsonSchemaSTACValidator()


@pytest.fixture
def validator(core: Any) -> Any:
    """The same, with the schema of the projection extension from what tests/schemas.txt names."""
    wheels = list((Path(sys.prefix) / "schemas").glob("eopf-*.whl"))
    if not wheels:
        pytest.skip("no schema of the projection extension; make test fetches it")
    with ZipFile(wheels[0]) as wheel:
        schema = json.loads(wheel.read("eopf/product/stac_extensions/extensions/projection_v2.0.0.json"))
    assert schema["$id"] == PROJECTION
    core.schema_cache[PROJECTION] = schema
    return core


@every_grid
def test_the_item_fits_the_core_s_schema(described: Callable[..., dict[str, Any]], core: Any, grid: Grid) -> None:
    from pystac.validation import validate_dict

    item = described(grid)
    assert validate_dict(item, extensions=[], validator=core) == [CORE]
    with pytest.raises(pystac.STACValidationError):
        validate_dict({**item, "geometry": "here"}, extensions=[], validator=core)


@every_grid
def test_the_item_fits_the_schemas_of_core_and_projection(
    described: Callable[..., dict[str, Any]], validator: Any, grid: Grid
) -> None:
    from pystac.validation import validate_dict

    assert validate_dict(described(grid), validator=validator) == [CORE, PROJECTION]


@pytest.mark.parametrize(
    "wrong",
    [
        {"proj:transform": [10, 0, 500_000, 0, -10]},
        {"proj:shape": [100, 200, 3]},
        {"proj:shape": [100.5, 200]},
        {"proj:bbox": [500_000, 4_999_000, 502_000]},
        {"proj:code": 32631},
        {"proj:epsg": 32631},
    ],
    ids=str,
)
def test_the_projection_s_schema_tells_what_is_wrong(
    described: Callable[..., dict[str, Any]], validator: Any, wrong: dict[str, Any]
) -> None:
    """It says nothing of negative sizes, or whether code, transform and bounds fit each other."""
    from pystac.validation import validate_dict

    item = described()
    item["properties"] |= wrong
    with pytest.raises(pystac.STACValidationError, match=f"against schema at {PROJECTION}"):
        validate_dict(item, validator=validator)


def test_pystac_reads_projection_and_figures(described: Callable[..., dict[str, Any]]) -> None:
    from pystac.extensions.projection import ProjectionExtension

    item = pystac.Item.from_dict(described())
    projection = ProjectionExtension.ext(item)
    assert (projection.code, projection.shape) == ("EPSG:32631", [100, 200])
    assert projection.transform == [10, 0, 500_000, 0, -10, 5_000_000]
    assert projection.bbox == [500_000, 4_999_000, 502_000, 5_000_000]
    assert item.properties["rrl:check_rmse_px"] == 0.75
    assert item.datetime == NOW


def test_the_footprint_holds_the_image(described: Callable[..., dict[str, Any]]) -> None:
    item = described()
    ring = np.array(item["geometry"]["coordinates"][0])
    (x0, y0), (x1, y1) = ring[:-1].T, ring[1:].T
    assert np.array_equal(ring[0], ring[-1])
    assert float(np.sum(x0 * y1 - x1 * y0)) > 0  # anticlockwise
    assert item["bbox"] == [*ring.min(axis=0), *ring.max(axis=0)]
    assert item["bbox"][:2] == pytest.approx([3.0, 45.144], abs=0.01)


def test_files_are_named_from_where_the_item_is(described: Callable[..., dict[str, Any]]) -> None:
    item = described()
    assert {name: asset["href"] for name, asset in item["assets"].items()} == {
        "aligned": "../out/aligned.tif",
        "registration": "result.json",
    }
    sources = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
    assert sources == ["../fixed.tif", "../moving.tif"]


def test_without_a_georeference_there_is_no_place(described: Callable[..., dict[str, Any]]) -> None:
    item = described(PICTURE)
    assert item["geometry"] is None
    assert "bbox" not in item or item["bbox"] is None
    assert item["properties"]["proj:code"] is None
    assert item["properties"]["proj:shape"] == [100, 200]
    assert "proj:transform" not in item["properties"]


def test_a_crs_without_a_code_is_told_in_full(described: Callable[..., dict[str, Any]]) -> None:
    properties = described(UNCODED)["properties"]
    assert properties["proj:code"] is None
    assert CRS.from_wkt(properties["proj:wkt2"]) == OWN_CRS


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"TIFFTAG_DATETIME": "2021:03:04 05:06:07"}, datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)),
        ({"ACQUISITIONDATETIME": "2020-01-02T03:04:05Z"}, datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ({"TIFFTAG_DATETIME": "yesterday"}, None),
        ({}, None),
    ],
)
def test_the_time_is_the_image_s_own(
    make_raster: Callable[..., Path], tags: dict[str, str], expected: datetime | None
) -> None:
    assert acquired(make_raster(np.zeros((8, 8), np.uint8), tags=tags)) == expected


def test_without_pystac_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stac, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'rrl-register\[stac\]'"):
        require_pystac()

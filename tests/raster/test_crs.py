"""CRS texts of files: what is read as before, and what would open a file or ask a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rasterio.crs import CRS

from rrl_register.errors import InputError
from rrl_register.raster.crs import crs_from_text
from rrl_register.raster.grid import Grid, crs_text

WEB_MERCATOR = "+proj=merc +a=6378137 +b=6378137 +nadgrids=@null +wktext +no_defs"
RD_GRIDS = "+proj=sterea +lat_0=52.2 +lon_0=5.4 +k=0.9999079 +ellps=bessel +nadgrids=rdtrans2008.gsb +units=m"


def texts(crs: CRS) -> list[str]:
    return [crs.to_wkt(), crs.to_wkt(version="WKT2_2019"), json.dumps(crs.to_dict(projjson=True))]


@pytest.mark.parametrize(
    "code", ["EPSG:32633", "EPSG:4326+5773", "OGC:CRS84", "ESRI:54009", "IAU_2015:30100", "EPSG:3857"]
)
def test_codes_wkt_and_projjson_are_read(code: str) -> None:
    crs = CRS.from_user_input(code)
    assert crs_from_text(code) == crs
    assert crs_from_text(f"  {crs_text(crs)}\n") == crs
    assert all(crs_from_text(text) == CRS.from_user_input(text) for text in texts(crs))


def test_the_grid_that_shifts_nothing_is_no_file() -> None:
    assert all(crs_from_text(text) for text in texts(CRS.from_user_input(WEB_MERCATOR)))


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("definition", [RD_GRIDS, "+proj=utm +zone=32 +geoidgrids=egm96_15.gtx"])
def test_grids_of_shifts_are_refused_under_any_name(definition: str, which: int) -> None:
    text = texts(CRS.from_user_input(definition))[which]
    for hidden in (text, text.replace("using nadgrids=", "").replace("using geoidgrids=", "")):
        with pytest.raises(InputError, match="no code such as"):
            crs_from_text(hidden)


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:9/crs.wkt",
        "/etc/passwd",
        "crs.prj",
        "/vsicurl/http://127.0.0.1:9/crs",
        "+init=epsg:4326",
        "+proj=utm +zone=33",
        'GEOGCS["x",EXTENSION["PROJ4","+proj=longlat +nadgrids=@null,/etc/passwd"]]',
        'GEOGCS["x",DATUM["y",SPHEROID["z",1,0],EXTENSION["PROJ4_GRIDS","/etc/passwd"]]]',
        '{"type": "GeographicCRS", "x": {"valu\\u0065": "/etc/passwd"}}',
        "",
        "[" * 1000,
        '{"a":' * 9000,
        "{" + "[" * 60_000,
        "PROJCS[",
        "PROJCS" + " " * 60_000,
        "EPSG:99999999",
        "EPSG:" + "9" * 50,
        "EPSG:abc",
        "x" * 10**6,
        5,
        ["EPSG:4326"],
        {"init": "epsg:4326"},
    ],
)
def test_all_else_is_an_error_of_one_line(text: object) -> None:
    with pytest.raises(InputError) as caught:
        crs_from_text(text)
    assert len(str(caught.value)) < 400


def test_no_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("local.prj").write_text(CRS.from_epsg(32633).to_wkt())
    for text in ("local.prj", str(tmp_path / "local.prj")):
        with pytest.raises(InputError):
            Grid.from_dict({"width": 5, "height": 5, "crs": text, "transform": None})

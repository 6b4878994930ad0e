"""STAC item collections as manifests: which images they make scenes of, and what they are refused for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rrl_register.batch.manifest import read_collection
from rrl_register.config import Kind, ReadConfig, RegisterConfig
from rrl_register.errors import InputError, UsageError

PAIR = ("vv", "red")


def item(name: str, **hrefs: str) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": {"type": "Point", "coordinates": [8.0, 47.0]},
        "bbox": [8.0, 47.0, 8.0, 47.0],
        "properties": {"datetime": "2026-05-03T00:00:00Z"},
        "links": [],
        "assets": {key: {"href": href} for key, href in hrefs.items()},
    }


def collection(path: Path, *items: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return path


def test_assets_of_one_item_are_a_scene(tmp_path: Path) -> None:
    config = RegisterConfig(read=ReadConfig(moving_kind=Kind.SAR))
    file = collection(
        tmp_path / "c.json", item("a", red="opt/a.tif", vv="sar/a.tif"), item("b", red="b.tif", vv="c.tif")
    )
    found = read_collection(file, *PAIR, config)
    assert [(s.id, s.fixed, s.moving) for s in found.scenes] == [
        ("a", tmp_path / "opt/a.tif", tmp_path / "sar/a.tif"),
        ("b", tmp_path / "b.tif", tmp_path / "c.tif"),
    ]
    assert {scene.config for scene in found.scenes} == {config}
    assert found.source == str(file)


def test_a_reference_is_the_fixed_image_of_every_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = collection(tmp_path / "c.geojson", item("a", vv="a.tif"), item("b", vv="b.tif"))
    (tmp_path / "ref.tif").touch()
    monkeypatch.chdir(tmp_path)
    found = read_collection(file, "vv", fixed=Path("ref.tif"))
    assert {scene.fixed for scene in found.scenes} == {tmp_path / "ref.tif"}


def test_items_of_two_collections_pair_by_id(tmp_path: Path) -> None:
    (tmp_path / "optical").mkdir()
    moving = collection(tmp_path / "sar.json", item("a", vv="a.tif"), item("b", vv="b.tif"))
    fixed = collection(
        tmp_path / "optical" / "o.json", item("b", red="b.tif"), item("a", red="a.tif"), item("c", red="c")
    )
    found = read_collection(moving, *PAIR, fixed=fixed)
    assert [(s.id, s.fixed, s.moving) for s in found.scenes] == [
        (name, tmp_path / "optical" / f"{name}.tif", tmp_path / f"{name}.tif") for name in "ab"
    ]


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("https://host/a.tif?key=1", "/vsicurl/https:/host/a.tif?key=1"),  # GDAL takes one slash, too
        ("S3://bucket/x/a.tif", "/vsis3/bucket/x/a.tif"),
        ("gs://bucket/a.tif", "/vsigs/bucket/a.tif"),
        ("az://container/a.tif", "/vsiaz/container/a.tif"),
        ("file:///data/a%20b.tif", "/data/a b.tif"),
        ("/data/a.tif", "/data/a.tif"),
        ("/vsizip/a.zip/a.tif", "/vsizip/a.zip/a.tif"),
    ],
)
def test_addresses_become_what_gdal_reads(tmp_path: Path, href: str, path: str) -> None:
    file = collection(tmp_path / "c.json", item("a", red="r.tif", vv=href))
    assert str(read_collection(file, *PAIR).scenes[0].moving) == path


def test_all_that_is_wrong_with_items_is_told_at_once(tmp_path: Path) -> None:
    file = collection(
        tmp_path / "c.json", item("a", red="r.tif"), item("b", vv="v.tif"), item("c", red="r.tif", vv="ftp://h/v.tif")
    )
    with pytest.raises(UsageError) as raised:
        read_collection(file, *PAIR)
    assert "'a' has no asset 'vv' (it has red)" in str(raised.value)
    assert "'b' has no asset 'red' (it has vv)" in str(raised.value)
    assert "ftp://h/v.tif has an unknown scheme" in str(raised.value)


def test_an_item_without_partner_is_refused(tmp_path: Path) -> None:
    moving = collection(tmp_path / "m.json", item("a", vv="a.tif"), item("b", vv="b.tif"))
    fixed = collection(tmp_path / "f.json", item("a", red="a.tif"))
    with pytest.raises(UsageError, match=r"f\.json has no item 'b'"):
        read_collection(moving, *PAIR, fixed=fixed)


def test_ids_name_files_once_each(tmp_path: Path) -> None:
    for names, said in ((("a", "A"), "is also the id of"), (("a/b",), "cannot name files")):
        file = collection(tmp_path / "c.json", *(item(name, red="r.tif", vv="v.tif") for name in names))
        with pytest.raises(UsageError, match=said):
            read_collection(file, *PAIR)


@pytest.mark.parametrize(
    ("asset", "fixed", "said"),
    [(None, None, "pass --fixed-asset KEY"), ("red", Path("ref.tif"), "--fixed-asset is given beside the one image")],
)
def test_a_request_that_makes_no_pairs(tmp_path: Path, asset: str | None, fixed: Path | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_collection(collection(tmp_path / "c.json", item("a", vv="a.tif")), "vv", asset, fixed=fixed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps(item("a")), "no STAC item collection but a Feature;"),
        (json.dumps({"type": "Collection", "id": "c"}), "no STAC item collection but a Collection;"),
        ("[1]", "no STAC item collection but something else;"),
        ("{", "Cannot read"),
        ('{"type": "FeatureCollection", "features": [{"type": "Feature", "stac_version": "1.0.0"}]}', "Cannot read"),
    ],
)
def test_what_is_no_item_collection(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as raised:
        read_collection(path, *PAIR)
    assert "\n" not in str(raised.value)


def test_an_empty_collection_holds_no_scene(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no scene"):
        read_collection(collection(tmp_path / "c.json"), *PAIR)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystac", None)
    with pytest.raises(UsageError, match=r"rrl-register\[stac\]"):
        read_collection(collection(tmp_path / "c.json", item("a", red="r", vv="v")), *PAIR)

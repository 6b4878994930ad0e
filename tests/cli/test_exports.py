"""Tie points and STAC items on the command line, and fitting again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner, Result
from rasterio.crs import CRS

from rrl_register.cli import main
from rrl_register.config import RegisterConfig
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.geometry.transforms import project
from rrl_register.pipeline import register as pipeline
from rrl_register.raster.grid import Grid

SHIFT = np.array([[1.0, 0, 6], [0, 1, -4], [0, 0, 1]])
GRID = Grid(160, 120, CRS.from_epsg(32631), Affine(10, 0, 500_000, 0, -10, 5_000_000))


class Desk:
    """A folder with two images, and a pipeline that gives a known answer instead of matching."""

    def __init__(self, folder: Path, answer: Registration) -> None:
        self.folder, self.answer = folder, answer
        self.config: RegisterConfig | None = None

    def register(self, fixed: Path, moving: Path, config: RegisterConfig, **_: object) -> Registration:
        self.config = config
        return self.answer

    def path(self, name: str) -> Path:
        return self.folder / name

    def run(self, *words: str) -> Result:
        """Call the command line; words with a dot are files of the folder."""
        return CliRunner().invoke(main, [str(self.path(word)) if "." in word else word for word in words])


@pytest.fixture
def desk(
    make_raster: Callable[..., Path],
    make_registration: Callable[..., Registration],
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    for name in ("fixed.tif", "moving.tif"):
        make_raster(rng.integers(1, 255, GRID.shape, np.uint8), name, crs=GRID.crs, transform=GRID.transform)
    moving = rng.uniform(20, 110, (30, 2))
    fixed = project(SHIFT, moving)
    fixed[:4] += 9
    fields = {
        "tie_points": TiePoints(fixed[:28], moving[:28], np.full(28, 0.9)),
        "inlier": np.arange(28) >= 4,
        "rejected": TiePoints(fixed[28:], moving[28:], np.full(2, 0.1)),
    }
    made = Desk(tmp_path, make_registration(matrix=SHIFT, fixed_grid=GRID, moving_grid=GRID, **fields))
    monkeypatch.setattr(pipeline, "register", made.register)
    return made


def features(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["features"]
    return found


def test_register_writes_every_format_asked_for(desk: Desk) -> None:
    wanted = ["--tie-points", "p.geojson", "--tie-points", "p.csv", "--tie-points", "p.points"]
    done = desk.run("fixed.tif", "moving.tif", "--json", "r.json", *wanted)
    assert done.exit_code == 0, done.output
    names = ["r.json", "p.geojson", "p.csv", "p.points"]
    assert done.stdout.split() == [str(desk.path(name)) for name in names]
    reasons = [feature["properties"]["reason"] for feature in features(desk.path("p.geojson"))]
    assert [reasons.count(reason) for reason in ("", "outlier", "refused")] == [24, 4, 2]


def test_tie_points_of_a_result_are_the_same(desk: Desk) -> None:
    desk.run("fixed.tif", "moving.tif", "--json", "r.json", "--tie-points", "p.geojson", "--tie-points", "p.points")
    done = desk.run("tie-points", "r.json", "-o", "again.geojson", "-o", "again.points")
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [str(desk.path("again.geojson")), str(desk.path("again.points"))]
    for suffix in ("geojson", "points"):
        assert desk.path(f"again.{suffix}").read_text() == desk.path(f"p.{suffix}").read_text()


def test_a_failure_leaves_its_tie_points(desk: Desk, make_registration: Callable[..., Registration]) -> None:
    desk.answer = make_registration(status="failed", reason="too few; try more", matrix=None)
    done = desk.run("fixed.tif", "moving.tif", "-o", "a.tif", "--tie-points", "p.csv", "--stac", "item.json")
    assert done.exit_code == 4
    assert len(desk.path("p.csv").read_text().splitlines()) == 6
    assert not desk.path("item.json").exists()


def test_a_stac_item_describes_the_output(desk: Desk) -> None:
    pytest.importorskip("pystac")
    done = desk.run("fixed.tif", "moving.tif", "-o", "a.tif", "--json", "r.json", "--stac", "item.json")
    assert done.exit_code == 0, done.output
    item = json.loads(desk.path("item.json").read_text())
    with rasterio.open(desk.path("a.tif")) as output:
        assert item["properties"]["proj:shape"] == list(output.shape)
        assert item["properties"]["proj:transform"] == list(output.transform)[:6]
        assert item["properties"]["proj:code"] == output.crs.to_string()
    assert {name: asset["href"] for name, asset in item["assets"].items()} == {
        "aligned": "a.tif",
        "registration": "r.json",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "fixed.tif moving.tif -o a.tif --tie-points p.shp",
            "p.shp has no suffix of a format of tie points; choose one of .geojson, .csv",
        ),
        ("fixed.tif moving.tif -o a.tif --tie-points no/p.csv", "does not exist"),
        ("fixed.tif moving.tif -o a.tif --tie-points a.tif", "a.tif has no suffix of a format"),
        ("fixed.tif moving.tif -o a.tif --tie-points p.csv --tie-points p.csv", "the same name"),
        ("fixed.tif moving.tif --json r.json --stac item.json", "--stac describes an output, and -o is missing"),
        ("fixed.tif moving.tif -o a.tif --init-points p.csv", "does not exist"),
        ("tie-points r.json -o p.csv", "does not exist"),
        ("tie-points fixed.tif -o p.json", "p.json has no suffix of a format"),
        ("refit p.csv fixed.tif moving.tif", "Neither -o nor --json"),
        ("refit p.csv fixed.tif moving.tif -o a.tif", "does not exist"),
        ("refit fixed.tif fixed.tif moving.tif -o a.tif", "no suffix of a format of tie points"),
    ],
)
def test_wrong_use_is_told_before_any_work(desk: Desk, words: str, said: str) -> None:
    done = desk.run(*words.split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert desk.config is None


def test_init_points_reach_the_pipeline(desk: Desk) -> None:
    desk.path("start.csv").write_text("fixed_x,fixed_y,moving_x,moving_y\n")
    assert desk.run("fixed.tif", "moving.tif", "--json", "r.json", "--init-points", "start.csv").exit_code == 0
    assert desk.config is not None
    assert desk.config.match.init_points == desk.path("start.csv")


@pytest.mark.parametrize("source", ["r.json", "p.points", "p.geojson", "p.csv", "p.gcp"])
def test_refit_finds_the_transform_in_any_format(desk: Desk, source: str) -> None:
    desk.run("fixed.tif", "moving.tif", "--json", "r.json", *(["--tie-points", source] if source[0] == "p" else []))
    done = desk.run("refit", source, "fixed.tif", "moving.tif", "--json", "again.json", "--model", "translation")
    assert done.exit_code == 0, done.output
    assert "Registered with translation: 24 inliers of 24 tie points" in done.stderr
    assert "confidence unknown" in done.stderr
    again = json.loads(desk.path("again.json").read_text())
    np.testing.assert_allclose(again["matrix"], SHIFT, atol=1e-3)
    assert set(again) == set(json.loads(desk.path("r.json").read_text()))


def test_rows_switched_off_in_qgis_are_left_out(desk: Desk) -> None:
    desk.run("fixed.tif", "moving.tif", "--json", "r.json", "--tie-points", "p.points")
    lines = desk.path("p.points").read_text().splitlines()
    off = [line.replace(",1,", ",0,", 1) if n % 2 else line for n, line in enumerate(lines)]
    desk.path("p.points").write_text("\n".join(off))
    done = desk.run("refit", "p.points", "fixed.tif", "moving.tif", "--json", "again.json")
    assert done.exit_code == 0, done.output
    assert json.loads(desk.path("again.json").read_text())["n_tie_points"] == 12


def test_refit_warps_and_describes(desk: Desk) -> None:
    pytest.importorskip("pystac")
    desk.run("fixed.tif", "moving.tif", "--json", "r.json")
    outputs = ["-o", "a.tif", "--tie-points", "p.csv", "--stac", "item.json"]
    done = desk.run("refit", "r.json", "fixed.tif", "moving.tif", *outputs)
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [str(desk.path(name)) for name in ("p.csv", "a.tif", "item.json")]
    with rasterio.open(desk.path("a.tif")) as warped, rasterio.open(desk.path("moving.tif")) as moving:
        np.testing.assert_array_equal(warped.read(1)[10:80, 20:100], moving.read(1)[14:84, 14:94])
    assert json.loads(desk.path("item.json").read_text())["properties"]["rrl:confidence"] is None


def test_a_refit_that_fails_is_written_down(desk: Desk) -> None:
    desk.path("p.csv").write_text("fixed_x,fixed_y,moving_x,moving_y\n10,20,30,40\n50,60,70,80\n")
    done = desk.run("refit", "p.csv", "fixed.tif", "moving.tif", "-o", "a.tif", "--json", "r.json", "--model", "affine")
    assert done.exit_code == 4
    assert "2 enabled points determine no affine transform" in done.stderr
    assert json.loads(desk.path("r.json").read_text())["status"] == "failed"
    assert not desk.path("a.tif").exists()

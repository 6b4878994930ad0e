"""The lines of the documentation that run GDAL's programs are run as they are shown, on a real pair's tie points."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from docs_lines import PAGES, lines_of
from rrl_register.cli import main
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.geometry.transforms import project
from rrl_register.raster.reader import open_info

GDAL = ("gdal_translate", "gdalwarp", "gdaltransform")
LINES = [line.text for page in PAGES for line in lines_of(page) if any(each in line.text.split() for each in GDAL)]
AFFINE = np.array([[0.98, 0.05, 40.0], [-0.04, 1.02, -25.0], [0.0, 0.0, 1.0]])
"""Moving pixel -> fixed pixel: what GDAL's first order can follow."""
PLACE_TOLERANCE_M = 0.01
"""A 500th of a pixel."""

needs_gdal = pytest.mark.skipif(
    not all(map(shutil.which, GDAL)), reason=f"{', '.join(GDAL)} are not all on PATH; `make gdal` tries to install them"
)


@pytest.fixture
def world(
    samples: Path, make_registration: Callable[..., Registration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The working directory: the moving image, and the points of its registration as our command writes them."""
    moving = np.stack(np.meshgrid(np.linspace(60, 420, 6), np.linspace(60, 320, 5)), axis=-1).reshape(-1, 2)
    registration = make_registration(
        model="affine",
        matrix=AFFINE,
        fixed_grid=open_info(samples / "rgb_nir_fixed.tif").grid,
        moving_grid=open_info(samples / "rgb_nir_moving.tif").grid,
        tie_points=TiePoints(project(AFFINE, moving), moving, np.full(len(moving), 0.9)),
        inlier=np.ones(len(moving), bool),
        n_tie_points=len(moving),
        n_inliers=len(moving),
    )
    monkeypatch.chdir(tmp_path)
    shutil.copy(samples / "rgb_nir_moving.tif", "MOVING.tif")
    Path("RESULT.json").write_text(json.dumps(registration.to_json()))
    words = ["tie-points", "RESULT.json", "-o", "POINTS.gcp"]
    assert CliRunner(catch_exceptions=False).invoke(main, words).exit_code == 0
    return tmp_path


def on_the_map(samples: Path, column: float, row: float) -> tuple[float, float]:
    """Where the known transform puts a place of the moving image, px from its corner."""
    x, y = project(AFFINE, np.array([[column - 0.5, row - 0.5]]))[0]
    with rasterio.open(samples / "rgb_nir_fixed.tif") as fixed:
        return fixed.transform @ (x + 0.5, y + 0.5)


def shell(line: str) -> str:
    return subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout


def test_the_lines_are_those_that_are_run_here() -> None:
    assert [next(program for program in GDAL if program in line.split()) for line in LINES] == list(GDAL)


@needs_gdal
def test_lines_put_the_image_where_the_transform_puts_it(world: Path, samples: Path) -> None:
    translate, warp, transform = LINES
    shell(translate)
    with rasterio.open("WITH_GCPS.tif") as given:
        points, crs = given.gcps
    assert len(points) == 30
    assert crs.to_epsg() == 32618
    shell(warp)
    with rasterio.open("ROUGH.tif") as rough, rasterio.open("MOVING.tif") as moving:
        assert rough.crs.to_epsg() == 32618
        assert not rough.gcps[0]
        data, place = rough.read(1), ~rough.transform @ on_the_map(samples, 250.5, 200.5)
        known = moving.read(1)
    column, row = int(place[0]), int(place[1])
    around = data[row - 3 : row + 4, column - 3 : column + 4]
    assert known[197:204, 247:254].mean() == pytest.approx(around.mean(), abs=8)
    words = transform.split()
    x, y = map(float, words[1:3])
    found = [float(each) for each in shell(transform).split()[:2]]
    assert found == pytest.approx(on_the_map(samples, x, y), abs=PLACE_TOLERANCE_M)

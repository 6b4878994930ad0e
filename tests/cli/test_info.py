"""``rrl-register info``: properties of two images, or of one, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner, Result

import rrl_register.pipeline.dry_run
from rrl_register.cli import main
from rrl_register.config import Device

Make = Callable[..., Path]
GEO = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}


@pytest.fixture
def pair(make_raster: Make, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two georeferenced images, and a network that is not loaded."""

    def scorer(weights: Path | None, device: Device) -> Any:
        return SimpleNamespace(device="cpu", name=weights.stem if weights else "shipped")

    monkeypatch.setattr(rrl_register.pipeline.dry_run, "load_scorer", scorer)
    monkeypatch.setattr(rrl_register.pipeline.dry_run, "pairs_per_second", lambda scorer: 20.0)
    fixed = make_raster(rng.integers(1, 255, (3, 100, 120), dtype=np.uint8), "fixed.tif", **GEO)
    moving = make_raster(rng.integers(1, 255, (100, 120), dtype=np.uint8), "nir.tif", nodata=0, **GEO)
    return str(fixed), str(moving)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["info", *words])


def test_a_pair_is_laid_out_line_by_line(pair: tuple[str, str]) -> None:
    result = run(*pair)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert f"FIXED {pair[0]}" in lines and f"MOVING {pair[1]}" in lines
    for line in (
        "grid 120 x 100 px of 10 m, EPSG:32632",
        "bands 3 of uint8; matched on 1, 2, 3",
        "no data not declared; 100.0% of the pixels are valid",
        "no data value 0; 100.0% of the pixels are valid",
        "kind optical (3 bands that differ)",
        "kind ir (names of bands, tags or file)",
        "matched at 120 x 100 px, not reduced",
        "resolution a moving pixel is 1 fixed px wide",
        "overlap 100% of FIXED, 100% of MOVING, 1.19 x 0.989 km",
        "search shifts up to 100 px, rotations -4 to 4 degrees, scales 0.95 to 1.05",
        "network shipped on cpu",
        "time about 14 s on this machine; several times that before a failure",
    ):
        assert line in lines


def test_options_of_register_count(pair: tuple[str, str], tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    weights.touch()
    flags = ["--moving-kind", "sar", "--max-shift", "300m", "--rotation", "90", "--keypoints", "200", "--weights"]
    text = " ".join(run(*pair, *flags, str(weights), "--model", "affine").stdout.split())
    assert "kind sar (as configured)" in text
    assert "search shifts up to 30 px, rotations 80 to 100 degrees" in text
    assert "up to 200 in each image" in text
    assert "model affine network mine on cpu time about 14 s" in text


def test_json_says_the_same(pair: tuple[str, str]) -> None:
    found = json.loads(run(*pair, "--json").stdout)
    assert (found["fixed"]["kind"], found["moving"]["kind"]) == ("optical", "ir")
    assert found["overlap"]["fixed_share"] == 1
    assert found["about_seconds"] == 14.0
    assert found["fixed"]["grid"]["crs"] == "EPSG:32632"


def test_one_image_needs_no_other(pair: tuple[str, str]) -> None:
    result = run(pair[0])
    assert result.stdout.splitlines()[0] == pair[0]
    assert "TOGETHER" not in result.stdout
    assert json.loads(run(pair[0], "--json").stdout)["matched_bands"] == [1, 2, 3]


def test_images_without_georeference(make_raster: Make, rng: np.random.Generator, pair: tuple[str, str]) -> None:
    plain = make_raster(
        rng.integers(1, 255, (4, 100, 120), dtype=np.uint8), "plain.tif", photometric="RGB", alpha="YES"
    )
    assert "band 4 is tagged as alpha, but holds measurements" in run(str(plain), pair[1]).stdout
    with rasterio.open(plain, "r+") as dataset:
        dataset.write(np.full((100, 120), 255, np.uint8), 4)
    text = " ".join(run(str(plain), pair[1]).stdout.split())
    assert "120 x 100 px, no georeference" in text
    assert "no data alpha in band 4;" in text
    assert "overlap unknown; without two georeferences" in text
    assert "all rotations, scales 0.50 to 2.00" in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere.tif"], 2, "File nowhere.tif"),
        (["{fixed}", "nowhere.tif"], 2, "File nowhere.tif"),
        (["{fixed}", "{fixed}"], 2, "the same file"),
        (["{fixed}", "{moving}", "--weights", "nowhere"], 2, "File nowhere"),
        (["{fixed}", "--fixed-bidx", "9"], 2, "has no band 9"),
        (["{note}", "{moving}"], 3, "Cannot read"),
        (["{folder}"], 3, "is a folder"),
    ],
)
def test_it_ends_as_register_would(
    pair: tuple[str, str], tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    note = tmp_path / "note.txt"
    note.write_text("no image")
    names = {"fixed": pair[0], "moving": pair[1], "note": str(note), "folder": str(tmp_path)}
    result = run(*(word.format(**names) for word in words))
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr

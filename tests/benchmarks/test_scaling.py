"""The scenes that the scaling benchmark makes, and what it makes of its figures."""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from rrl_register.geometry.transforms import project

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scaling() -> Iterator[ModuleType]:
    """Benchmarks are scripts: they find one another beside themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("scaling")


@pytest.fixture(scope="module")
def texture(scaling: ModuleType) -> Any:
    image = np.random.default_rng(2).integers(1, 256, (60, 80), dtype=np.uint8)
    return scaling.Texture.of(image)


def test_an_image_is_continued_by_mirroring(scaling: ModuleType, texture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "DETAIL", 1.0)
    seen = texture.sample(np.eye(3), Window(0, 0, 300, 200), 1.0)
    image = seen[:60, :80]
    np.testing.assert_array_equal(seen[:60, 79:159], image[:, ::-1])
    np.testing.assert_array_equal(seen[59:119, :80], image[::-1])
    np.testing.assert_array_equal(seen[:, 158:300], seen[:, :142])


def test_blocks_fit_together(scaling: ModuleType, texture: Any) -> None:
    matrix = scaling.truth(1000)
    whole = texture.sample(matrix, Window(200, 300, 100, 80), 12.0).astype(int)
    part = texture.sample(matrix, Window(240, 330, 30, 30), 12.0)
    assert np.abs(whole[30:60, 40:70] - part).max() <= 4  # places are rounded to 1/32 px


def test_both_rasters_show_one_scene(scaling: ModuleType, texture: Any, tmp_path: Path) -> None:
    """The pixel of the moving one that the truth puts on a pixel of the fixed one is the same."""
    files = scaling.Files(tmp_path, 600)
    scaling.make(scaling.LargeScene(texture, texture), files)
    with rasterio.open(files.fixed) as fixed, rasterio.open(files.moving) as moving:
        assert fixed.transform == moving.transform
        a, b = fixed.read(1).astype(float), moving.read(1).astype(float)
    places = np.random.default_rng(1).integers(100, 400, (4000, 2))
    x, y = np.rint(project(scaling.truth(600), places.astype(float))).astype(int).T
    assert np.corrcoef(a[y, x], b[places[:, 1], places[:, 0]])[0, 1] > 0.6
    files.remove()
    assert list(tmp_path.iterdir()) == []


def row(stage: str, side: int, seconds: float) -> dict[str, Any]:
    took = {"stage": stage, "side": side, "cpu_seconds": seconds, "seconds": seconds, "peak_mib": 900.0}
    return {**took, "stages": {"read": 1.0}, "n_inliers": 300, "error_px": 0.5, "max_error_px": 1.0}


def test_seconds_are_fitted_to_the_area(scaling: ModuleType) -> None:
    rows = [row("register", side, 40 + 0.1 * side**2 / 1e6) for side in (2000, 5000, 10_000, 20_000)]
    exponent, (start, slope) = scaling.fit_growth(rows)
    assert 0 < exponent < 1
    assert (start, slope) == (pytest.approx(40), pytest.approx(0.1))


def test_the_report_tells_of_an_archive_once_both_stages_are_known(scaling: ModuleType) -> None:
    rows = [row("register", side, 50) for side in (2000, 4000)]
    assert "hours" not in scaling.report(rows)
    text = scaling.report([*rows, *(row("warp", side, 10) for side in (2000, 4000))])
    assert "1667 processor hours" in text
    assert "72 TB" in text
    assert scaling.report([]) == "Nothing was run."


def counted(side: int, n_patches: int, n_pairs: int) -> dict[str, Any]:
    half = n_patches // 2
    return row("register", side, 50) | {"n_keypoints_fixed": half, "n_keypoints_moving": half, "n_candidates": n_pairs}


def test_operations_are_those_of_sizes_around_the_archive(scaling: ModuleType) -> None:
    cost = scaling.Operations(patch=2.0, pair=10.0)
    side = scaling.ARCHIVE_SIDE
    rows = [
        counted(side + 1000, 200, 30),
        counted(side - 1000, 100, 10),
        row("register", 2000, 5),
        row("warp", 2000, 5),
    ]
    assert scaling.archive_operations(rows[1:2], cost) == 300
    assert scaling.archive_operations(rows, cost) == pytest.approx((300 + 700) / 2)


def test_gpu_hours_are_told_as_calculated(scaling: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of 989 TFLOP/s: 356 PFLOP an hour."""
    cost = scaling.Operations(patch=0.0, pair=3.56e9)
    monkeypatch.setattr(scaling.Operations, "of_network", lambda: cost)
    text = scaling.report([counted(10_000, 800, 1000)])
    assert "calculated and not measured" in text
    assert "at 10% of 989 TFLOP/s 1.00 GPU hours for 100000 pairs" in text
    assert "GPU" not in scaling.report([row("register", 10_000, 50)])


def test_operations_of_the_network_grow_with_its_work(scaling: ModuleType) -> None:
    cost = scaling.Operations.of_network()
    assert 1e8 < cost.patch < cost.pair < 2e9


def test_what_is_known_is_not_run_again(scaling: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(scaling.LargeScene, "read", lambda *_: None)
    monkeypatch.setattr(scaling, "measure", lambda _, files, stages, options: asked.append((files.side, stages)) or [])
    arguments = Namespace(
        pairs=None, id="", folder=tmp_path, sides=("1000", "2000"), stages=("register", "warp"), keep=False, options=[]
    )
    known = [row("register", 1000, 5), row("warp", 1000, 5), row("register", 2000, 5)]
    assert list(scaling.run(arguments, known)) == []
    assert asked == [(2000, ["warp"])]

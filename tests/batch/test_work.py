"""One scene of a batch: what it leaves, and what becomes of images that are none and disks that are full."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from rrl_register.batch import BatchItem, Manifest, run_batch, work
from rrl_register.batch.executors import in_turn
from rrl_register.batch.journal import FAILED
from rrl_register.batch.work import register_scene
from rrl_register.config import ReadConfig, RegisterConfig, WarpConfig
from rrl_register.errors import InputError, WriteError
from rrl_register.exchange.registration import Registration
from rrl_register.pipeline import register as pipeline
from rrl_register.raster.grid import Grid

GOOD, FIXED = "good", "fixed.tif"
SHAPE = (64, 64)


@pytest.fixture
def inputs(make_raster: Callable[..., Path], tmp_path: Path, rng: np.random.Generator) -> dict[str, str]:
    """Malformed moving images and what is said of each; beside them a fixed image and a good one."""
    noise, other = rng.integers(1, 255, (2, *SHAPE), dtype=np.uint8)
    here = {"crs": "EPSG:32633", "transform": (10, 0, 500000, 0, -10, 5000000)}
    there = {"crs": "EPSG:32633", "transform": (10, 0, 900000, 0, -10, 5000000)}
    elsewhere = {"crs": "EPSG:32718", "transform": (10, 0, 500000, 0, -10, 5000000)}
    make_raster(noise, FIXED, **here)
    make_raster(noise, "good.tif", **here)
    made = {
        "nodata": (np.full(SHAPE, 7, np.uint8), {"nodata": 7, **here}, "no valid pixel"),
        "black": (np.zeros(SHAPE, np.uint8), here, "no valid pixel"),
        "constant": (np.full(SHAPE, 7, np.uint8), here, "same value"),
        "nan": (np.full(SHAPE, np.nan, np.float32), here, "no valid pixel"),
        "infinite": (np.full(SHAPE, np.inf, np.float32), here, "no valid pixel"),
        "masked": (noise, {"mask": np.zeros(SHAPE, bool), **here}, "no valid pixel"),
        "one_pixel": (noise[:1, :1], here, ""),
        "one_row": (noise[:1], here, ""),
        "no_overlap": (noise, there, "overlap"),
        "wrong_crs": (noise, elsewhere, "overlap"),
        "twelve_bands": (np.repeat(other[None], 12, 0), here, ""),
        "complex": (other.astype(np.complex64), here, ""),
        "huge_values": (np.full(SHAPE, -3.4e38, np.float32), here, "no valid pixel"),
    }
    said = {}
    for name, (image, profile, reason) in made.items():
        make_raster(image, f"{name}.tif", **profile)
        said[name] = reason
    (tmp_path / "zero_bytes.tif").touch()
    (tmp_path / "text.tif").write_text("this is no image")
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "binary.tif").write_bytes(rng.bytes(500))
    (tmp_path / "header_only.tif").write_bytes(b"II*\0")
    whole = make_raster(rng.integers(1, 255, (200, 200), dtype=np.uint8), "truncated.tif", **here)
    whole.write_bytes(whole.read_bytes()[:9000])
    unreadable = ("binary", "header_only", "truncated", "text")
    special = {"zero_bytes": "is empty", "folder": "is a folder", "missing": "There is no file"}
    return {**said, **dict.fromkeys(unreadable, "Cannot read"), **special}


@pytest.fixture
def quick_registration(monkeypatch: pytest.MonkeyPatch, make_registration: Callable[..., Registration]) -> None:
    """Answers for the good image; all others go through the true stages."""
    true_register = pipeline.register

    def register(fixed: Path, moving: Path, config: RegisterConfig, **options: Any) -> Registration:
        if moving.stem == GOOD:
            return make_registration(fixed_grid=Grid(40, 40), moving_grid=Grid(40, 40))
        return true_register(fixed, moving, config, **options)

    monkeypatch.setattr(pipeline, "register", register)


@pytest.mark.usefixtures("quick_registration")
def test_malformed_inputs_are_told_by_name_and_the_others_done(inputs: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    scenes = [BatchItem(name, tmp_path / FIXED, tmp_path / f"{name}.tif") for name in (*inputs, GOOD)]
    band = RegisterConfig(read=ReadConfig(moving_bands=(9,)))
    scenes[0:0] = [
        BatchItem("no_such_band", tmp_path / FIXED, tmp_path / "good2.tif", band),
        BatchItem("same_file", tmp_path / FIXED, tmp_path / FIXED),
    ]
    shutil.copy(tmp_path / "good.tif", tmp_path / "good2.tif")
    run = in_turn(partial(register_scene, folder=folder, threads=1))
    summary = run_batch(Manifest("test", tuple(scenes)), folder, executor=run)
    outcomes = {outcome.id: outcome for _, outcome in summary.pairs}
    assert outcomes.pop(GOOD).ok
    assert len(outcomes) >= 20
    for name, said in {**inputs, "no_such_band": "no band 9", "same_file": "same file"}.items():
        outcome = outcomes[name]
        assert (outcome.status, outcome.traceback) == (FAILED, ""), outcome
        assert outcome.exit_code in (2, 3, 4)
        assert said in outcome.reason
        written = json.loads((folder / f"{name}.json").read_text())
        assert (written["status"], written["reason"]) == ("failed", outcome.reason)
    assert [path.name for path in folder.glob("*.tif")] == ["good.tif"]


@pytest.fixture
def scene_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_raster: Callable[..., Path], rng: np.random.Generator
) -> SimpleNamespace:
    """The true work on a scene, with what registers and what warps stood in for."""
    for name in ("f.tif", "m.tif"):
        make_raster(rng.integers(1, 255, (40, 40), dtype=np.uint8), name)
    (tmp_path / "out").mkdir()
    desk = SimpleNamespace(folder=tmp_path / "out", scene=BatchItem("a", tmp_path / "f.tif", tmp_path / "m.tif"))
    desk.registration = desk.trouble = None

    def register(*arguments: Any, **more: Any) -> Registration:
        if desk.trouble:
            raise desk.trouble
        return desk.registration

    monkeypatch.setattr(pipeline, "register", register)
    monkeypatch.setattr(work, "_scorer", lambda weights, device, threads: None)
    desk.run = lambda: register_scene(desk.scene, desk.folder, threads=1)
    desk.names = lambda: sorted(path.name for path in desk.folder.iterdir())
    desk.result = lambda: json.loads((desk.folder / "a.json").read_text())
    return desk


def test_a_scene_takes_no_more_threads_than_its_share(scene_work: SimpleNamespace) -> None:
    """OpenCV would take all cores in each of the workers."""
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        scene_work.run()
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


def test_a_scene_leaves_raster_and_result(
    scene_work: SimpleNamespace, make_registration: Callable[..., Registration]
) -> None:
    scene_work.registration = make_registration(fixed_grid=Grid(40, 40), moving_grid=Grid(40, 40))
    outcome = scene_work.run()
    assert outcome.ok
    assert (outcome.figures["n_inliers"], outcome.figures["confidence"]) == (3, 0.9)
    assert outcome.seconds > 0
    assert scene_work.names() == ["a.json", "a.tif"]
    assert scene_work.result() == scene_work.registration.to_json()


def test_a_refused_scene_leaves_its_figures_and_no_raster_of_before(
    scene_work: SimpleNamespace, make_registration: Callable[..., Registration]
) -> None:
    (scene_work.folder / "a.tif").write_text("of before")
    scene_work.registration = make_registration(status="failed", reason="too few", matrix=None)
    outcome = scene_work.run()
    assert (outcome.status, outcome.reason, outcome.exit_code) == (FAILED, "too few", 4)
    assert outcome.figures["n_tie_points"] == 5
    assert scene_work.names() == ["a.json"]


def test_a_bug_is_noted_with_its_traceback(scene_work: SimpleNamespace) -> None:
    scene_work.trouble = ZeroDivisionError("division by zero")
    outcome = scene_work.run()
    assert (outcome.status, outcome.exit_code) == (FAILED, 1)
    assert "ZeroDivisionError: division by zero" in outcome.reason
    assert "Traceback" in outcome.traceback
    assert scene_work.result()["reason"] == outcome.reason


def test_an_output_that_gdal_refuses_is_the_scenes_own_failure(
    scene_work: SimpleNamespace, make_registration: Callable[..., Registration]
) -> None:
    scene_work.registration = make_registration(fixed_grid=Grid(40, 40), moving_grid=Grid(40, 40))
    fax = RegisterConfig(warp=WarpConfig(creation_options=(("COMPRESS", "CCITTFAX4"),)))
    scene_work.scene = replace(scene_work.scene, config=fax)
    outcome = scene_work.run()
    assert (outcome.status, outcome.exit_code) == (FAILED, 3)
    assert scene_work.names() == ["a.json"]


def test_a_full_disk_ends_the_batch_in_one_line(scene_work: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    scene_work.trouble = WriteError("cannot write a.tif")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(WriteError, match=r"is full: 0 MB are free.*--resume") as caught:
        scene_work.run()
    assert "\n" not in str(caught.value)
    assert scene_work.names() == []


def test_a_folder_that_became_unwritable_ends_the_batch(
    scene_work: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene_work.trouble = WriteError("cannot write a.tif")

    def refuse(**where: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(work.tempfile, "TemporaryFile", refuse)
    with pytest.raises(WriteError, match=r"Read-only file system.*--resume"):
        scene_work.run()


def test_an_unusable_input_is_no_reason_to_measure_the_disk(scene_work: SimpleNamespace) -> None:
    scene_work.trouble = InputError("m.tif is\nno image")
    assert scene_work.run().reason == "m.tif is no image"

"""The harness of whole registrations: errors, tables, going on, skipping; and that the baselines find what is known."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio

from rrl_register.errors import InputError, UsageError
from rrl_register.geometry.displacement import Displacement

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SHIFT = (7.0, -5.0)
WRITES_IDENTITY = """
import json, pathlib, sys
log, _, _, result = map(pathlib.Path, sys.argv[1:])
with log.open("a") as file:
    file.write("run\\n")
result.write_text(json.dumps({"status": "ok", "reason": "", "matrix": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}))
"""

Run = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def path_to_benchmarks() -> Iterator[None]:
    """Benchmarks are scripts: they find one another beside themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS / "baselines")
        patch.syspath_prepend(BENCHMARKS)
        yield


@pytest.fixture(scope="module")
def pairs(path_to_benchmarks: None) -> ModuleType:
    return importlib.import_module("pairs")


@pytest.fixture(scope="module")
def registrations(path_to_benchmarks: None) -> ModuleType:
    return importlib.import_module("registrations")


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Two pairs that the identity misses by 5 px, and one to be refused; the images are not there."""
    moving = [[0, 0], [100, 0], [0, 100]]
    fixed = [[3, 4], [103, 4], [3, 104]]
    points = {"landmarks_fixed": fixed, "landmarks_moving": moving}
    nothing = {"landmarks_fixed": None, "landmarks_moving": None}
    files = {"fixed": "a.tif", "moving": "b.tif"}
    rows = [
        {"id": "one", "suite": "nir", "family": "nir", **files, **points},
        {"id": "two", "suite": "lwir", "family": "lwir", **files, **points},
        {"id": "none", "suite": "negative", "family": "nir", **files, **nothing},
    ]
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def run(pairs: ModuleType, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the harness with one method that answers with the identity and one that wants a package nobody has."""
    script = tmp_path / "identity.py"
    script.write_text(WRITES_IDENTITY)
    known = {
        "identity": pairs.Method((str(script), str(tmp_path / "log")), ("json",)),
        "absent": pairs.Method((str(script),), ("json", "package_that_nobody_has")),
    }
    monkeypatch.setattr(pairs, "METHODS", known)

    def call(*options: str) -> str:
        words = [
            "pairs.py",
            str(listed),
            "--json",
            str(tmp_path / "out.json"),
            "--methods",
            "identity,absent",
            *options,
        ]
        monkeypatch.setattr(sys, "argv", words)
        pairs.main()
        return (tmp_path / "log").read_text()

    return call


def row(method: str, suite: str, error: float | None, **more: Any) -> dict[str, Any]:
    status = "failed" if error is None else "ok"
    return {"method": method, "suite": suite, "family": "sar", "status": status, "seconds": 2.0, "error": error, **more}


def cells(table: str, *start: str) -> list[str]:
    """The cells of the line that starts with the given ones."""
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()]
    return next(line for line in lines if tuple(line[: len(start)]) == start)


def test_error_is_the_mean_distance_of_the_landmarks(registrations: ModuleType, listed: Path) -> None:
    one, _, none = json.loads(listed.read_text())
    assert registrations.mean_error(np.eye(3), one) == pytest.approx(5)
    assert registrations.mean_error([[1, 0, 3], [0, 1, 4], [0, 0, 1]], one) == pytest.approx(0, abs=1e-9)
    hull, nothing = np.array([(0.0, 0.0), (9.0, 0.0), (0.0, 9.0)]), np.empty((0, 2))
    steady = Displacement(0, np.array([(3.0, 4.0)]), nothing, nothing, np.zeros(2), 1.0, hull)
    assert registrations.mean_error(np.eye(3), one, steady) == pytest.approx(0, abs=1e-9)
    assert registrations.mean_error(np.eye(3), none) is None
    assert registrations.mean_error(None, one) is None


def test_table_counts_refusals_silent_errors_and_negatives(registrations: ModuleType) -> None:
    rows = [
        row("a", "geo", 1.0),
        row("a", "geo", 4.0),
        row("a", "geo", 30.0),
        row("a", "geo", None),
        row("a", "negative", None),
        row("a", "negative", None, status="ok"),
        row("b", "geo", 2.5, seconds=4.0),
    ]
    table = registrations.results_table(rows, "method", ["a", "b"], (2, 3, 5, 10), by="suite")
    # AUC: (0.9 + 0.6 + 0 + 0) / 4; median of those that were registered.
    geo = ["4", "0.25", "0.25", "0.50", "0.50", "0.375", "4.00", "0.25", "1", "-", "2.0"]
    assert cells(table, "geo", "a")[2:] == geo
    assert cells(table, "geo", "b")[2:] == [
        "1",
        "0.00",
        "1.00",
        "1.00",
        "1.00",
        "0.750",
        "2.50",
        "0.00",
        "0",
        "-",
        "4.0",
    ]
    assert cells(table, "negative", "a")[2:] == ["2", *["-"] * 8, "1 of 2", "2.0"]
    assert cells(table, "all", "a")[2:] == ["6", *geo[1:-2], "1 of 2", "2.0"]
    by_family = registrations.results_table(rows, "method", ["a", "b"], (2,), by="family")
    assert cells(by_family, "sar", "a")[2:4] == ["6", "0.25"]


def test_run_goes_on_where_it_was_broken_off(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--suite", "nir").count("run") == 1
    assert run().count("run") == 3
    table = capsys.readouterr().out.split("\n\n")[-3]
    assert run().count("run") == 3
    assert cells(table, "all", "identity")[2:7] == ["3", "0.00", "0.00", "0.00", "1.00"]
    kept = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [(r["id"], r["status"], r["error"]) for r in kept] == [
        ("one", "ok", pytest.approx(5)),
        ("two", "ok", pytest.approx(5)),
        ("none", "ok", None),
    ]


def test_report_runs_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("--suite", "nir")
    assert run("--report").count("run") == 1
    assert cells(capsys.readouterr().out, "nir", "identity")[2] == "1"


def test_a_method_without_its_packages_is_skipped_with_the_reason(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--suite", "nir")
    printed = capsys.readouterr().out
    assert "package_that_nobody_has" in cells(printed, "absent")[1]
    assert "package_that_nobody_has" in json.loads((tmp_path / "out.json").read_text())["skipped"]["absent"]


def test_an_interpreter_that_is_not_there_is_a_reason_too(pairs: ModuleType, tmp_path: Path) -> None:
    assert "does not run" in pairs.what_is_missing(str(tmp_path / "python"), ("json",))
    assert pairs.what_is_missing(sys.executable, ("json",)) is None


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("import sys; sys.exit('no luck')", "broken", "no luck"),
        (
            'import sys; open(sys.argv[1], \'w\').write(\'{"status": "ok", "matrix": [[1]]}\'); sys.exit(3)',
            "broken",
            "3",
        ),
        ("import sys; open(sys.argv[1], 'w').write('{\"status\": \"failed\"}'); sys.exit(4)", "failed", None),
        ("import time; time.sleep(60)", "timeout", "0.5 s"),
    ],
)
def test_what_went_wrong_is_told_apart(
    pairs: ModuleType, listed: Path, code: str, status: str, reason: str | None
) -> None:
    pair = json.loads(listed.read_text())[0]
    timeout = 0.5 if status == "timeout" else 60
    got = pairs.attempt([sys.executable, "-c", code, "{result}"], pair, listed.parent, timeout)
    assert (got["status"], got["error"]) == (status, None)
    assert reason is None or reason in got["reason"]


def test_other_weights_do_not_go_on(pairs: ModuleType, tmp_path: Path) -> None:
    store = pairs.MethodStore(tmp_path / "out.json", "one 1234")
    store.save()
    assert pairs.MethodStore.open(store.path, "one 1234").rows == []
    with pytest.raises(InputError, match="one 1234, not two 5678"):
        pairs.MethodStore.open(store.path, "two 5678")


@pytest.mark.parametrize("text", ["sift", "sift=", "unknown=/usr/bin/python3"])
def test_interpreters_are_given_by_method(pairs: ModuleType, text: str) -> None:
    with pytest.raises(UsageError, match="METHOD=PATH"):
        pairs.read_interpreters([text])


@pytest.fixture(scope="module")
def shifted() -> tuple[np.ndarray, np.ndarray]:
    """A texture and its negative, shifted: moving (x, y) is fixed (x, y) + SHIFT."""
    noise = np.random.default_rng(5).random((320, 320))
    image = cv2.GaussianBlur(noise, (0, 0), 2.5)
    image = np.round(255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
    dx, dy = map(int, SHIFT)
    return image[20:300, 20:300], 255 - image[20 + dy : 300 + dy, 20 + dx : 300 + dx]


def moved_centre(matrix: np.ndarray) -> np.ndarray:
    """Where the centre of the 280 px image goes, less where it was."""
    x, y, w = np.asarray(matrix) @ (139.5, 139.5, 1)
    return np.array([x / w, y / w]) - 139.5


@pytest.mark.parametrize("script", ["oriented_template", "gradient_phase", "phase_cross_correlation"])
def test_structure_is_found_in_spite_of_reversed_contrast(shifted: tuple[np.ndarray, np.ndarray], script: str) -> None:
    baseline, images = importlib.import_module(script), importlib.import_module("images")
    found = baseline.register(*(images.Image(*images.to_grey(image[None])) for image in shifted))
    assert moved_centre(found.matrix) == pytest.approx(SHIFT, abs=0.3)


def test_phase_correlation_leaves_pixels_without_data_out(shifted: tuple[np.ndarray, np.ndarray]) -> None:
    baseline, images = importlib.import_module("phase_cross_correlation"), importlib.import_module("images")
    fixed, moving = (images.Image(*images.to_grey(image[None])) for image in shifted)
    valid = np.ones(fixed.valid.shape, bool)
    valid[:, :90] = False
    framed = images.Image(np.where(valid, moving.grey, 0).astype(np.float32), valid)
    found = baseline.register(fixed, framed)
    assert moved_centre(found.matrix) == pytest.approx(SHIFT, abs=0.5)
    assert (found.n_inliers, found.reason) == (None, "")


def test_a_turned_image_is_found_by_its_spectrum(shifted: tuple[np.ndarray, np.ndarray]) -> None:
    baseline, images = importlib.import_module("gradient_phase"), importlib.import_module("images")
    turn = np.vstack([cv2.getRotationMatrix2D((139.5, 139.5), 20, 1.1), [0, 0, 1]])
    turned = cv2.warpAffine(shifted[0], turn[:2], (280, 280))
    fixed, moving = (images.Image(*images.to_grey(image[None])) for image in (shifted[0], turned))
    back = baseline.register(fixed, moving).matrix @ turn
    assert back[:2, :2] == pytest.approx(np.eye(2), abs=0.02)
    assert moved_centre(back) == pytest.approx((0, 0), abs=1)


def test_sift_as_a_command(
    pairs: ModuleType, shifted: tuple[np.ndarray, np.ndarray], make_raster: Callable[..., Path]
) -> None:
    fixed, moving = shifted[0], 255 - shifted[1]
    files = {"fixed": make_raster(fixed, "f.tif"), "moving": make_raster(moving, "m.tif")}
    points = {"landmarks_moving": [[50, 50]], "landmarks_fixed": [[50 + SHIFT[0], 50 + SHIFT[1]]]}
    command = [sys.executable, *pairs.METHODS["sift"].command, "{fixed}", "{moving}", "{result}"]
    got = pairs.attempt(command, {"id": "x", "suite": "s", **files, **points}, Path(), timeout=120)
    assert got["status"] == "ok"
    assert got["error"] < 0.3
    assert got["n_inliers"] >= 20


def test_georeferences_are_the_prior(make_raster: Callable[..., Path]) -> None:
    images = importlib.import_module("images")
    image = np.arange(1, 65, dtype=np.uint8).reshape(8, 8)
    place = {"crs": "EPSG:32633"}
    fixed = make_raster(image, "f.tif", transform=rasterio.Affine(10, 0, 1000, 0, -10, 2000), **place)
    moving = make_raster(image, "m.tif", transform=rasterio.Affine(20, 0, 1000, 0, -20, 2000), **place)
    known = images.prior(images.read_image(fixed), images.read_image(moving))
    # The outer corners of both grids meet, so that the first pixel's centre, half a pixel in, is twice as far from it.
    assert known == pytest.approx(np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]]))


def test_images_of_two_places_are_refused_without_a_look(make_raster: Callable[..., Path]) -> None:
    command, images = importlib.import_module("command"), importlib.import_module("images")
    image, place = np.full((8, 8), 9, np.uint8), {"crs": "EPSG:32633"}
    here = images.read_image(make_raster(image, "f.tif", transform=rasterio.Affine(1, 0, 0, 0, -1, 0), **place))
    there = images.read_image(make_raster(image, "m.tif", transform=rasterio.Affine(1, 0, 90, 0, -1, 0), **place))
    register = command.on_one_grid(lambda fixed, moving: command.Found(np.eye(3)))
    assert register(here, there).reason == "the images do not overlap"
    assert register(here, here).matrix == pytest.approx(np.eye(3))


def test_without_georeferences_sizes_are_the_prior(make_raster: Callable[..., Path]) -> None:
    images = importlib.import_module("images")
    fixed, moving = make_raster(np.ones((20, 40), np.uint8), "f.tif"), make_raster(np.ones((10, 10), np.uint8), "m.tif")
    known = images.prior(images.read_image(fixed), images.read_image(moving))
    assert known == pytest.approx(np.array([[4, 0, 1.5], [0, 2, 0.5], [0, 0, 1]]))

"""The command line on real images, nothing replaced: outputs, results and exit codes that belong together."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner, Result

from rrl_register import read_registration
from rrl_register.cli import main
from rrl_register.geometry.transforms import project
from sample_crops import SIDE, cut_pair, true_matrix

TOLERANCE_PX = 1.0
INNER = np.stack(np.meshgrid(np.linspace(40, SIDE - 41, 6), np.linspace(40, SIDE - 41, 6)), axis=-1).reshape(-1, 2)


@dataclass(frozen=True)
class Folder:
    """A working directory with the pair, its result and its tie points."""

    path: Path

    def run(self, words: str, code: int = 0) -> Result:
        """Run a command; it has to end with an exit code."""
        done = CliRunner(catch_exceptions=False).invoke(main, words.split())
        assert done.exit_code == code, done.output
        return done

    def result(self, name: str = "RESULT.json") -> dict:
        return json.loads((self.path / name).read_text())

    def error(self, name: str = "RESULT.json") -> float:
        """Mean distance of a result's transform from the known one, fixed px."""
        found = read_registration(self.path / name).transform
        return float(np.linalg.norm(found.forward(INNER) - project(true_matrix(), INNER), axis=1).mean())


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pair after one registration that wrote all there is to write."""
    folder = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cut_pair(folder)
        words = "FIXED.tif MOVING.tif -o ALIGNED.tif --json RESULT.json --report REPORT.html --preview PREVIEW.png"
        done = CliRunner(catch_exceptions=False).invoke(main, [*words.split(), "--tie-points", "POINTS.csv"])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def folder(registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    for path in registered.iterdir():
        (tmp_path / path.name).hardlink_to(path)
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)


def read(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Values and validity of the first band."""
    with rasterio.open(path) as dataset:
        return dataset.read(1).astype(float), dataset.read_masks(1) > 0


def alike(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """Correlation of two images where a mask is true."""
    return float(np.corrcoef(one[where], other[where])[0, 1])


def test_the_result_is_the_known_transform(folder: Folder) -> None:
    result = folder.result()
    assert (result["status"], result["reason"]) == ("ok", "")
    assert result["confidence"] > 0.9
    assert result["n_inliers"] <= result["n_tie_points"]
    assert 0 < result["rmse_px"] < 1
    assert folder.error() < TOLERANCE_PX


def test_the_output_has_the_grid_of_the_fixed_image_and_the_type_of_the_moving_one(folder: Folder) -> None:
    with rasterio.open("ALIGNED.tif") as aligned, rasterio.open("FIXED.tif") as fixed:
        assert (aligned.crs, aligned.transform, aligned.shape) == (fixed.crs, fixed.transform, fixed.shape)
        assert (aligned.count, aligned.dtypes[0]) == (1, "uint16")
        assert aligned.profile["tiled"]


def test_the_output_is_the_moving_image_through_the_known_transform(folder: Folder) -> None:
    aligned, valid = read("ALIGNED.tif")
    moving, _ = read("MOVING.tif")
    expected = cv2.warpPerspective(moving, true_matrix(), (SIDE, SIDE), flags=cv2.INTER_CUBIC)
    inner = cv2.erode((valid & (expected > 0)).astype(np.uint8), np.ones((15, 15))) > 0
    assert inner.mean() > 0.5
    assert alike(cv2.blur(aligned, (5, 5)), cv2.blur(expected, (5, 5)), inner) > 0.97


def test_report_preview_and_points_describe_this_registration(folder: Folder) -> None:
    page, result = Path("REPORT.html").read_text(), folder.result()
    assert "FIXED.tif" in page
    assert "MOVING.tif" in page
    assert str(result["n_inliers"]) in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert cv2.imread("PREVIEW.png") is not None
    assert len(Path("POINTS.csv").read_text().splitlines()) == 1 + result["n_tie_points"]


def test_a_second_image_is_aligned_as_the_first(folder: Folder) -> None:
    folder.run("apply RESULT.json MOVING.tif -o AGAIN.tif")
    np.testing.assert_array_equal(read("AGAIN.tif")[0], read("ALIGNED.tif")[0])


def test_the_same_command_has_the_same_result(folder: Folder) -> None:
    folder.run("FIXED.tif MOVING.tif --json AGAIN.json")
    before, after = folder.result(), folder.result("AGAIN.json")
    changing = {"seconds", "similarity"}
    assert {k: v for k, v in before.items() if k not in changing} == {
        k: v for k, v in after.items() if k not in changing
    }


def test_an_output_that_exists_ends_with_5_and_is_kept(folder: Folder) -> None:
    before = Path("ALIGNED.tif").read_bytes()
    done = folder.run("FIXED.tif MOVING.tif -o ALIGNED.tif", code=5)
    assert "--overwrite" in done.stderr
    assert Path("ALIGNED.tif").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("FIXED.tif GONE.tif -o A.tif", 2, "GONE.tif"),
        ("FIXED.tif RESULT.json -o A.tif", 3, "RESULT.json"),
        ("FIXED.tif MOVING.tif", 2, "-o"),
        ("FIXED.tif MOVING.tif -o A.tif --model rigid", 2, "rigid"),
        ("FIXED.tif MOVING.tif -o A.tif --moving-bidx 2", 2, "band"),
        ("FIXED.tif MOVING.tif -o FIXED.tif --overwrite", 2, "FIXED.tif"),
        ("FIXED.tif MOVING.tif -o nowhere/A.tif", 2, "nowhere"),
        ("FIXED.tif MOVING.tif -o A.tif --weights FIXED.tif", 3, "FIXED.tif"),
        ("apply POINTS.csv MOVING.tif -o A.tif", 3, "POINTS.csv"),
        ("refit GONE.points FIXED.tif MOVING.tif -o A.tif", 2, "GONE.points"),
    ],
)
def test_what_cannot_be_done_ends_with_its_code_and_names_the_cause(
    folder: Folder, words: str, code: int, said: str
) -> None:
    done = folder.run(words, code)
    assert said in done.stderr
    assert "Traceback" not in done.output
    assert not Path("A.tif").exists()


def test_another_place_ends_with_4_and_a_result_that_says_why(folder: Folder, make_raster: Callable[..., Path]) -> None:
    noise = np.random.default_rng(8).integers(1, 255, (SIDE, SIDE), dtype=np.uint8)
    make_raster(cv2.GaussianBlur(noise, (0, 0), 1.5), "OTHER.tif")
    done = folder.run("FIXED.tif OTHER.tif -o A.tif --json A.json --effort fast --rotation none --scale none", code=4)
    result = folder.result("A.json")
    assert result["status"] == "failed"
    assert result["matrix"] is None
    assert result["reason"] in done.stderr.replace("\n", " ")
    assert not Path("A.tif").exists()


def test_images_far_apart_share_no_ground(folder: Folder) -> None:
    with rasterio.open("MOVING.tif") as source:
        profile = {**source.profile, "transform": Affine.translation(90_000, 0) @ source.transform}
        with rasterio.open("FAR.tif", "w", **profile) as target:
            target.write(source.read())
    done = folder.run("FIXED.tif FAR.tif -o A.tif", code=3)
    assert "overlap" in done.stderr or "ground" in done.stderr


def test_points_lead_back_to_the_transform(folder: Folder) -> None:
    """Edited tables are fitted again: here, without a quarter of the rows."""
    lines = Path("POINTS.csv").read_text().splitlines()
    Path("FEWER.csv").write_text("\n".join(line for number, line in enumerate(lines) if number % 4 != 1) + "\n")
    folder.run("refit FEWER.csv FIXED.tif MOVING.tif -o REFITTED.tif --json REFITTED.json")
    assert folder.error("REFITTED.json") < TOLERANCE_PX
    one, valid = read("REFITTED.tif")
    other, also = read("ALIGNED.tif")
    assert alike(one, other, valid & also) > 0.98


@pytest.mark.parametrize("suffix", ["points", "csv", "geojson", "gcp", "json"])
def test_a_search_may_start_from_the_points_of_any_format(folder: Folder, suffix: str) -> None:
    source = "RESULT.json"
    if suffix != "json":
        source = f"START.{suffix}"
        folder.run(f"tie-points RESULT.json -o {source}")
    folder.run(f"FIXED.tif MOVING.tif --json A.json --init-points {source}")
    assert folder.error("A.json") < TOLERANCE_PX


@pytest.mark.parametrize(
    ("options", "shape", "pixel_m"),
    [("", (SIDE, SIDE), 2.0), ("--crop overlap", None, 2.0), ("--grid LIKE.tif", (64, 64), 4.0)],
)
def test_the_output_grid_is_the_one_requested(
    folder: Folder, options: str, shape: tuple[int, int] | None, pixel_m: float
) -> None:
    with rasterio.open("FIXED.tif") as fixed:
        place = fixed.transform @ Affine.translation(60, 60) @ Affine.scale(2)
        profile = {**fixed.profile, "count": 1, "width": 64, "height": 64, "transform": place}
        profile.pop("photometric", None)
    with rasterio.open("LIKE.tif", "w", **profile) as like:
        like.write(np.ones((1, 64, 64), np.uint8))
    folder.run(f"apply RESULT.json MOVING.tif -o A.tif {options}")
    with rasterio.open("A.tif") as output:
        assert output.transform.a == pytest.approx(pixel_m)
        assert shape is None or output.shape == shape
        assert shape is not None or max(output.shape) <= SIDE
        assert (output.read_masks(1) > 0).mean() > 0.5


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
def test_every_resampling_shows_the_same_scene(folder: Folder, resampling: str) -> None:
    folder.run(f"apply RESULT.json MOVING.tif -o A.tif --resampling {resampling}")
    one, valid = read("A.tif")
    other, also = read("ALIGNED.tif")
    assert alike(one, other, valid & also) > 0.9
    if resampling == "nearest":
        assert set(np.unique(one[valid])) <= set(np.unique(read("MOVING.tif")[0]))


def test_a_cloud_optimised_output_holds_the_same_pixels(folder: Folder) -> None:
    folder.run("apply RESULT.json MOVING.tif -o A.tif --format cog")
    with rasterio.open("A.tif") as dataset:
        assert dataset.profile["tiled"]
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    values, valid = read("A.tif")
    np.testing.assert_array_equal(values[valid], read("ALIGNED.tif")[0][valid])


def test_control_points_alone_leave_the_pixels_as_they_are(folder: Folder) -> None:
    folder.run("FIXED.tif MOVING.tif -o A.tif --gcps-only")
    np.testing.assert_array_equal(read("A.tif")[0], read("MOVING.tif")[0])
    with rasterio.open("A.tif") as dataset, rasterio.open("FIXED.tif") as fixed:
        points, crs = dataset.gcps
        assert crs == fixed.crs
        back = ~fixed.transform
        placed = np.array([back @ (point.x, point.y) for point in points]) - 0.5
    moving = np.array([(point.col, point.row) for point in points]) - 0.5
    assert len(points) >= 12
    assert np.linalg.norm(project(true_matrix(), moving) - placed, axis=1).mean() < 1.5


def test_a_batch_writes_what_single_runs_write(folder: Folder) -> None:
    Path("SCENES.csv").write_text("id,fixed,moving\na,FIXED.tif,MOVING.tif\nb,FIXED.tif,GONE.tif\n")
    folder.run("batch SCENES.csv -o DIR", code=4)
    summary = json.loads(Path("DIR/summary.json").read_text())
    assert json.dumps(summary).count("GONE.tif") >= 1
    np.testing.assert_array_equal(read("DIR/a.tif")[0], read("ALIGNED.tif")[0])
    assert folder.error("DIR/a.json") < TOLERANCE_PX
    assert not Path("DIR/b.tif").exists()


def test_info_tells_size_kind_and_search_and_writes_nothing(folder: Folder) -> None:
    before = sorted(path.name for path in folder.path.iterdir())
    printed = folder.run("info FIXED.tif MOVING.tif").output
    assert f"{SIDE} x {SIDE}" in printed
    assert "sar" in printed.lower()
    assert "32633" in printed
    assert sorted(path.name for path in folder.path.iterdir()) == before


def test_settings_in_a_file_are_those_on_the_command_line(folder: Folder) -> None:
    Path("settings.yaml").write_text("model: affine\nkeypoints: 200\nseed: 3\n")
    folder.run("FIXED.tif MOVING.tif --json A.json --config settings.yaml")
    folder.run("FIXED.tif MOVING.tif --json B.json --model affine --keypoints 200 --seed 3")
    one, other = folder.result("A.json"), folder.result("B.json")
    assert one["model"] == other["model"] == "affine"
    assert one["matrix"] == other["matrix"]

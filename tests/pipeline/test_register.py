"""The main job on the sample pairs, with the weights that ship with the package."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from rrl_register import MatchConfig, RegisterConfig, Registration, register
from rrl_register.cli import main
from rrl_register.errors import InputError, UsageError
from rrl_register.geometry.tie_points import AGREEMENT_PX
from rrl_register.geometry.transforms import corners_of, project
from rrl_register.matching.read_pair import PairFiles
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.pipeline.register import max_shift_px, reach_px

FEW_KEYPOINTS = RegisterConfig(match=MatchConfig(n_keypoints=120))
"""For pairs of two places: what nothing proves takes longest, for every start is tried."""

Truth = Callable[[str], np.ndarray]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer()


@pytest.fixture(scope="module")
def nir(samples: Path, scorer: Scorer) -> Registration:
    return register(samples / "rgb_nir_fixed.tif", samples / "rgb_nir_moving.tif", scorer=scorer)


def mean_corner_error(found: np.ndarray, true: np.ndarray, shape: tuple[int, int]) -> float:
    corners = corners_of(shape)
    return float(np.linalg.norm(project(found, corners) - project(true, corners), axis=1).mean())


def test_real_near_infrared_is_registered_below_a_pixel(nir: Registration, truth_of: Truth) -> None:
    assert nir.status == "ok"
    assert nir.reason == ""
    assert nir.model == "homography"  # the pair has a slight perspective, and enough tie points to show it
    assert mean_corner_error(nir.matrix, truth_of("rgb_nir"), nir.moving_grid.shape) < 1.0


def test_figures_of_a_result_agree_with_its_tie_points(nir: Registration) -> None:
    residual = np.linalg.norm(project(nir.matrix, nir.tie_points.moving) - nir.tie_points.fixed, axis=1)
    assert nir.n_tie_points == len(nir.tie_points) == len(nir.inlier)
    assert nir.n_inliers == nir.inlier.sum()
    assert nir.rmse_px == pytest.approx(np.sqrt((residual[nir.inlier] ** 2).mean()), abs=0.01)
    asked = np.isfinite(nir.tie_points.score)
    assert np.all(nir.tie_points.score[asked] >= MatchConfig().min_score)
    assert np.all(nir.tie_points.agreement_px[~asked] <= AGREEMENT_PX)
    assert 0 < asked.sum() <= nir.evidence["n_points"] == nir.n_candidates < len(nir.tie_points)
    assert 0.5 < nir.confidence <= 1
    assert sum(nir.seconds.values()) > 0


def test_synthetic_sar_is_registered_and_recognised(samples: Path, scorer: Scorer, truth_of: Truth) -> None:
    name = "synthetic_optical_sar"
    found = register(samples / f"{name}_fixed.tif", samples / f"{name}_moving.tif", scorer=scorer)
    assert (found.fixed_kind, found.moving_kind, found.support_px) == ("optical", "sar", 128)
    assert found.status == "ok"
    assert mean_corner_error(found.matrix, truth_of(name), found.moving_grid.shape) < 3.0


def test_no_georeference_and_another_resolution(samples: Path, tmp_path: Path, scorer: Scorer, truth_of: Truth) -> None:
    """A PNG at half the resolution: the transform is one of the PNG's own pixels."""
    with rasterio.open(samples / "rgb_nir_moving.tif") as source:
        moving = source.read(1)[:402, :514]  # even sides: each pixel of the half is the mean of four whole ones
    half = cv2.resize(moving, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "half.png"), half)
    found = register(samples / "rgb_nir_fixed.tif", tmp_path / "half.png", scorer=scorer)
    up = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
    assert found.status == "ok"
    assert mean_corner_error(found.matrix, truth_of("rgb_nir") @ up, half.shape) < 2.0


def test_another_place_is_refused(samples: Path, tmp_path: Path, scorer: Scorer) -> None:
    """Without georeferences nothing but the content can tell that these two do not belong together."""
    with rasterio.open(samples / "synthetic_optical_sar_moving.tif") as source:
        cv2.imwrite(str(tmp_path / "elsewhere.png"), source.read(1))
    found = register(samples / "rgb_nir_fixed.tif", tmp_path / "elsewhere.png", FEW_KEYPOINTS, scorer=scorer)
    assert found.status == "failed"
    assert found.matrix is None
    assert "try" in found.reason
    assert "\n" not in found.reason


def test_two_points_by_hand_are_a_start(samples: Path, tmp_path: Path, scorer: Scorer, truth_of: Truth) -> None:
    """Clicks that are 5 px off, on images whose pixels tell nothing of where they lie."""
    moving = np.array([(60.0, 80.0), (400.0, 380.0)])
    fixed = project(truth_of("rgb_nir"), moving) + np.array([(5, -3), (-4, 4)])
    points = [",".join(map(str, row)) for row in np.column_stack([fixed, moving])]
    (tmp_path / "mine.csv").write_text("\n".join(["fixed_x,fixed_y,moving_x,moving_y", *points]))
    config = RegisterConfig(match=MatchConfig(n_keypoints=200, init_points=tmp_path / "mine.csv"))
    found = register(samples / "rgb_nir_fixed.tif", samples / "rgb_nir_moving.tif", config, scorer=scorer)
    assert found.status == "ok"
    assert "coarse" not in found.seconds
    assert mean_corner_error(found.matrix, truth_of("rgb_nir"), found.moving_grid.shape) < 1.0


def test_two_runs_agree_to_the_last_digit(nir: Registration, samples: Path, scorer: Scorer) -> None:
    again = register(samples / "rgb_nir_fixed.tif", samples / "rgb_nir_moving.tif", scorer=scorer)
    np.testing.assert_array_equal(again.matrix, nir.matrix)


def test_command_line_leaves_raster_result_and_picture(samples: Path, tmp_path: Path) -> None:
    fixed, moving = samples / "rgb_nir_fixed.tif", samples / "rgb_nir_moving.tif"
    names = {"-o": "aligned.tif", "--json": "result.json", "--preview": "preview.png"}
    options = [text for flag, name in names.items() for text in (flag, str(tmp_path / name))]
    run = CliRunner().invoke(main, [str(fixed), str(moving), *options])
    assert run.exit_code == 0, run.output
    with rasterio.open(tmp_path / "aligned.tif") as aligned, rasterio.open(fixed) as reference:
        assert (aligned.shape, aligned.transform, aligned.crs) == (reference.shape, reference.transform, reference.crs)
    assert cv2.imread(str(tmp_path / "preview.png")) is not None
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names.values())


def test_same_file_twice_is_refused(samples: Path, scorer: Scorer) -> None:
    path = samples / "rgb_nir_fixed.tif"
    with pytest.raises(UsageError, match="same file"):
        register(path, path, scorer=scorer)


def test_georeferences_without_common_ground_are_refused(samples: Path, scorer: Scorer) -> None:
    with pytest.raises(InputError, match="overlap"):
        register(samples / "rgb_nir_fixed.tif", samples / "synthetic_optical_sar_moving.tif", scorer=scorer)


@pytest.fixture(scope="module")
def sample_files(samples: Path) -> PairFiles:
    return PairFiles.of(samples / "rgb_nir_fixed.tif", samples / "rgb_nir_moving.tif", RegisterConfig().read)


def test_max_shift_in_pixels_and_metres(sample_files: PairFiles) -> None:
    metres = sample_files.fixed.grid.metres_per_pixel
    assert metres is not None
    assert reach_px("40px", sample_files) == 40
    assert reach_px("200m", sample_files) == pytest.approx(200 / metres)
    pair = sample_files.overview(100)
    assert max_shift_px(None, pair) == 100
    assert max_shift_px(40, pair) == pytest.approx(40 / pair.fixed.factor)


@pytest.mark.parametrize("text", ["far", "-3px", "0px", "10 km", "px"])
def test_max_shift_that_is_no_length(sample_files: PairFiles, text: str) -> None:
    with pytest.raises(UsageError, match="max-shift"):
        reach_px(text, sample_files)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "limit_px"), [("sar-145", 3.0), ("nir-urban_0004", 2.0), ("lwir-FLIR_04512", 5.0), ("naip-VA", 2.0)]
)
def test_real_pairs_of_every_family(shared_data: Path, scorer: Scorer, name: str, limit_px: float) -> None:
    pairs = {p["id"]: p for p in json.loads((shared_data / "dev" / "pairs.json").read_text())}
    pair = pairs[name]
    found = register(shared_data / "dev" / pair["fixed"], shared_data / "dev" / pair["moving"], scorer=scorer)
    assert found.status == "ok"
    away = project(found.matrix, pair["landmarks_moving"]) - np.array(pair["landmarks_fixed"])
    assert np.linalg.norm(away, axis=1).mean() < limit_px


@pytest.mark.shared_data
def test_real_images_of_two_places_are_refused(shared_data: Path, scorer: Scorer) -> None:
    pairs = {p["id"]: p for p in json.loads((shared_data / "dev" / "pairs.json").read_text())}
    pair = pairs["none-nir-field_0007"]
    fixed, moving = (shared_data / "dev" / pair[image] for image in ("fixed", "moving"))
    found = register(fixed, moving, FEW_KEYPOINTS, scorer=scorer)
    assert (found.status, found.matrix) == ("failed", None)

"""Fitting again to points that a person has edited or set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from rrl_register.config import EstimateConfig, ModelChoice, ReadConfig, RegisterConfig
from rrl_register.errors import InputError
from rrl_register.exchange.registration import Registration
from rrl_register.exchange.table import PointTable
from rrl_register.geometry.displacement import Displacement
from rrl_register.geometry.transforms import corners_of, project, similarity
from rrl_register.pipeline.refit import refit

SHAPE = (120, 160)
TILTED = np.array([[0.98, 0.03, 4.0], [-0.02, 1.01, -3.0], [2e-4, -1e-4, 1]])
BY_MODEL = {model: RegisterConfig(estimate=EstimateConfig(model=model)) for model in ModelChoice}

Refit = Callable[..., Registration]


@pytest.fixture
def files(make_raster: Callable[..., Path], rng: np.random.Generator) -> SimpleNamespace:
    """Two images of the same grid; what they show does not matter."""
    place = {"crs": CRS.from_epsg(32631), "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    names = ("fixed", "moving")
    return SimpleNamespace(
        **{name: make_raster(rng.integers(1, 255, SHAPE, np.uint8), f"{name}.tif", **place) for name in names}
    )


@pytest.fixture
def refitted(files: SimpleNamespace) -> Refit:
    def run(table: PointTable, config: RegisterConfig | None = None) -> Registration:
        return refit(table, files.fixed, files.moving, config)

    return run


def tied(n: int, true: np.ndarray = TILTED, noise: float = 0.0, off: int = 0) -> PointTable:
    """``n`` points by a known transform, the first ``off`` of which are moved by 30 px."""
    rng = np.random.default_rng(7)
    moving = np.column_stack([rng.uniform(15, 140, n), rng.uniform(15, 100, n)])
    fixed = np.clip(project(true, moving) + rng.normal(0, noise, (n, 2)), 0, [159, 119])
    fixed[:off] = np.where(fixed[:off] > 60, fixed[:off] - 30, fixed[:off] + 30)
    return PointTable.read(fixed, moving, [True] * n)


def corner_error(found: Registration, true: np.ndarray = TILTED) -> float:
    corners = corners_of(SHAPE)
    return float(np.linalg.norm(project(found.matrix, corners) - project(true, corners), axis=1).max())


def test_the_transform_of_the_points_is_found(refitted: Refit) -> None:
    found = refitted(tied(40, noise=0.2), BY_MODEL[ModelChoice.HOMOGRAPHY])
    assert (found.status, found.reason, found.model) == ("ok", "", "homography")
    assert corner_error(found) < 1
    assert found.n_tie_points == found.n_inliers == 40
    assert found.rmse_px is not None and 0.2 < found.rmse_px < 0.4
    assert found.check_rmse_px is not None and found.check_rmse_px > found.rmse_px
    assert found.uncertainty_px is not None
    assert found.covariance is not None


def test_what_only_a_search_can_tell_is_not_told(refitted: Refit) -> None:
    found = refitted(tied(40))
    assert (found.confidence, found.device, found.weights, found.support_px) == (None, None, None, None)
    assert (found.n_candidates, found.n_keypoints_fixed, found.n_keypoints_moving) == (0, 0, 0)
    for figure in ("over_chance", "mean_score", "score_margin", "control_acceptance", "agreeing", "agreement_px"):
        assert found.evidence[figure] is None
    assert found.evidence["n_inliers"] == 40


def test_scores_that_are_known_stay(refitted: Refit) -> None:
    table = tied(40)
    scored = PointTable.read(table.fixed, table.moving, table.enable, np.full(40, 0.75))
    assert refitted(scored).evidence["mean_score"] == 0.75


def test_points_that_are_switched_off_are_left_out(refitted: Refit) -> None:
    table = tied(30, off=6)
    enabled = PointTable.read(table.fixed, table.moving, np.arange(30) >= 6)
    found = refitted(enabled)
    assert (found.n_tie_points, found.n_inliers) == (24, 24)
    assert corner_error(found) < 0.1


def test_a_few_wrong_points_are_outliers(refitted: Refit) -> None:
    found = refitted(tied(30, off=6))
    assert found.n_tie_points == 30
    assert found.inlier.tolist() == [False] * 6 + [True] * 24


@pytest.mark.parametrize(
    ("n", "model"), [(1, ModelChoice.TRANSLATION), (2, ModelChoice.SIMILARITY), (3, ModelChoice.AFFINE)]
)
def test_as_few_points_as_the_model_needs_are_enough(refitted: Refit, n: int, model: ModelChoice) -> None:
    true = similarity(1, 0, (3, 2))
    found = refitted(tied(n, true), BY_MODEL[model])
    assert (found.status, found.model, found.check_rmse_px) == ("ok", model.value, None)
    assert corner_error(found, true) < 1e-6


def test_a_displacement_can_be_asked_for(refitted: Refit) -> None:
    found = refitted(tied(80), BY_MODEL[ModelChoice.POLYNOMIAL2])
    assert found.model == "polynomial2"
    assert isinstance(found.displacement, Displacement)
    assert found.covariance is None


def test_of_a_reduced_scene_the_result_is_one_of_the_files(refitted: Refit) -> None:
    found = refitted(tied(40), RegisterConfig(ReadConfig(max_side=80)))
    assert corner_error(found) < 0.1


@pytest.mark.parametrize(
    ("table", "model", "said"),
    [
        (tied(3), ModelChoice.HOMOGRAPHY, "3 enabled points determine no homography transform"),
        (tied(3, np.array([[-1.0, 0, 150], [0, 1, 0], [0, 0, 1]])), ModelChoice.AFFINE, "turns the image over"),
        (tied(20, off=13), ModelChoice.TRANSLATION, "more than half are needed: disable the wrong ones"),
    ],
    ids=["too few", "mirrored", "contradiction"],
)
def test_points_that_do_not_carry_a_transform_fail(
    refitted: Refit, table: PointTable, model: ModelChoice, said: str
) -> None:
    found = refitted(table, BY_MODEL[model])
    assert (found.status, found.matrix, found.covariance) == ("failed", None, None)
    assert said in found.reason
    assert "try" in found.reason or "check" in found.reason


def test_points_outside_and_no_points_are_errors(refitted: Refit) -> None:
    table = tied(5)
    with pytest.raises(InputError, match="none of 5 points is enabled"):
        refitted(PointTable.read(table.fixed, table.moving, [False] * 5))
    with pytest.raises(InputError, match="moving image, which has 160 x 120 px"):
        refitted(PointTable.read(table.fixed, table.moving + 200, [True] * 5))


def test_the_result_comes_back_from_json(refitted: Refit) -> None:
    found = refitted(tied(40))
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    back = Registration.from_json(data)
    assert data["confidence"] is None
    assert data["tie_points"][0]["score"] is None
    assert np.isnan(back.tie_points.score).all()
    np.testing.assert_array_equal(back.matrix, found.matrix)

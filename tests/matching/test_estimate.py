"""From tie points, known here, to an estimate: its model, evidence, certainty and uncertainty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from image_pairs import image_pair
from rrl_register.config import EstimateConfig, ModelChoice
from rrl_register.estimation.model_selection import candidates
from rrl_register.estimation.robust_fits import DisplacedModel, Model
from rrl_register.geometry.tie_points import Controls, Matches, TiePoints
from rrl_register.geometry.transforms import compose, project, similarity, translation
from rrl_register.matching.estimate import Estimate, estimate_transform
from rrl_register.matching.image_pair import ImagePair
from rrl_register.matching.search_config import Certainty

SIDE = 256
PRIOR = similarity(1.5, 20, (-60, 10))
SHIFTED = compose(translation(6, -4), PRIOR)
TILTED = compose(np.array([[1, 0.01, 6], [-0.01, 1, -4], [8e-5, -5e-5, 1]]), PRIOR)
RADIUS = 20


@pytest.fixture(scope="module")
def pair() -> ImagePair:
    image = np.zeros((SIDE, SIDE), np.float32)
    return image_pair(image, image, PRIOR)


def matches_of(true: np.ndarray, n: int = 150, noise: float = 0.5, score: float = 0.9) -> Matches:
    """``n`` tie points of a transform, with errors of ``noise`` px along x and y, and controls that are rejected."""
    rng = np.random.default_rng(n)
    moving = rng.uniform(0, SIDE, (n, 2))
    fixed = project(true, moving) + rng.normal(0, noise, (n, 2))
    controls = Controls(np.full(8, score), np.full(8, 0.01), 0.5)
    return Matches(TiePoints(fixed, moving, np.full(n, score), np.zeros(n)), n, n, n, controls)


def estimate_of(pair: ImagePair, matches: Matches, model: ModelChoice = ModelChoice.AUTO) -> Estimate | None:
    models = candidates(None if model is ModelChoice.AUTO else model.value)
    return estimate_transform(pair, matches, EstimateConfig(model=model), models, RADIUS, window_half=24)


def known(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    return estimate


@pytest.mark.parametrize(("true", "model"), [(SHIFTED, Model.TRANSLATION), (TILTED, Model.HOMOGRAPHY)])
def test_the_simplest_model_is_chosen_on_top_of_the_prior(pair: ImagePair, true: np.ndarray, model: Model) -> None:
    estimate = known(estimate_of(pair, matches_of(true)))
    assert estimate.model is model
    corners = np.array([(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)], float)
    np.testing.assert_allclose(project(estimate.matrix, corners), project(true, corners), atol=0.6)


@pytest.mark.parametrize("model", [choice for choice in ModelChoice if choice is not ModelChoice.AUTO])
def test_a_requested_model_is_the_one_that_is_fitted(pair: ImagePair, model: ModelChoice) -> None:
    estimate = known(estimate_of(pair, matches_of(TILTED), model))
    assert estimate.model.value == model.value
    left = compose(estimate.matrix, np.linalg.inv(PRIOR))
    displaced = model.value in list(DisplacedModel)
    assert (estimate.transform.displacement is not None) == displaced
    assert np.allclose(left[2], [0, 0, 1]) == (model is not ModelChoice.HOMOGRAPHY and not displaced)
    assert np.allclose(left[:2, :2], np.eye(2)) == (model is ModelChoice.TRANSLATION)


def test_cross_validation_reveals_a_model_that_does_not_fit(pair: ImagePair) -> None:
    errors = [
        known(estimate_of(pair, matches_of(TILTED), model)).evidence.check_rmse_px
        for model in (ModelChoice.HOMOGRAPHY, ModelChoice.SIMILARITY)
    ]
    assert errors[0] < 1.0 < errors[1]


def test_points_that_fail_the_forward_backward_check_are_not_fitted(pair: ImagePair) -> None:
    """Most tie points agree on a place 2 px off, and fail the check; they stay in the record."""
    matches, confirmed = matches_of(SHIFTED, noise=0.0), np.arange(150) < 60
    off = matches.tie_points.fixed + np.where(confirmed[:, None], 0, [2.0, 0])
    points = replace(matches.tie_points, fixed=off, agreement_px=np.where(confirmed, 0.1, 3.0))
    estimate = known(estimate_of(pair, replace(matches, tie_points=points)))
    np.testing.assert_allclose(project(estimate.matrix, [(0, 0)]), project(SHIFTED, [(0, 0)]), atol=1e-6)
    assert len(estimate.matches.tie_points) == len(estimate.residual) == estimate.evidence.n_inliers == 150
    assert estimate.evidence.agreeing == pytest.approx(0.4)


def test_the_jackknife_measures_the_uncertainty(pair: ImagePair) -> None:
    estimate = known(estimate_of(pair, matches_of(SHIFTED)))
    assert estimate.uncertainty is not None
    assert len(estimate.replicates) == 25
    # A shift by the mean of 150 points, each off by half a px along x and along y.
    assert estimate.uncertainty.mean == pytest.approx(0.5 * np.sqrt(2 / 150), rel=0.4)
    assert estimate.uncertainty.max == pytest.approx(estimate.uncertainty.mean)


def test_points_too_few_for_the_requested_model_give_no_estimate(pair: ImagePair) -> None:
    matches = matches_of(SHIFTED, n=3)
    assert estimate_of(pair, matches, ModelChoice.HOMOGRAPHY) is None
    assert known(estimate_of(pair, matches)).model is Model.TRANSLATION


def test_certainty_rises_with_the_evidence(pair: ImagePair) -> None:
    few, weak, many = matches_of(SHIFTED, n=8), matches_of(SHIFTED, n=40, score=0.55), matches_of(SHIFTED, n=150)
    assert known(estimate_of(pair, few)).certainty is Certainty.WEAK
    assert known(estimate_of(pair, weak)).certainty >= Certainty.SUPPORTED
    assert known(estimate_of(pair, many)).certainty is Certainty.CERTAIN


def test_tie_points_at_random_are_weak_evidence_and_refused(pair: ImagePair) -> None:
    rng = np.random.default_rng(4)
    points = TiePoints(*rng.uniform(0, SIDE, (2, 60, 2)), np.full(60, 0.9), np.zeros(60))
    estimate = known(estimate_of(pair, Matches(points, 60, 60, 60)))
    assert estimate.certainty is Certainty.WEAK
    assert estimate.refusal(EstimateConfig()) is not None


def test_an_implausible_transform_is_weak_however_many_points_agree(pair: ImagePair) -> None:
    mirror = np.array([[-1.0, 0, SIDE], [0, 1, 0], [0, 0, 1]])
    estimate = known(estimate_of(pair, matches_of(compose(PRIOR, mirror)), ModelChoice.AFFINE))
    assert estimate.evidence.n_inliers > 140
    assert estimate.certainty is Certainty.WEAK
    assert estimate.confidence == 0
    assert "turns the image over" in str(estimate.refusal(EstimateConfig()))


def test_at_a_finer_step_lengths_are_those_of_the_finer_pixels(pair: ImagePair) -> None:
    """The same tie points in pixels half as wide: the same transform in the files, residuals twice as long."""
    coarse = matches_of(SHIFTED)
    points = coarse.tie_points
    finer = replace(coarse, tie_points=replace(points, fixed=2 * points.fixed + 0.5, moving=2 * points.moving + 0.5))
    models = candidates(ModelChoice.TRANSLATION.value)
    one = known(estimate_transform(pair, coarse, EstimateConfig(threshold=4.0), models, RADIUS))
    two = known(estimate_transform(pair, finer, EstimateConfig(threshold=8.0), models, 2 * RADIUS, step=2.0))
    np.testing.assert_allclose(
        two.frames.to_files(two.transform).matrix, one.frames.to_files(one.transform).matrix, atol=1e-6
    )
    assert two.evidence.rmse_px == pytest.approx(2 * one.evidence.rmse_px, rel=1e-6)
    assert two.evidence.coverage == pytest.approx(one.evidence.coverage, rel=0.05)

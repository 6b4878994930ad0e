from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrl_register.estimation.cross_validation import (
    cross_validation_residuals,
    cross_validation_rmse,
    spatial_blocks,
    spatial_folds,
)
from rrl_register.estimation.robust_fits import Model, RobustFit, biweight, refit, robust_fit
from rrl_register.geometry.homography import fit_homography
from rrl_register.geometry.transforms import (
    fit_similarity,
    fit_translation,
    project,
    residuals,
    similarity,
    translation,
)

TRUTH = {
    Model.TRANSLATION: translation(20, -12),
    Model.SIMILARITY: similarity(1.1, 8, (20, -12)),
    Model.AFFINE: np.array([[1.05, 0.1, 4.0], [-0.07, 0.95, 9.0], [0, 0, 1]]),
    Model.HOMOGRAPHY: np.array([[1.05, 0.1, 4.0], [-0.07, 0.95, 9.0], [1e-4, -5e-5, 1]]),
}


def contaminated(
    model: Model, n_good: int, n_bad: int, noise: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    moving = rng.uniform(0, 800, (n_good + n_bad, 2))
    fixed = project(TRUTH[model], moving) + rng.normal(0, noise, moving.shape)
    fixed[n_good:] = rng.uniform(0, 800, (n_bad, 2))
    return moving, fixed


@pytest.mark.parametrize("model", list(Model))
def test_the_transform_is_found_among_twice_as_many_outliers(model: Model) -> None:
    moving, fixed = contaminated(model, 80, 160)
    fit = robust_fit(moving, fixed, 3.0, model)
    assert fit is not None
    assert fit.inliers[:80].mean() > 0.95
    assert fit.inliers[80:].mean() < 0.05
    assert residuals(fit.matrix, moving[:80], project(TRUTH[model], moving[:80])).max() < 0.8


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_a_similarity_is_found_from_few_points(seed: int) -> None:
    moving, fixed = contaminated(Model.SIMILARITY, 10, 20, noise=0.3, seed=seed)
    fit = robust_fit(moving, fixed, 2.0, Model.SIMILARITY)
    assert fit is not None
    assert fit.inliers[:10].all()


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_a_translation_is_found_from_few_points(seed: int) -> None:
    moving, fixed = contaminated(Model.TRANSLATION, 5, 20, noise=0.3, seed=seed)
    fit = robust_fit(moving, fixed, 2.0, Model.TRANSLATION)
    assert fit is not None
    assert fit.inliers[:5].all()
    np.testing.assert_allclose(fit.matrix, TRUTH[Model.TRANSLATION], atol=1.0)


def test_a_translation_of_more_points_than_are_tried() -> None:
    moving, fixed = contaminated(Model.TRANSLATION, 2000, 1500)
    fit = robust_fit(moving, fixed, model=Model.TRANSLATION)
    assert fit is not None
    np.testing.assert_allclose(fit.matrix, TRUTH[Model.TRANSLATION], atol=0.1)


@pytest.mark.parametrize("model", [Model.TRANSLATION, Model.SIMILARITY])
def test_weights_decide_between_two_motions(model: Model) -> None:
    rng = np.random.default_rng(0)
    moving = rng.uniform(0, 800, (60, 2))
    fixed = moving + np.where(np.arange(60)[:, None] < 25, (30, 0), (0, -30))
    trust = np.where(np.arange(60) < 25, 1.0, 0.2)
    unweighted, weighted = (robust_fit(moving, fixed, model=model, weights=each) for each in (None, trust))
    assert unweighted is not None and not unweighted.inliers[:25].any()
    assert weighted is not None and weighted.inliers[:25].all()


@pytest.mark.parametrize("model", list(Model))
def test_repeated_runs_agree_to_the_last_bit(model: Model) -> None:
    moving, fixed = contaminated(model, 50, 150)
    first, second = (robust_fit(moving, fixed, 3.0, model, seed=4) for _ in range(2))
    assert first is not None and second is not None
    assert np.array_equal(first.matrix, second.matrix)


@pytest.mark.parametrize("model", list(Model))
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_points_on_one_spot_determine_a_translation_at_most(model: Model, n: int) -> None:
    points = np.full((n, 2), 7.0)
    fit = robust_fit(points, points, 3.0, model)
    if model is Model.TRANSLATION and n:
        assert fit is not None
        np.testing.assert_array_equal(fit.matrix, np.eye(3))
    else:
        assert fit is None


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_too_few_points_determine_no_homography(n: int) -> None:
    points = np.random.default_rng(0).uniform(0, 100, (n, 2))
    assert robust_fit(points, points) is None


@pytest.mark.parametrize("model", [Model.AFFINE, Model.HOMOGRAPHY])
def test_points_on_one_line_determine_none(model: Model) -> None:
    points = np.column_stack([np.arange(30.0), 3 * np.arange(30.0)]) * 10
    assert robust_fit(points, points + 4, 3.0, model) is None


def test_models_can_be_named_by_text() -> None:
    moving, fixed = contaminated(Model.AFFINE, 40, 10)
    fit = robust_fit(moving, fixed, model="affine")
    assert isinstance(fit, RobustFit)
    np.testing.assert_array_equal(fit.matrix[2], [0, 0, 1])


def test_a_refit_grows_from_a_simple_start_into_a_flexible_model() -> None:
    moving, fixed = contaminated(Model.HOMOGRAPHY, 100, 30, noise=0.2)
    start = fit_similarity(moving[:100], fixed[:100])
    grown = refit(moving, fixed, start, 30.0, Model.HOMOGRAPHY)
    assert grown is not None
    final = refit(moving, fixed, grown.matrix, 2.0, Model.HOMOGRAPHY)
    assert final is not None
    assert residuals(final.matrix, moving[:100], project(TRUTH[Model.HOMOGRAPHY], moving[:100])).max() < 0.5


def test_a_refit_without_inliers_is_none() -> None:
    moving, fixed = contaminated(Model.AFFINE, 30, 0)
    assert refit(moving, fixed, similarity(shift=(5000, 0)), 3.0, Model.AFFINE) is None


@given(st.integers(5, 400), st.integers(2, 8))
def test_folds_share_the_points_out(n: int, folds: int) -> None:
    fold = spatial_folds(np.random.default_rng(n).uniform(0, 100, (n, 2)), folds)
    assert fold.shape == (n,)
    assert fold.min() >= 0 and fold.max() < folds


def test_folds_are_spread_and_points_side_by_side_share_one() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 1000, (200, 2))
    fold = spatial_folds(np.concatenate([places, places + 0.01]))
    assert (fold[:200] == fold[200:]).mean() > 0.95
    assert (np.bincount(fold) > 50).all()
    for index in range(5):
        assert np.ptp(places[fold[:200] == index], axis=0).min() > 600


def test_blocks_are_compact_and_equally_full_per_column() -> None:
    places = np.random.default_rng(1).uniform(0, 1000, (500, 2))
    block = spatial_blocks(places)
    assert set(block) == set(range(25))
    assert (np.bincount(block // 5) == 100).all() and (np.bincount(block % 5) == 100).all()
    assert max(np.ptp(places[block == index], axis=0).max() for index in range(25)) < 300


def test_each_part_is_predicted_by_the_others() -> None:
    """Two parts with a shift of their own: either knows of the other's only."""
    moving = np.random.default_rng(2).uniform(0, 100, (10, 2))
    part = np.arange(10) % 2
    fixed = moving + np.where(part, 7, 4)[:, None] * [1, 0]
    np.testing.assert_allclose(cross_validation_residuals(moving, fixed, part, fit_translation), 3)
    assert np.isnan(cross_validation_residuals(moving, fixed, np.zeros(10, np.int64), fit_translation)).all()


def test_cross_validation_rmse_of_exact_points_is_zero() -> None:
    moving, fixed = contaminated(Model.HOMOGRAPHY, 60, 0, noise=0)
    assert cross_validation_rmse(moving, fixed) < 1e-6


def test_cross_validation_rmse_exceeds_the_fit_error_and_meets_the_noise() -> None:
    moving, fixed = contaminated(Model.HOMOGRAPHY, 60, 0, noise=1.0)
    matrix = fit_homography(moving, fixed)
    fit_rmse = np.sqrt((residuals(matrix, moving, fixed) ** 2).mean())
    assert fit_rmse < cross_validation_rmse(moving, fixed) < 2.0


def test_a_point_does_not_predict_itself() -> None:
    moving, fixed = contaminated(Model.SIMILARITY, 60, 0, noise=0.0)
    fixed[3] += 40
    held_out = cross_validation_residuals(moving, fixed, spatial_folds(fixed), fit_similarity)
    assert held_out[3] == pytest.approx(np.hypot(40, 40), rel=1e-6)


def test_cross_validation_rmse_of_too_few_points_is_nan() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (4, 2))
    assert np.isnan(cross_validation_rmse(points, points))
    assert np.isnan(cross_validation_rmse(points[:0], points[:0]))


@given(st.floats(0, 50), st.floats(0, 50), st.floats(0.5, 20))
def test_the_biweight_falls_from_one_to_nothing(one: float, other: float, threshold: float) -> None:
    near, far = sorted((one, other))
    weights = biweight(np.array([0.0, near, far, threshold, 2 * threshold, np.inf]), threshold)
    assert weights[0] == 1
    assert weights[1] >= weights[2]
    assert (weights[3:] == 0).all()
    assert ((weights >= 0) & (weights <= 1)).all()


@pytest.mark.parametrize("model", list(Model))
def test_inliers_are_the_points_within_the_threshold(model: Model) -> None:
    moving, fixed = contaminated(model, 60, 60, noise=1.0)
    fit = robust_fit(moving, fixed, 2.5, model)
    assert fit is not None
    np.testing.assert_array_equal(fit.inliers, residuals(fit.matrix, moving, fixed) <= 2.5)


@pytest.mark.parametrize("model", [Model.TRANSLATION, Model.SIMILARITY])
def test_the_order_of_the_points_does_not_matter(model: Model) -> None:
    """All hypotheses are tried if they are few."""
    moving, fixed = contaminated(model, 20, 30)
    order = np.random.default_rng(1).permutation(50)
    fit, other = robust_fit(moving, fixed, 3.0, model), robust_fit(moving[order], fixed[order], 3.0, model)
    assert fit is not None and other is not None
    np.testing.assert_allclose(other.matrix, fit.matrix, atol=1e-6)
    np.testing.assert_array_equal(other.inliers, fit.inliers[order])


@given(st.floats(-2000, 2000), st.floats(-2000, 2000))
@settings(max_examples=15, deadline=None)
def test_the_estimate_follows_a_shift_of_the_fixed_image(dx: float, dy: float) -> None:
    moving, fixed = contaminated(Model.SIMILARITY, 20, 20)
    fit, shifted = (robust_fit(moving, fixed + offset, 3.0, Model.SIMILARITY) for offset in ([0, 0], [dx, dy]))
    assert fit is not None and shifted is not None
    np.testing.assert_allclose(shifted.matrix, translation(dx, dy) @ fit.matrix, atol=1e-6)


@pytest.mark.parametrize("model", list(Model))
def test_points_of_no_trust_do_not_move_the_fit(model: Model) -> None:
    moving, fixed = contaminated(model, 80, 20)
    trust = np.where(np.arange(100) < 80, 1.0, 0.0)
    start = TRUTH[model]
    alone, all_points = (
        refit(moving[:80], fixed[:80], start, 3.0, model),
        refit(moving, fixed, start, 3.0, model, trust),
    )
    assert alone is not None and all_points is not None
    np.testing.assert_allclose(all_points.matrix, alone.matrix, atol=1e-7)


@pytest.mark.parametrize("model", list(Model))
def test_a_refit_of_a_refit_changes_nothing(model: Model) -> None:
    moving, fixed = contaminated(model, 80, 40)
    first = refit(moving, fixed, TRUTH[model], 3.0, model)
    assert first is not None
    again = refit(moving, fixed, first.matrix, 3.0, model)
    assert again is not None
    assert np.abs(project(again.matrix, moving) - project(first.matrix, moving)).max() < 1e-4


@pytest.mark.parametrize("model", list(Model))
def test_as_many_points_as_determine_a_model_are_met_exactly(model: Model) -> None:
    moving = np.array([(0.0, 0), (500, 20), (480, 510), (10, 470)])[: model.min_points]
    fixed = project(TRUTH[model], moving)
    np.testing.assert_allclose(project(model.fit(moving, fixed, None), moving), fixed, atol=1e-6)


def test_more_pairs_than_are_tried_still_show_a_similarity() -> None:
    moving, fixed = contaminated(Model.SIMILARITY, 150, 150)
    first, second = (robust_fit(moving, fixed, 3.0, Model.SIMILARITY, seed=seed) for seed in (0, 1))
    assert first is not None and second is not None
    np.testing.assert_array_equal(first.inliers, second.inliers)


def test_pairs_in_one_place_are_no_hypothesis() -> None:
    """Two clusters nearer than the threshold: no pair lies far enough apart to show a rotation."""
    moving = np.concatenate([np.zeros((5, 2)), np.full((5, 2), 3.0)])
    assert robust_fit(moving, moving, 3.0, Model.SIMILARITY) is None

"""Choice of the simplest model that the points support, and its error away from them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from rrl_register.config import ModelChoice
from rrl_register.estimation import model_selection as selection
from rrl_register.estimation.model_selection import FitAfter, candidates, choose_model
from rrl_register.estimation.robust_fits import DisplacedHomography, DisplacedModel, Model, robust_fit
from rrl_register.geometry.displacement import Transform, as_transform
from rrl_register.geometry.transforms import (
    compose,
    corners_of,
    fit_similarity,
    invert,
    project,
    similarity,
    translation,
)

SIDE = 512
CENTRE = ((SIDE - 1) / 2, (SIDE - 1) / 2)
TURN = similarity(1.03, 4, (9, -6), CENTRE)
NOISES = (0.3, 0.7, 1.5)


def around_the_centre(matrix: np.ndarray) -> np.ndarray:
    return compose(translation(*CENTRE), matrix, translation(-CENTRE[0], -CENTRE[1]))


def tilted(perspective: float) -> np.ndarray:
    """``TURN`` after a tilt that makes the depths of two sides differ by ``perspective``."""
    tilt = np.eye(3)
    tilt[2, :2] = perspective / SIDE, -perspective / SIDE / 2
    return compose(TURN, around_the_centre(tilt))


TRUTH = {
    Model.TRANSLATION: translation(9, -6),
    Model.SIMILARITY: TURN,
    Model.AFFINE: around_the_centre(np.array([[1.03, 0.03, 9], [-0.02, 0.98, -6], [0, 0, 1]])),
    Model.HOMOGRAPHY: tilted(0.05),
}


def tie_points(true: np.ndarray, n: int, noise: float, seed: int, wrong: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """``n`` right tie points with noise, and a share of wrong ones within reach of the search."""
    rng = np.random.default_rng(seed)
    moving = rng.uniform(0, SIDE - 1, (n + round(wrong * n), 2))
    fixed = project(true, moving)
    fixed[:n] += rng.normal(0, noise, (n, 2))
    fixed[n:] += rng.uniform(-12, 12, fixed[n:].shape)
    return moving, fixed


def corner_error(found: np.ndarray, true: np.ndarray) -> float:
    corners = corners_of((SIDE, SIDE))
    return float(np.linalg.norm(project(found, corners) - project(true, corners), axis=1).mean())


@cache
def compared(truth: Model | float, n: int, repeats: int) -> list[tuple[Model, float, float]]:
    """(Model chosen, its error at the corners, a homography's) for every noise; a float is a perspective."""
    true = TRUTH[truth] if isinstance(truth, Model) else tilted(truth)
    rows = []
    for noise in NOISES:
        for seed in range(repeats):
            points = tie_points(true, n, noise, seed)
            chosen = choose_model(*points, models=tuple(Model))
            always = robust_fit(*points, model=Model.HOMOGRAPHY)
            assert chosen is not None and always is not None
            rows.append((chosen.model, corner_error(chosen.matrix, true), corner_error(always.matrix, true)))
    return rows


@pytest.mark.parametrize("truth", [Model.TRANSLATION, Model.SIMILARITY, Model.AFFINE, 0.01], ids=str)
def test_few_points_are_served_better_than_by_a_homography(truth: Model | float) -> None:
    """A perspective of 0.01 moves the corners by px, which a dozen points show only where the noise is low."""
    _, chosen, always = zip(*compared(truth, 12, 10), strict=True)
    assert np.mean(chosen) < np.mean(always)


@pytest.mark.parametrize("n", [40, 300])
@pytest.mark.parametrize("truth", list(Model))
def test_the_true_model_is_mostly_chosen_and_never_a_simpler_one(truth: Model, n: int) -> None:
    models, chosen, always = zip(*compared(truth, n, 3), strict=True)
    order = list(Model)
    assert np.mean([model is truth for model in models]) >= 0.8
    assert min(order.index(model) for model in models) >= order.index(truth)
    assert np.mean(chosen) <= np.mean(always)


def terrain(places: np.ndarray, height: float) -> np.ndarray:
    """Displacement by smooth hills of up to ``height`` px, that lean to one side."""
    x, y = places.T / SIDE
    up = np.exp(-((x - 0.3) ** 2 + (y - 0.4) ** 2) / 0.05) - np.exp(-((x - 0.75) ** 2 + (y - 0.7) ** 2) / 0.07)
    return np.stack([height * up, 0.3 * height * up], axis=1)


def over_terrain(height: float, seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Return tie points with a noise of 0.5 px, a fifth of them wrong."""
    rng = np.random.default_rng(seed)
    fixed, wrong = rng.uniform(0, SIDE, (n, 2)), rng.random(n) < 0.2
    off = np.where(wrong[:, None], rng.uniform(-12, 12, (n, 2)), rng.normal(0, 0.5, (n, 2)))
    return project(invert(tilted(0.05)), fixed - terrain(fixed, height) + off), fixed


def test_a_homography_is_not_bent_by_noise_and_outliers() -> None:
    models = [chosen.model for seed in range(12) if (chosen := choose_model(*over_terrain(0.0, seed)))]
    assert models == [Model.HOMOGRAPHY] * 12


def test_terrain_is_displaced() -> None:
    lattice = np.stack(np.meshgrid(np.linspace(20, 490, 12), np.linspace(20, 490, 12)), -1).reshape(-1, 2)
    there = project(invert(tilted(0.05)), lattice - terrain(lattice, 8.0))
    for seed in range(5):
        chosen = choose_model(*over_terrain(8.0, seed))
        assert chosen is not None
        assert chosen.model in list(DisplacedModel)
        error = chosen.transform.residuals(there, lattice).mean()
        assert error < 0.6 * Transform(chosen.matrix).residuals(there, lattice).mean()


def test_terrain_that_a_homography_follows_to_a_pixel_is_left_to_it() -> None:
    """The little that a displacement would gain is no more than errors that neighbouring points share."""
    chosen = choose_model(*over_terrain(2.0, 0))
    assert chosen is not None
    assert chosen.model is Model.HOMOGRAPHY


def test_no_displacement_is_fitted_where_matrices_leave_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a displacement was fitted")

    monkeypatch.setattr(selection, "robust_displaced_homographies", refuse)
    chosen = choose_model(*tie_points(TURN, 200, 0.7, 0, wrong=0.02))
    assert chosen is not None and chosen.model is Model.SIMILARITY
    with pytest.raises(AssertionError, match="was fitted"):  # what the matrices miss could be displaced
        choose_model(*tie_points(TURN, 200, 0.7, 0, wrong=0.25))


def test_a_bend_of_a_fraction_of_a_pixel_is_no_displacement() -> None:
    """Exact points show it as clearly as can be."""
    rng = np.random.default_rng(0)
    fixed = rng.uniform(0, SIDE, (200, 2))
    moving = project(invert(tilted(0.05)), fixed - terrain(fixed, 0.5) + rng.normal(0, 0.02, (200, 2)))
    chosen = choose_model(moving, fixed)
    assert chosen is not None
    assert chosen.model is Model.HOMOGRAPHY


def test_a_displacement_needs_many_points() -> None:
    chosen = choose_model(*over_terrain(4.0, 0, 34))
    assert chosen is not None
    assert chosen.model in list(Model)


def test_a_displaced_model_comes_on_top_of_the_prior() -> None:
    prior = similarity(2.0, 30)
    moving, fixed = over_terrain(3.0, 1)
    apart = project(invert(prior), moving)
    chosen = choose_model(apart, fixed, prior=prior, models=candidates("polynomial3"))
    direct = choose_model(moving, fixed, models=candidates("polynomial3"))
    assert chosen is not None and direct is not None
    there, here = chosen.transform.residuals(apart, fixed), direct.transform.residuals(moving, fixed)
    np.testing.assert_allclose(there, here, atol=1e-4)
    refitted = as_transform(chosen.fit(apart, fixed, chosen.inliers.astype(float)))
    assert refitted.displacement is not None
    assert np.median(refitted.residuals(apart, fixed)) < 1


def test_candidates_go_by_their_model_s_name() -> None:
    assert candidates(None)[:4] == tuple(Model)
    assert [model.value for model in Model] == [c.value for c in candidates(None) if isinstance(c, Model)]
    assert candidates("affine") == (Model.AFFINE,)
    assert {c.model for c in candidates("thin-plate") if isinstance(c, DisplacedHomography)} == {
        DisplacedModel.THIN_PLATE
    }
    names = {*Model, *DisplacedModel}
    assert names | {"auto"} == {choice.value for choice in ModelChoice}


def test_many_points_show_a_slight_perspective() -> None:
    rows = compared(0.01, 300, 3)
    assert {model for model, _, _ in rows} == {Model.HOMOGRAPHY}
    assert all(chosen == pytest.approx(always, abs=1e-6) for _, chosen, always in rows)


def test_a_model_gains_nothing_by_dropping_what_it_cannot_reach() -> None:
    """A translation is within the threshold on a strip, the affine exact everywhere."""
    moving = np.random.default_rng(0).uniform(0, SIDE, (60, 2))
    stretched = moving * [1.04, 1.0]
    near = np.abs(stretched - moving)[:, 0] < 3
    assert 5 < near.sum() < 30
    chosen = choose_model(moving, stretched)
    assert chosen is not None
    assert chosen.model is Model.AFFINE
    assert chosen.inliers.all()


def test_neighbours_that_share_an_error_count_once() -> None:
    """Places with an error of their own, each seen by ten points: taken one by one, these would show a homography."""
    models = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        places, shared = rng.uniform(0, SIDE, (40, 2)), rng.normal(0, 0.7, (40, 2))
        moving = np.repeat(places, 10, axis=0) + rng.uniform(-8, 8, (400, 2))
        error = np.repeat(shared, 10, axis=0) + rng.normal(0, 0.2, (400, 2))
        chosen = choose_model(moving, project(TURN, moving) + error)
        assert chosen is not None
        models.append(chosen.model)
    assert np.mean([model is Model.SIMILARITY for model in models]) >= 0.9


@pytest.mark.parametrize("model", list(Model))
def test_a_model_that_is_asked_for_is_fitted(model: Model) -> None:
    moving, fixed = tie_points(tilted(0.01), 40, 0.5, seed=0)
    chosen, alone = choose_model(moving, fixed, models=(model,)), robust_fit(moving, fixed, model=model)
    assert chosen is not None and alone is not None
    assert chosen.model is model
    np.testing.assert_allclose(chosen.matrix, alone.matrix / alone.matrix[2, 2], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(chosen.inliers, alone.inliers)


def test_models_come_on_top_of_the_prior() -> None:
    prior = similarity(2.0, 30)
    true = compose(translation(4, -3), prior)
    moving, fixed = tie_points(true, 40, 0.3, seed=1)
    chosen = choose_model(moving, fixed, prior=prior)
    assert chosen is not None
    assert chosen.model is Model.TRANSLATION
    np.testing.assert_allclose(chosen.matrix, true, atol=0.3)
    np.testing.assert_allclose(chosen.matrix[:2, :2], prior[:2, :2])
    np.testing.assert_allclose(FitAfter(prior, Model.TRANSLATION)(moving, project(true, moving), None), true)


def test_trust_decides_where_points_contradict_each_other() -> None:
    moving = np.random.default_rng(0).uniform(0, SIDE, (60, 2))
    first = np.arange(60) < 25
    fixed = moving + np.where(first[:, None], (30, 0), (0, -30))
    chosen = choose_model(moving, fixed, weights=np.where(first, 1.0, 0.2))
    assert chosen is not None
    np.testing.assert_allclose(chosen.matrix, translation(30, 0), atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_fewest_points_determine_the_simplest_model(n: int) -> None:
    moving = np.random.default_rng(n).uniform(0, SIDE, (n, 2))
    chosen = choose_model(moving, moving + np.array([5, 2]))
    assert chosen is not None
    assert chosen.model is Model.TRANSLATION
    np.testing.assert_allclose(chosen.matrix, translation(5, 2), atol=1e-9)


def test_points_on_a_line_show_a_similarity() -> None:
    moving = np.column_stack([np.arange(30.0), 2 * np.arange(30.0)]) * 10
    chosen = choose_model(moving, project(TURN, moving))
    assert chosen is not None
    assert chosen.model is Model.SIMILARITY
    np.testing.assert_allclose(chosen.matrix, fit_similarity(moving, project(TURN, moving)), atol=1e-6)


def test_no_points_show_nothing() -> None:
    assert choose_model(np.empty((0, 2)), np.empty((0, 2))) is None
    spot = np.full((9, 2), 7.0)
    assert choose_model(spot, spot, models=(Model.SIMILARITY, Model.AFFINE)) is None


def test_repeated_choices_agree_to_the_last_bit() -> None:
    points = tie_points(TURN, 100, 0.7, seed=3)
    first, second = choose_model(*points), choose_model(*points)
    assert first is not None and second is not None
    assert first.model is second.model
    np.testing.assert_array_equal(first.matrix, second.matrix)

"""From tie points, which here are known, to the estimate: which model it ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from rrl_register.config import Effort, EstimateConfig, Kind, MatchConfig, ModelChoice
from rrl_register.estimation.displaced_models import DisplacedModel
from rrl_register.estimation.ransac import Model
from rrl_register.geometry.tie_points import Controls, Matches, TiePoints
from rrl_register.geometry.transforms import compose, project, similarity, translation
from rrl_register.matching import strategy as search
from rrl_register.matching.estimate import Estimate
from rrl_register.matching.image_pair import ImagePair
from rrl_register.matching.initial_transforms import Proposal
from rrl_register.matching.strategy import Counts, Search
from rrl_register.raster.grid import Grid

SIDE = 256
PRIOR = similarity(1.5, 20, (-60, 10))
SHIFTED = compose(translation(6, -4), PRIOR)
NEAR = compose(translation(2, -1), PRIOR)
TILTED = compose(np.array([[1, 0.01, 6], [-0.01, 1, -4], [8e-5, -5e-5, 1]]), PRIOR)


def _rounds(matches: Matches, sample: int | None) -> Iterator[Matches]:
    """Of known tie points, first some with the others unscored for, then all, as ``Located.rounds`` gives them."""
    n = matches.n_fixed
    if sample is not None and sample < n:
        points = matches.tie_points
        if points.agreement_px is None:
            points = replace(points, agreement_px=np.zeros(n))
        asked, rest = points.at(np.arange(n) < sample), points.at(np.arange(n) >= sample)
        unscored = replace(rest, score=np.full(len(rest), np.nan)).forward_backward_consistent()
        controls = Controls(np.full(8, 0.9), np.full(8, 0.01), 0.5)
        yield Matches(asked, sample, sample, sample, controls, unscored=unscored, n_unscored=n - sample)
    yield matches


def estimated(
    monkeypatch: pytest.MonkeyPatch,
    true: np.ndarray,
    config: EstimateConfig,
    n_refined: int = 150,
    guided: Callable[..., Matches] | None = None,
    initial: np.ndarray | None = None,
    effort: Effort = Effort.NORMAL,
    counts: Counts | None = None,
    starts: Sequence[np.ndarray] = (PRIOR,),
) -> Estimate | None:
    """What the search makes of passes that tie points by a known transform, half a px off, or of ``guided``."""

    def tied(*arguments: object) -> Matches:
        n = n_refined if arguments[-1] == 1 else 60
        rng = np.random.default_rng(n)
        moving = rng.uniform(0, SIDE, (n, 2))
        fixed = project(true, moving) + rng.normal(0, 0.5, (n, 2))
        return Matches(TiePoints(fixed, moving, np.full(n, 0.9)), n, n, n)

    monkeypatch.setattr(search, "keypoint_pass", lambda scene, matrix, radius: tied(None))
    find = guided or tied
    monkeypatch.setattr(search, "locate", lambda *a: SimpleNamespace(rounds=lambda sample: _rounds(find(*a), sample)))
    image, valid = np.zeros((SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), bool)
    grid = Grid(SIDE, SIDE)
    pair = ImagePair(image, valid, image, valid, PRIOR, 1.0, 1.0, Kind.OPTICAL, Kind.IR, grid, grid)
    scene = SimpleNamespace(pair=pair, config=MatchConfig(effort=effort), correlation_half=24)
    found = [Proposal(scene, matrix, 50.0) for matrix in starts]
    monkeypatch.setattr(search, "proposals", lambda *_: iter([found]))
    monkeypatch.setattr(search, "prior_proposal", lambda *_: found[0])
    return Search(scene, config, 50.0, lambda name: nullcontext(), counts or Counts(), initial).run()


@pytest.mark.parametrize(("true", "model"), [(SHIFTED, Model.TRANSLATION), (TILTED, Model.HOMOGRAPHY)])
def test_the_model_is_chosen_on_top_of_the_prior(
    monkeypatch: pytest.MonkeyPatch, true: np.ndarray, model: Model
) -> None:
    estimate = estimated(monkeypatch, true, EstimateConfig())
    assert estimate is not None
    assert estimate.model is model
    corners = np.array([(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)], float)
    np.testing.assert_allclose(project(estimate.matrix, corners), project(true, corners), atol=0.6)


@pytest.mark.parametrize("model", [choice for choice in ModelChoice if choice is not ModelChoice.AUTO])
def test_a_model_asked_for_is_what_comes_out(monkeypatch: pytest.MonkeyPatch, model: ModelChoice) -> None:
    estimate = estimated(monkeypatch, TILTED, EstimateConfig(model=model))
    assert estimate is not None
    assert estimate.model.value == model.value
    left = compose(estimate.matrix, np.linalg.inv(PRIOR))
    displaced = model.value in list(DisplacedModel)
    assert (estimate.transform.displacement is not None) == displaced
    assert np.allclose(left[2], [0, 0, 1]) == (model is not ModelChoice.HOMOGRAPHY and not displaced)
    assert np.allclose(left[:2, :2], np.eye(2)) == (model is ModelChoice.TRANSLATION)


def test_the_check_error_tells_of_a_model_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = []
    for model in (ModelChoice.HOMOGRAPHY, ModelChoice.SIMILARITY):
        estimate = estimated(monkeypatch, TILTED, EstimateConfig(model=model))
        assert estimate is not None
        errors.append(estimate.evidence.check_rmse_px)
    assert errors[0] < 1.0 < errors[1]


def test_points_that_are_not_found_back_are_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tie points agree on a place 2 px off, which the search back does not confirm; they remain in the record."""

    def half_found_back(*_: object) -> Matches:
        moving = np.random.default_rng(5).uniform(0, SIDE, (150, 2))
        confirmed = np.arange(150) < 60
        fixed = project(SHIFTED, moving) + np.where(confirmed[:, None], 0, [2.0, 0])
        points = TiePoints(fixed, moving, np.full(150, 0.9), np.where(confirmed, 0.1, 3.0))
        return Matches(points, 150, 150, 150)

    estimate = estimated(monkeypatch, SHIFTED, EstimateConfig(), guided=half_found_back, effort=Effort.THOROUGH)
    assert estimate is not None
    np.testing.assert_allclose(project(estimate.matrix, [(0, 0)]), project(SHIFTED, [(0, 0)]), atol=1e-6)
    assert len(estimate.matches.tie_points) == len(estimate.residual) == estimate.evidence.n_inliers == 150
    assert estimate.evidence.agreeing == pytest.approx(0.4)


def test_what_is_left_out_block_by_block_tells_the_uncertainty(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = estimated(monkeypatch, SHIFTED, EstimateConfig())
    assert estimate is not None and estimate.uncertainty is not None
    assert len(estimate.replicates) == 25
    # A shift by the mean of 150 points that are half a px off along x and along y.
    assert estimate.uncertainty.mean == pytest.approx(0.5 * np.sqrt(2 / 150), rel=0.4)
    assert estimate.uncertainty.max == pytest.approx(estimate.uncertainty.mean)


def test_a_start_that_is_given_takes_the_place_of_the_coarse_search(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def noted(scene: object, matrix: np.ndarray, *arguments: object) -> Matches:
        tried.append(matrix)
        return Matches(TiePoints(*np.zeros((2, 0, 2)), np.zeros(0)), 0, 0, 0)

    given = similarity(1.4, 25, (-50, 0))
    monkeypatch.setattr(search, "given_proposal", lambda scene, matrix: Proposal(scene, matrix, 10.0))
    assert estimated(monkeypatch, SHIFTED, EstimateConfig(), guided=noted, initial=given) is None
    assert tried[0] is given
    assert not any(matrix is PRIOR for matrix in tried[:2])


def test_points_too_few_for_the_model_asked_for_end_without_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The affine that led there is not what was asked for."""
    assert estimated(monkeypatch, SHIFTED, EstimateConfig(model=ModelChoice.HOMOGRAPHY), n_refined=3) is None
    estimate = estimated(monkeypatch, SHIFTED, EstimateConfig(), n_refined=3)
    assert estimate is not None
    assert estimate.model is Model.TRANSLATION


def asked_about(monkeypatch: pytest.MonkeyPatch, effort: Effort, n_tied: int = 300) -> tuple[Estimate | None, Counts]:
    """The estimate, and how many pairs the network scored for it, when ``n_tied`` keypoints are tied rightly."""

    def some_right(scene: object, matrix: object, radius: int, n_points: int, n_peaks: int) -> Matches:
        n = min(n_points, n_tied)
        rng = np.random.default_rng(n_points)
        moving = rng.uniform(0, SIDE, (n, 2))
        points = TiePoints(project(NEAR, moving), moving, np.full(n, 0.9), np.zeros(n))
        controls = Controls(np.full(8, 0.9), np.full(8, 0.01), 0.5)
        return Matches(points, n, n, n, controls)

    counts = Counts()
    return estimated(monkeypatch, NEAR, EstimateConfig(), guided=some_right, effort=effort, counts=counts), counts


@pytest.mark.parametrize("effort", [Effort.FAST, Effort.NORMAL])
def test_a_sample_is_enough_where_it_proves_the_transform(monkeypatch: pytest.MonkeyPatch, effort: Effort) -> None:
    estimate, counts = asked_about(monkeypatch, effort)
    assert estimate is not None
    np.testing.assert_allclose(project(estimate.matrix, [(9, 9)]), project(NEAR, [(9, 9)]), atol=1e-6)
    assert counts.n_candidates == search.LAST_SAMPLE == estimate.evidence.n_points
    share = search.FAST_SHARE if effort is Effort.FAST else search.SURE_SHARE
    assert counts.n_fixed == counts.n_tie_points == len(estimate.residual) == round(share * 400)


def test_the_network_is_asked_about_every_keypoint_where_that_is_wished(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate, counts = asked_about(monkeypatch, Effort.THOROUGH, n_tied=400)
    assert estimate is not None
    assert counts.n_candidates == counts.n_fixed == 64 + 400
    assert estimate.evidence.n_points == estimate.evidence.n_tie_points == 400


@pytest.mark.parametrize("effort", list(Effort))
def test_a_start_that_is_refuted_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch, effort: Effort) -> None:
    """Around the first one, all that agrees lies in one corner, as where a street grid looks like another."""
    wrong = similarity(1.5, 110, (200, 10))

    def tied(scene: object, matrix: np.ndarray, radius: int, n_points: int, n_peaks: int) -> Matches:
        right = np.abs(project(matrix, [(9, 9)]) - project(NEAR, [(9, 9)])).max() < 20
        rng = np.random.default_rng(n_points)
        moving = rng.uniform(0, SIDE if right else 30, (n_points, 2))
        points = TiePoints(
            project(NEAR if right else wrong, moving), moving, np.full(n_points, 0.8), np.zeros(n_points)
        )
        controls = Controls(np.full(8, 0.8), np.full(8, 0.1), 0.5)
        return Matches(points, n_points, n_points, n_points, controls)

    estimate = estimated(monkeypatch, NEAR, EstimateConfig(), guided=tied, effort=effort, starts=(wrong, PRIOR))
    assert estimate is not None
    assert estimate.accepted(EstimateConfig())
    np.testing.assert_allclose(project(estimate.matrix, [(9, 9)]), project(NEAR, [(9, 9)]), atol=1e-6)


def test_haste_gives_up_where_no_glance_proves_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tie points at random: a thorough search tries keypoints as well, a hasty one does not."""

    def nonsense(scene: object, matrix: object, radius: int, n_points: int, n_peaks: int) -> Matches:
        points = np.random.default_rng(n_points).uniform(0, SIDE, (2, n_points, 2))
        tied = TiePoints(*points, np.full(n_points, 0.9), np.zeros(n_points))
        return Matches(tied, n_points, n_points, n_points)

    tried = {}
    for effort in Effort:
        counts = Counts()
        estimated(monkeypatch, SHIFTED, EstimateConfig(), guided=nonsense, effort=effort, counts=counts)
        tried[effort] = counts.n_moving
    assert tried[Effort.FAST] < tried[Effort.NORMAL]

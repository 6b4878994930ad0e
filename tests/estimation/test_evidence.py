"""Figures of the evidence for a transform in tie points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rrl_register.estimation.evidence import Evidence, gather_evidence
from rrl_register.geometry.homography import fit_homography
from rrl_register.geometry.tie_points import Controls, Matches, TiePoints
from rrl_register.geometry.transforms import Fit, fit_translation, project, similarity

OVERLAP = np.ones((300, 400), bool)


def gathered(
    n_right: int,
    n_wrong: int,
    *,
    matrix: np.ndarray | None = None,
    radius: float = 12,
    fit: Fit = fit_homography,
    turned: float = 0,
    agreement_px: np.ndarray | None = None,
    controls: Controls | None = None,
    overlap: np.ndarray = OVERLAP,
    overlap_factor: float = 1.0,
    window_half: int = 48,
) -> Evidence:
    """Tie points over 200 x 100 px of a 400 x 300 px overlap; the wrong ones are 10 px off.

    ``turned``: degrees by which the right ones turn; residuals are those of the points as they were.
    """
    rng = np.random.default_rng(34)
    corners = np.array([(0, 0), (200, 0), (200, 100), (0, 100)], float)
    points = np.concatenate([corners, rng.uniform((0, 0), (200, 100), (n_right + n_wrong - 4, 2))])
    residual = np.r_[np.full(n_right, 0.5), np.full(n_wrong, 10.0)]
    score = np.r_[np.full(n_right, 0.9), np.full(n_wrong, 0.6)]
    fixed, moving = points + residual[:, None] * [1, 0], project(similarity(1, turned), points)
    return gather_evidence(
        np.eye(3) if matrix is None else matrix,
        Matches(TiePoints(fixed, moving, score, agreement_px), 100, 100, 100, controls),
        residual,
        fit=fit,
        threshold=3.0,
        radius=radius,
        overlap=overlap,
        moving_shape=(300, 400),
        window_half=window_half,
        overlap_factor=overlap_factor,
    )


def test_the_overlap_may_be_known_in_larger_pixels() -> None:
    fine, coarse = gathered(30, 10), gathered(30, 10, overlap=OVERLAP[::4, ::4], overlap_factor=4.0)
    assert coarse.coverage == pytest.approx(fine.coverage)
    assert coarse.occupied == fine.occupied


def test_evidence_counts_and_measures_the_inliers_alone() -> None:
    evidence = gathered(30, 10)
    assert (evidence.n_points, evidence.n_tie_points, evidence.n_inliers) == (100, 40, 30)
    assert (evidence.share, evidence.precision) == (0.3, 0.75)
    assert evidence.rmse_px == pytest.approx(0.5)
    assert evidence.mean_score == pytest.approx(0.9)
    assert evidence.coverage == pytest.approx(200 * 100 / (400 * 300), rel=1e-3)
    assert evidence.implausible is None


def test_chance_is_the_share_of_the_search_area_within_the_threshold() -> None:
    """A disc of 3 px radius in a square of 25 px: a twenty-second of the tie points lies there by chance."""
    assert gathered(30, 10).over_chance == pytest.approx(0.75 / (np.pi * 9 / 625))
    assert gathered(30, 10, radius=24).over_chance > 3 * gathered(30, 10).over_chance
    assert gathered(40, 0, radius=0).over_chance == pytest.approx(1)


def test_inliers_are_cross_validated_if_there_are_enough() -> None:
    assert gathered(30, 10).check_rmse_px == pytest.approx(0, abs=1e-6)
    assert np.isnan(gathered(9, 10).check_rmse_px)
    assert np.isnan(gathered(9, 10).check_ratio)


def test_cross_validation_is_of_the_model_that_was_fitted() -> None:
    """A degree over 200 px: nothing to a homography, px to a translation; three px make a threshold."""
    assert gathered(30, 10, turned=1).check_rmse_px == pytest.approx(0, abs=1e-6)
    translated = gathered(30, 10, turned=1, fit=fit_translation)
    assert translated.check_rmse_px > 0.5
    assert translated.check_ratio == pytest.approx(translated.check_rmse_px / 3)


def test_blocks_of_the_overlap_are_counted_where_inliers_lie() -> None:
    """200 x 100 px reach into three columns and two rows of blocks of 80 x 60 px."""
    assert gathered(80, 10).occupied == pytest.approx(6 / 25)
    assert gathered(1, 40).occupied == pytest.approx(1 / 25)
    assert gathered(0, 10).occupied == 0


def test_blocks_without_overlap_are_not_missed() -> None:
    only_there = np.zeros_like(OVERLAP)
    only_there[:101, :201] = True
    assert gathered(80, 10, overlap=only_there).occupied > 0.9
    corner = np.tri(200, dtype=bool)
    assert gathered(80, 10, overlap=np.pad(corner, ((0, 100), (0, 200)))).occupied == pytest.approx(6 / 15)
    assert gathered(80, 10, overlap=np.zeros_like(OVERLAP)).occupied == 0


def test_inliers_whose_windows_share_most_of_their_ground_count_once() -> None:
    """200 x 100 px hold a grid of 3 x 2 points that lie 100 px apart, and no more than 9 x 5 that lie 25 px apart."""
    assert 2 <= gathered(80, 10, window_half=100).n_independent <= 6
    assert 10 <= gathered(80, 10, window_half=25).n_independent <= 45
    assert gathered(80, 10, window_half=1000).n_independent == 1
    assert gathered(30, 10, window_half=0).n_independent == 30
    assert gathered(0, 10).n_independent == 0


def test_forward_and_backward_search_are_compared_on_the_inliers() -> None:
    distance = np.r_[np.full(20, 0.2), np.full(4, 1.5), np.full(6, np.nan), np.full(10, 0.0)]
    evidence = gathered(30, 10, agreement_px=distance)
    assert evidence.agreeing == pytest.approx(20 / 30)
    assert evidence.agreement_px == pytest.approx(0.2)
    lost = gathered(30, 10, agreement_px=np.full(40, np.nan))
    assert lost.agreeing == 0
    assert np.isnan(lost.agreement_px)


def test_controls_measure_the_scores_of_wrong_places() -> None:
    controls = Controls(np.array([0.9, 0.9, 0.1, 0.5]), np.array([0.1, 0.5, 0.1, 0.5]), 0.5)
    evidence = gathered(30, 10, controls=controls)
    assert evidence.control_acceptance == 0.5
    assert evidence.score_margin == pytest.approx((2 * np.log(9) + np.log(9)) / 4)


def test_the_margin_of_a_network_that_is_sure_has_an_end() -> None:
    assert np.isfinite(Controls(np.ones(3), np.zeros(3), 0.5).margin)
    assert Controls(np.full(3, 0.3), np.full(3, 0.3), 0.5).margin == 0


def test_what_was_not_measured_is_nan_in_the_evidence_and_none_in_the_record() -> None:
    evidence = gathered(30, 10)
    unknown = ("score_margin", "control_acceptance", "agreeing", "agreement_px")
    assert all(np.isnan(getattr(evidence, name)) for name in unknown)
    assert [evidence.figures()[name] for name in unknown] == [None] * 4
    nothing = Controls(np.empty(0), np.empty(0), 0.5)
    assert np.isnan(nothing.margin)
    assert np.isnan(nothing.acceptance)


def test_no_inlier_leaves_nothing_to_measure() -> None:
    evidence = gathered(0, 10, agreement_px=np.zeros(10))
    assert (evidence.n_inliers, evidence.coverage, evidence.mean_score) == (0, 0, 0)
    assert np.isnan(evidence.rmse_px)
    assert np.isnan(evidence.agreeing)


def test_a_transform_that_no_camera_makes_is_implausible() -> None:
    assert gathered(40, 0, matrix=np.diag([-1.0, 1, 1])).implausible


def test_figures_have_distances_in_the_requested_unit() -> None:
    evidence = replace(gathered(30, 10), agreement_px=0.25)
    assert evidence.figures()["agreement_px"] == 0.25
    assert evidence.figures(px=2.0)["agreement_px"] == 0.5
    assert evidence.figures()["share"] == evidence.figures(px=2.0)["share"] == 0.3


def test_only_tie_points_that_pass_the_forward_backward_check_are_fitted() -> None:
    points = TiePoints(np.zeros((4, 2)), np.arange(8.0).reshape(4, 2), np.ones(4), np.array([0.2, 1.0, 1.1, np.nan]))
    kept = points.forward_backward_consistent()
    np.testing.assert_array_equal(kept.moving, [[0, 1], [2, 3]])
    np.testing.assert_array_equal(kept.agreement_px, [0.2, 1.0])
    assert len(points.forward_backward_consistent(within=2.0)) == 3
    never_searched = TiePoints(np.zeros((4, 2)), np.zeros((4, 2)), np.ones(4))
    assert len(never_searched.forward_backward_consistent()) == 4

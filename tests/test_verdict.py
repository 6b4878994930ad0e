"""When tie points prove a transform, and what is said when they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rrl_register.estimation.transforms import Fit, fit_homography, fit_translation, project, similarity
from rrl_register.estimation.verdict import Evidence, confidence, gather_evidence, refusal

GOOD = Evidence(
    n_points=100,
    n_tie_points=60,
    n_inliers=50,
    over_chance=18.0,
    coverage=0.7,
    rmse_px=0.8,
    check_rmse_px=1.0,
    mean_score=0.9,
    implausible=None,
)
MIN_INLIERS = 12
MAX_CHECK_RMSE_PX = 3.0


def gathered(
    n_right: int,
    n_wrong: int,
    *,
    matrix: np.ndarray | None = None,
    radius: float = 12,
    fit: Fit = fit_homography,
    turned: float = 0,
) -> Evidence:
    """Tie points over 200 x 100 px of a 400 x 300 px overlap; the wrong ones are 10 px off.

    ``turned``: degrees by which the right ones turn; residuals are those of the points as they were.
    """
    rng = np.random.default_rng(34)
    corners = np.array([(0, 0), (200, 0), (200, 100), (0, 100)], float)
    points = np.concatenate([corners, rng.uniform((0, 0), (200, 100), (n_right + n_wrong - 4, 2))])
    residual = np.r_[np.full(n_right, 0.5), np.full(n_wrong, 10.0)]
    score = np.r_[np.full(n_right, 0.9), np.full(n_wrong, 0.6)]
    return gather_evidence(
        np.eye(3) if matrix is None else matrix,
        points + residual[:, None] * [1, 0],
        project(similarity(1, turned), points),
        score,
        residual,
        fit=fit,
        n_points=100,
        threshold=3.0,
        radius=radius,
        overlap_px=400 * 300,
        moving_shape=(300, 400),
    )


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


def test_points_kept_out_of_the_fit_are_checked_where_there_are_enough() -> None:
    assert gathered(30, 10).check_rmse_px == pytest.approx(0, abs=1e-6)
    assert np.isnan(gathered(9, 10).check_rmse_px)


def test_the_check_error_is_that_of_the_model_that_was_fitted() -> None:
    """A degree over 200 px: nothing to a homography, px to a translation."""
    assert gathered(30, 10, turned=1).check_rmse_px == pytest.approx(0, abs=1e-6)
    assert gathered(30, 10, turned=1, fit=fit_translation).check_rmse_px > 0.5


def test_no_inlier_proves_nothing() -> None:
    evidence = gathered(0, 10)
    assert (evidence.n_inliers, evidence.coverage, evidence.mean_score) == (0, 0, 0)
    assert np.isnan(evidence.rmse_px)
    assert confidence(evidence) == 0
    assert refusal(evidence, MIN_INLIERS, MAX_CHECK_RMSE_PX) is not None


def test_a_transform_that_no_camera_makes_is_implausible() -> None:
    evidence = gathered(40, 0, matrix=np.diag([-1.0, 1, 1]))
    assert evidence.implausible
    assert confidence(evidence) == 0
    assert evidence.implausible in (refusal(evidence, MIN_INLIERS, MAX_CHECK_RMSE_PX) or "")


def test_good_evidence_is_not_refused() -> None:
    assert refusal(GOOD, MIN_INLIERS, MAX_CHECK_RMSE_PX) is None
    assert refusal(GOOD, 50, MAX_CHECK_RMSE_PX) is None


@pytest.mark.parametrize(
    ("change", "seen", "needed"),
    [
        ({"n_inliers": 8}, "8 of 60 tie points", "12 are needed"),
        ({"over_chance": 1.23}, "1.2 times", "3 times"),
        ({"check_rmse_px": 4.44}, "miss it by 4.4 px, at most", "3 px is needed"),
        ({"check_rmse_px": float("nan")}, "inliers are too few", "test it"),
        ({"coverage": 0.031}, "3% of the overlap", "8% is needed"),
        ({"n_points": 5000, "n_tie_points": 5000, "n_inliers": 12}, "12 inliers", "0.5 is needed"),
    ],
)
def test_a_refusal_says_what_was_seen_what_is_needed_and_what_to_try(
    change: dict[str, float], seen: str, needed: str
) -> None:
    reason = refusal(replace(GOOD, **change), MIN_INLIERS, MAX_CHECK_RMSE_PX) or ""
    assert seen in reason
    assert needed in reason
    assert "try " in reason.partition(": ")[2]
    assert "\n" not in reason


def test_more_and_purer_inliers_are_surer() -> None:
    certain = confidence(GOOD)
    assert 0.5 < certain <= 1
    assert confidence(replace(GOOD, n_inliers=25)) < certain
    assert confidence(replace(GOOD, n_tie_points=100)) < certain
    assert confidence(replace(GOOD, n_points=400)) < certain


def test_what_is_not_known_is_none_in_the_record() -> None:
    figures = replace(GOOD, mean_score=float("nan")).figures()
    assert figures["mean_score"] is None
    assert figures["coverage"] == 0.7
    assert figures["share"] == 0.5

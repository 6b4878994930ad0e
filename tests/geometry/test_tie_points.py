"""Tie points, control points, and the results of several searches together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.geometry.tie_points import AGREEMENT_PX, Controls, Matches, TiePoints, no_tie_points

rng = np.random.default_rng(4)
counts = st.integers(0, 12)


def tie_points(n: int, *, checked: bool = True) -> TiePoints:
    agreement = rng.uniform(0, 2, n) if checked else None
    return TiePoints(rng.uniform(0, 9, (n, 2)), rng.uniform(0, 9, (n, 2)), rng.uniform(0.5, 1, n), agreement)


def matches(n: int, *, checked: bool = True, controls: Controls | None = None) -> Matches:
    return Matches(tie_points(n, checked=checked), 2 * n + 1, n, n + 2, controls)


def test_results_of_windows_are_joined_in_order() -> None:
    control = Controls(np.array([0.9]), np.array([0.1]), 0.5)
    first, second = matches(3, controls=control), matches(4, controls=control)
    together = Matches.joined([first, second])
    assert (together.n_fixed, together.n_moving, together.n_candidates) == (16, 7, 11)
    np.testing.assert_array_equal(together.tie_points.fixed[3:], second.tie_points.fixed)
    np.testing.assert_array_equal(together.tie_points.agreement_px[:3], first.tie_points.agreement_px)
    assert together.controls is not None
    assert together.controls.candidate.tolist() == [0.9, 0.9]
    assert together.controls.min_score == 0.5


def test_a_window_without_tie_points_does_no_harm() -> None:
    """Nor does it know whether its points passed the forward-backward check."""
    together = Matches.joined([matches(0, checked=False), matches(4)])
    assert together.tie_points.agreement_px is not None
    assert len(together.tie_points) == len(together.tie_points.agreement_px) == 4
    assert together.controls is None


@pytest.mark.parametrize("parts", [[], [matches(0, checked=False)]])
def test_nothing_joined_is_nothing(parts: list[Matches]) -> None:
    together = Matches.joined(parts)
    assert len(together.tie_points) == 0
    assert together.tie_points.fixed.shape == (0, 2)
    assert len(together.tie_points.forward_backward_consistent()) == 0
    assert len(together.fitted) == 0


@given(counts, counts, st.booleans())
def test_joining_and_choosing_undo_each_other(n: int, m: int, checked: bool) -> None:
    first, second = tie_points(n, checked=checked), tie_points(m, checked=checked)
    joined = TiePoints.joined([first, second])
    assert len(joined) == n + m
    for part, chosen in ((first, np.arange(n)), (second, np.arange(n + m) >= n)):
        back = joined.at(chosen)
        np.testing.assert_array_equal(back.fixed, part.fixed)
        np.testing.assert_array_equal(back.moving, part.moving)
        np.testing.assert_array_equal(back.score, part.score)
        if checked:
            np.testing.assert_array_equal(back.agreement_px, part.agreement_px)
        else:
            assert back.agreement_px is None


@given(counts, st.floats(0, 3))
def test_the_forward_backward_check_keeps_errors_up_to_its_limit(n: int, within: float) -> None:
    points = tie_points(n)
    kept = points.forward_backward_consistent(within)
    assert points.agreement_px is not None and kept.agreement_px is not None
    assert (kept.agreement_px <= within).all()
    assert len(kept) == (points.agreement_px <= within).sum()
    assert len(tie_points(n, checked=False).forward_backward_consistent(within)) == n


def test_a_backward_search_without_result_fails_the_check() -> None:
    points = replace(tie_points(3), agreement_px=np.array([np.nan, AGREEMENT_PX, np.inf]))
    np.testing.assert_array_equal(points.forward_backward_consistent().fixed, points.fixed[1:2])


def test_points_of_a_window_are_points_of_the_scene() -> None:
    window = matches(5)
    scene = window.moved((100, 20), (90, 30)).tie_points
    np.testing.assert_allclose(scene.fixed - window.tie_points.fixed, np.tile([100, 20], (5, 1)))
    np.testing.assert_allclose(scene.moving - window.tie_points.moving, np.tile([90, 30], (5, 1)))
    assert scene.agreement_px is window.tie_points.agreement_px


def test_rejected_and_unscored_points_move_along() -> None:
    window = replace(matches(2), rejected=tie_points(3), unscored=tie_points(1))
    scene = window.moved((10, 0), (0, 10))
    np.testing.assert_allclose(scene.rejected.fixed[:, 0], window.rejected.fixed[:, 0] + 10)
    np.testing.assert_allclose(scene.unscored.moving[:, 1], window.unscored.moving[:, 1] + 10)
    assert (scene.n_fixed, scene.n_moving, scene.n_candidates) == (window.n_fixed, window.n_moving, window.n_candidates)


def test_unscored_points_are_fitted_with_the_expected_score() -> None:
    """The mean over all that were scored: rejected candidates lower it."""
    accepted = replace(tie_points(2), score=np.array([0.9, 0.8]), agreement_px=np.zeros(2))
    rejected = replace(tie_points(2), score=np.array([0.2, 0.1]))
    unscored = replace(tie_points(3), score=np.full(3, np.nan), agreement_px=np.zeros(3))
    found = Matches(accepted, 7, 7, 4, None, rejected, unscored, 3)
    np.testing.assert_allclose(found.fitted.score, [0.9, 0.8, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(found.all_points.score[:2], [0.9, 0.8])
    assert np.isnan(found.all_points.score[2:]).all()


def test_without_any_score_points_count_fully() -> None:
    unscored = replace(tie_points(2), score=np.full(2, np.nan), agreement_px=np.zeros(2))
    found = Matches(no_tie_points(), 2, 2, 0, unscored=unscored, n_unscored=2)
    np.testing.assert_array_equal(found.fitted.score, [1, 1])


def test_points_that_fail_the_check_are_not_fitted() -> None:
    points = replace(tie_points(4), agreement_px=np.array([0.1, 5.0, np.nan, 0.9]))
    assert len(Matches(points, 4, 4, 4).fitted) == 2


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1))
def test_controls_measure_acceptance_and_margin(scores: list[float], min_score: float) -> None:
    control = np.array(scores)
    same = Controls(control, control, min_score)
    assert same.acceptance == pytest.approx(np.mean(control >= min_score))
    assert same.margin == 0
    better = Controls(np.minimum(control + 0.1, 1), control, min_score)
    assert better.margin >= 0
    assert np.isfinite(better.margin)

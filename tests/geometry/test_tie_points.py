"""Tie points of several windows, together."""

from __future__ import annotations

import numpy as np
import pytest

from rrl_register.geometry.tie_points import Controls, Matches, TiePoints

rng = np.random.default_rng(4)


def matches(n: int, *, back: bool = True, controls: Controls | None = None) -> Matches:
    agreement = rng.uniform(0, 2, n) if back else None
    points = TiePoints(rng.uniform(0, 9, (n, 2)), rng.uniform(0, 9, (n, 2)), rng.uniform(0.5, 1, n), agreement)
    return Matches(points, 2 * n + 1, n, n + 2, controls)


def test_what_windows_gave_is_joined_in_turn() -> None:
    control = Controls(np.array([0.9]), np.array([0.1]), 0.5)
    first, second = matches(3, controls=control), matches(4, controls=control)
    together = Matches.joined([first, second])
    assert (together.n_fixed, together.n_moving, together.n_candidates) == (16, 7, 11)
    np.testing.assert_array_equal(together.tie_points.fixed[3:], second.tie_points.fixed)
    np.testing.assert_array_equal(together.tie_points.agreement_px[:3], first.tie_points.agreement_px)
    assert together.controls is not None
    assert together.controls.candidate.tolist() == [0.9, 0.9]


def test_a_window_without_tie_points_does_no_harm() -> None:
    """It does not know either whether its points are found back."""
    together = Matches.joined([matches(0, back=False), matches(4)])
    assert together.tie_points.agreement_px is not None
    assert len(together.tie_points) == len(together.tie_points.agreement_px) == 4
    assert together.controls is None


@pytest.mark.parametrize("parts", [[], [matches(0, back=False)]])
def test_nothing_joined_is_nothing(parts: list[Matches]) -> None:
    together = Matches.joined(parts)
    assert len(together.tie_points) == 0
    assert together.tie_points.fixed.shape == (0, 2)
    assert len(together.tie_points.forward_backward_consistent()) == 0


def test_points_of_a_window_are_points_of_the_scene() -> None:
    window = matches(5)
    scene = window.moved((100, 20), (90, 30)).tie_points
    np.testing.assert_allclose(scene.fixed - window.tie_points.fixed, np.tile([100, 20], (5, 1)))
    np.testing.assert_allclose(scene.moving - window.tie_points.moving, np.tile([90, 30], (5, 1)))
    assert scene.agreement_px is window.tie_points.agreement_px

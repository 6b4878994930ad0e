"""Least-squares homographies: batches, invariances, and arrangements of points that determine none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrl_register.errors import NotRegisteredError
from rrl_register.geometry.homography import fit_homographies, fit_homography, gauss_newton, linear_homographies
from rrl_register.geometry.transforms import compose, project, residuals, similarity, translation

SIDE = 600.0
TILTED = np.array([[1.02, 0.05, -8], [-0.04, 0.97, 12], [5e-5, -4e-5, 1]])
LATTICE = np.stack(np.meshgrid(np.linspace(0, SIDE, 7), np.linspace(0, SIDE, 7)), axis=-1).reshape(-1, 2)

seeds = st.integers(0, 10_000)


def noisy(seed: int, n: int = 30, noise: float = 0.8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, their places under a tilted homography but for noise, and weights."""
    rng = np.random.default_rng(seed)
    moving = rng.uniform(0, SIDE, (n, 2))
    return moving, project(TILTED, moving) + rng.normal(0, noise, (n, 2)), rng.uniform(0.1, 1, n)


def loss(matrix: np.ndarray, moving: np.ndarray, fixed: np.ndarray, weights: np.ndarray) -> float:
    return float(weights @ residuals(matrix, moving, fixed) ** 2)


def assert_same(one: np.ndarray, other: np.ndarray, atol: float = 1e-4) -> None:
    np.testing.assert_allclose(project(one, LATTICE), project(other, LATTICE), atol=atol)


@given(seeds)
@settings(max_examples=30)
def test_the_order_of_the_points_does_not_matter(seed: int) -> None:
    moving, fixed, weights = noisy(seed)
    order = np.random.default_rng(seed).permutation(len(moving))
    assert_same(
        fit_homography(moving[order], fixed[order], weights[order]), fit_homography(moving, fixed, weights), 1e-6
    )


@given(seeds, st.floats(1e-6, 1e6))
@settings(max_examples=30)
def test_a_common_factor_of_the_weights_does_not_matter(seed: int, factor: float) -> None:
    moving, fixed, weights = noisy(seed)
    assert_same(fit_homography(moving, fixed, factor * weights), fit_homography(moving, fixed, weights), 1e-6)


@given(seeds, st.floats(-1000, 1000), st.floats(-1000, 1000), st.floats(0.5, 2), st.floats(-180, 180))
@settings(max_examples=30)
def test_the_fit_follows_a_similarity_of_the_fixed_image(
    seed: int, dx: float, dy: float, scale: float, angle: float
) -> None:
    """Distances in the fixed image are minimised, which a similarity multiplies by one factor."""
    moving, fixed, weights = noisy(seed)
    change = similarity(scale, angle, (dx, dy))
    changed = fit_homography(moving, project(change, fixed), weights)
    assert_same(changed, compose(change, fit_homography(moving, fixed, weights)))


@given(seeds, st.floats(-1000, 1000), st.floats(-1000, 1000))
@settings(max_examples=30)
def test_the_fit_follows_a_shift_of_the_moving_image(seed: int, dx: float, dy: float) -> None:
    moving, fixed, weights = noisy(seed)
    shifted = fit_homography(moving + np.array([dx, dy]), fixed, weights)
    assert_same(compose(shifted, translation(dx, dy)), fit_homography(moving, fixed, weights))


@given(seeds)
@settings(max_examples=30)
def test_the_truth_fits_noisy_points_no_better(seed: int) -> None:
    moving, fixed, weights = noisy(seed)
    assert loss(fit_homography(moving, fixed, weights), moving, fixed, weights) <= loss(TILTED, moving, fixed, weights)


@given(seeds, st.integers(1, 6))
@settings(max_examples=30)
def test_a_batch_holds_the_single_fits(seed: int, n_sets: int) -> None:
    moving, fixed, _ = noisy(seed, 40)
    rng = np.random.default_rng(seed)
    weights = np.where(rng.uniform(size=(n_sets, 40)) < 0.3, 0.0, rng.uniform(0.2, 1, (n_sets, 40)))
    for found, some in zip(fit_homographies(moving, fixed, weights), weights, strict=True):
        assert found is not None
        assert found[2, 2] == 1
        assert_same(found, fit_homography(moving, fixed, some))


def test_sets_of_too_few_points_are_none_and_spoil_no_other() -> None:
    moving, fixed, weights = noisy(3)
    sets = np.stack([weights, np.zeros(30), np.r_[np.ones(3), np.zeros(27)], weights])
    first, nothing, three, last = fit_homographies(moving, fixed, sets)
    assert nothing is None and three is None
    assert first is not None and last is not None
    np.testing.assert_array_equal(first, last)
    assert fit_homographies(moving, fixed, np.empty((0, 30))) == []


def test_gauss_newton_improves_each_matrix_or_leaves_it() -> None:
    rng = np.random.default_rng(0)
    moving = rng.normal(0, 1, (25, 2))
    fixed = project([[1.1, 0.1, 0.2], [-0.1, 0.9, 0], [0.1, -0.1, 1]], moving) + rng.normal(0, 0.05, (25, 2))
    weights = rng.uniform(0.1, 1, (3, 25))
    linear, clear = linear_homographies(moving, fixed, weights)
    assert clear.all()
    refined = gauss_newton(linear, moving, fixed, weights)
    np.testing.assert_allclose(np.linalg.norm(refined, axis=(1, 2)), 1)
    for before, after, some in zip(linear, refined, weights, strict=True):
        assert loss(after, moving, fixed, some) < loss(before, moving, fixed, some)
    again = gauss_newton(refined, moving, fixed, weights)
    np.testing.assert_allclose(again, refined, atol=1e-7)


def test_points_on_one_line_are_not_clear() -> None:
    line = np.column_stack([np.linspace(-1, 1, 20), np.linspace(-2, 2, 20)])
    _, clear = linear_homographies(line, line, np.ones((1, 20)))
    assert not clear.any()
    with pytest.raises(NotRegisteredError, match="20 tie points lie almost on one line"):
        fit_homography(line, line)


def test_four_points_of_which_one_has_no_weight_are_three() -> None:
    corners = np.array([(0.0, 0), (100, 0), (100, 80), (0, 80)])
    with pytest.raises(NotRegisteredError, match="3 tie points, at least 4 are needed"):
        fit_homography(corners, corners, np.array([1.0, 1, 1, 0]))
    np.testing.assert_allclose(fit_homography(corners, corners), np.eye(3), atol=1e-9)


def test_large_coordinates_cost_no_accuracy() -> None:
    """Points of a window far from the corner of a large image; Hartley's normalisation makes up for it."""
    moving, fixed, _ = noisy(1, noise=0.0)
    far = translation(50_000, 30_000)
    found = fit_homography(project(far, moving), project(far, fixed))
    np.testing.assert_allclose(project(found, project(far, moving)), project(far, fixed), atol=1e-5)

"""Fits under many sets of weights at once are those that each set of points gives on its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.errors import NotRegisteredError
from rrl_register.estimation.cross_validation import (
    cross_validation_residuals,
    cross_validation_rmse,
    fit_each,
    spatial_blocks,
    spatial_folds,
)
from rrl_register.estimation.model_selection import FitAfter
from rrl_register.estimation.robust_fits import DISPLACED_HOMOGRAPHIES, Model
from rrl_register.geometry.displacement import AnyFit, Transform, as_transform
from rrl_register.geometry.homography import fit_homographies, fit_homography
from rrl_register.geometry.transforms import fit_affine, fit_translation, project, residuals, similarity

SIDE = 500.0
TILTED = np.array([[1.02, 0.05, -8], [-0.04, 0.97, 12], [5e-5, -4e-5, 1]])
FITS: list[AnyFit] = [
    fit_affine,
    fit_homography,
    DISPLACED_HOMOGRAPHIES[0],
    DISPLACED_HOMOGRAPHIES[3],
    FitAfter(similarity(1.1, 9), DISPLACED_HOMOGRAPHIES[0]),
]


def fits_without(
    fit: AnyFit, moving: np.ndarray, fixed: np.ndarray, weights: np.ndarray, parts: np.ndarray
) -> dict[int, Transform | None]:
    """The fit without each part, by part."""
    names = np.unique(parts)
    found = fit_each(fit, moving, fixed, np.where(parts == names[:, None], 0.0, weights))
    return dict(zip(names.tolist(), found, strict=True))


def noisy(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, where a bent homography puts them but for some noise, and weights, some of them 0."""
    rng = np.random.default_rng(3)
    moving = rng.uniform(0, SIDE, (n, 2))
    fixed = project(TILTED, moving)
    fixed += 4 * np.sin(fixed / 90) + rng.normal(0, 0.5, (n, 2))
    return moving, fixed, np.where(rng.uniform(size=n) < 0.1, 0, rng.uniform(0.2, 1, n))


@pytest.mark.parametrize("fit", FITS)
def test_leaving_points_out_is_fitting_the_others(fit: AnyFit) -> None:
    moving, fixed, weights = noisy(240)
    blocks = spatial_blocks(fixed)
    found = fits_without(fit, moving, fixed, weights, blocks)
    assert sorted(found) == sorted(set(blocks.tolist()))
    for block, transform in found.items():
        kept = blocks != block
        alone = as_transform(fit(moving[kept], fixed[kept], weights[kept]))
        assert transform is not None
        np.testing.assert_allclose(transform.residuals(moving, fixed), alone.residuals(moving, fixed), atol=1e-6)


def test_points_that_determine_nothing_spoil_no_other_fit() -> None:
    moving, fixed, _ = noisy(60)
    line = np.column_stack([np.arange(10.0), np.arange(10.0)])
    moving, fixed = np.concatenate([moving, line]), np.concatenate([fixed, line])
    weights = np.zeros((4, 70))
    weights[0, :60], weights[1, 60:], weights[2, :3], weights[3, :30] = 1, 1, 1, 1
    every, one_line, three, half = fit_homographies(moving, fixed, weights)
    assert one_line is None and three is None
    for found, kept in ((every, slice(60)), (half, slice(30))):
        assert found is not None
        alone = fit_homography(moving[kept], fixed[kept])
        np.testing.assert_allclose(project(found, moving[:60]), project(alone, moving[:60]), atol=1e-6)
    bent = fit_each(DISPLACED_HOMOGRAPHIES[0], moving, fixed, weights)
    assert [fit is None for fit in bent] == [False, True, True, False]


@pytest.mark.parametrize("fit", [fit_homography, DISPLACED_HOMOGRAPHIES[0], DISPLACED_HOMOGRAPHIES[3]])
def test_a_point_that_is_nowhere_and_left_out_does_no_harm(fit: AnyFit) -> None:
    moving, fixed, _ = noisy(240)
    weights = np.ones((2, 241))
    weights[:, 240] = 0
    weights[1, :20] = 0
    away = np.array([[np.inf, 0.0]])
    found = fit_each(fit, np.concatenate([moving, away]), np.concatenate([fixed, np.zeros((1, 2))]), weights)
    alone = fit_each(fit, moving, fixed, weights[:, :240])
    for one, other in zip(found, alone, strict=True):
        assert one is not None and other is not None
        np.testing.assert_allclose(one.residuals(moving, fixed), other.residuals(moving, fixed), atol=1e-9)


def test_homographies_are_the_least_squares_ones() -> None:
    moving, fixed, weights = noisy(80)
    found = fit_homography(moving, fixed, weights)

    def loss(matrix: np.ndarray) -> float:
        return float(weights @ ((project(matrix, moving) - fixed) ** 2).sum(axis=1))

    for row, column in np.ndindex(3, 3):
        for sign in (-1, 1):
            beside = found.copy()
            beside[row, column] += sign * 1e-4 * max(abs(found[row, column]), 1e-4)
            if (row, column) != (2, 2):
                assert loss(beside) > loss(found)


def test_a_model_that_no_points_determine_is_left_out() -> None:
    with pytest.raises(NotRegisteredError):
        Model.HOMOGRAPHY.fit(np.zeros((5, 2)), np.zeros((5, 2)), None)
    assert fit_each(fit_affine, np.zeros((5, 2)), np.zeros((5, 2)), np.ones((2, 5))) == [None, None]


def test_residuals_without_a_fold_are_those_of_a_fit_to_the_others() -> None:
    moving, fixed, _ = noisy(60)
    folds = spatial_folds(fixed, 4)
    found = cross_validation_residuals(moving, fixed, folds, fit_affine)
    for fold in range(4):
        out = folds == fold
        matrix = fit_affine(moving[~out], fixed[~out])
        np.testing.assert_allclose(found[out], residuals(matrix, moving[out], fixed[out]))


@pytest.mark.parametrize("fit", FITS)
def test_the_residuals_of_a_displacement_include_it(fit: AnyFit) -> None:
    moving, fixed, weights = noisy(240)
    blocks = spatial_blocks(fixed)
    found = cross_validation_residuals(moving, fixed, blocks, fit, weights)
    transforms = fits_without(fit, moving, fixed, weights, blocks)
    for block, transform in transforms.items():
        assert transform is not None
        out = blocks == block
        np.testing.assert_allclose(found[out], transform.residuals(moving[out], fixed[out]), atol=1e-9)


def test_the_rmse_is_that_of_all_folds_together() -> None:
    moving, fixed, _ = noisy(60)
    residual = cross_validation_residuals(moving, fixed, spatial_folds(fixed), fit_affine)
    assert cross_validation_rmse(moving, fixed, fit_affine) == pytest.approx(np.sqrt(np.mean(residual**2)))


def test_a_model_that_is_too_flexible_predicts_worse() -> None:
    """A flexible fit follows the errors of its own points."""
    rng = np.random.default_rng(0)
    better = 0
    for _ in range(20):
        moving = rng.uniform(0, SIDE, (15, 2))
        fixed = moving + np.array([4.0, -7.0]) + rng.normal(0, 1, (15, 2))
        simple, flexible = (cross_validation_rmse(moving, fixed, fit) for fit in (fit_translation, fit_homography))
        better += simple < flexible
    assert better >= 18


def test_without_points_nothing_is_fitted() -> None:
    none = np.empty((0, 2))
    assert fits_without(fit_affine, none, none, np.empty(0), np.empty(0, np.int64)) == {}
    assert len(cross_validation_residuals(none, none, np.empty(0, np.int64), fit_affine)) == 0
    assert np.isnan(cross_validation_rmse(none, none, fit_affine))


@given(st.integers(1, 300), st.integers(0, 1000))
def test_blocks_do_not_depend_on_the_scale_of_the_scene(n: int, seed: int) -> None:
    places = np.random.default_rng(seed).uniform(0, SIDE, (n, 2))
    np.testing.assert_array_equal(spatial_blocks(places), spatial_blocks(3 * places + [100, -50]))
    assert spatial_blocks(places).max() < 25


@given(st.integers(5, 300))
def test_neighbouring_blocks_belong_to_different_folds(n: int) -> None:
    places = np.random.default_rng(n).uniform(0, SIDE, (n, 2))
    fold_of = dict(zip(spatial_blocks(places).tolist(), spatial_folds(places).tolist(), strict=True))
    for block, fold in fold_of.items():
        for neighbour in (block + 1 if block % 5 < 4 else None, block + 5):
            assert fold_of.get(neighbour, -1) != fold

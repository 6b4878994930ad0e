"""Fits under many sets of weights at once are those that each set of points gives on its own."""

from __future__ import annotations

import numpy as np
import pytest

from rrl_register.errors import NotRegisteredError
from rrl_register.estimation.cross_validation import fit_each, fits_without, spatial_blocks
from rrl_register.estimation.displaced_models import DISPLACED_HOMOGRAPHIES
from rrl_register.estimation.model_selection import FitAfter
from rrl_register.estimation.ransac import Model
from rrl_register.geometry.displacement import AnyFit, as_transform
from rrl_register.geometry.homography import fit_homographies, fit_homography
from rrl_register.geometry.transforms import fit_affine, project, similarity

SIDE = 500.0
TILTED = np.array([[1.02, 0.05, -8], [-0.04, 0.97, 12], [5e-5, -4e-5, 1]])
FITS: list[AnyFit] = [
    fit_affine,
    fit_homography,
    DISPLACED_HOMOGRAPHIES[0],
    DISPLACED_HOMOGRAPHIES[3],
    FitAfter(similarity(1.1, 9), DISPLACED_HOMOGRAPHIES[0]),
]


def noisy(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, where a bent homography puts them but for some noise, and weights of which some are 0."""
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

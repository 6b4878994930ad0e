"""The covariance of a fit: what repeated fits of noisy points scatter by."""

from __future__ import annotations

import numpy as np
import pytest

from rrl_register.estimation.cross_validation import (
    Uncertainty,
    in_file_px,
    matrix_covariance,
    replicates,
    spatial_blocks,
    uncertainty,
)
from rrl_register.estimation.robust_fits import DISPLACED_HOMOGRAPHIES
from rrl_register.geometry.displacement import AnyFit, Transform, as_transform
from rrl_register.geometry.homography import fit_homography
from rrl_register.geometry.transforms import fit_affine, fit_translation, invert, project, similarity, translation

SIDE = 400
EVERYWHERE = np.ones((SIDE, SIDE), bool)
PLACES = np.stack(np.meshgrid(np.linspace(10, 390, 14), np.linspace(10, 390, 14)), -1).reshape(-1, 2)
TRUE = similarity(1.02, 3, (4, -5))


def noisy(seed: int, n: int, noise: float = 0.5, shared: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Tie points with errors of their own, and errors that those of one cell of 80 px share."""
    rng = np.random.default_rng(seed)
    fixed = rng.uniform(0, SIDE, (n, 2))
    cells = rng.normal(0, 1, (5, 5, 2))[tuple((fixed // 80).astype(int).T)]
    return project(invert(TRUE), fixed + rng.normal(0, noise, (n, 2)) + shared * cells), fixed


def scatter_and_claim(fit: AnyFit, n: int, repeats: int, shared: float = 0.0) -> tuple[float, float]:
    """Mean distance from the truth of repeated fits (root mean square), and the mean standard error that they claim."""
    moving = project(invert(TRUE), PLACES)
    errors, claims = [], []
    for seed in range(repeats):
        m, f = noisy(seed, n, shared=shared)
        found = as_transform(fit(m, f, None))
        errors.append(found.forward(moving) - PLACES)
        claim = uncertainty(found, replicates(m, f, np.ones(n), fit), EVERYWHERE)
        assert claim is not None
        claims.append(claim.mean)
    scatter = np.sqrt((np.array(errors) ** 2).sum(axis=2).mean(axis=0))
    return float(scatter.mean()), float(np.mean(claims))


@pytest.mark.parametrize(
    ("fit", "n"),
    [
        (fit_affine, 60),
        (fit_homography, 60),
        (DISPLACED_HOMOGRAPHIES[0].fit, 150),
        (DISPLACED_HOMOGRAPHIES[3].fit, 150),
    ],
)
def test_the_standard_error_is_what_repeated_fits_scatter_by(fit: AnyFit, n: int) -> None:
    scatter, claim = scatter_and_claim(fit, n, 12)
    assert 0.7 < claim / scatter < 1.6


def test_errors_that_neighbours_share_count_once() -> None:
    """Of 400 points with one error per cell, as many agree by chance as there are cells."""
    scatter, claim = scatter_and_claim(fit_affine, 400, 25, shared=1.0)
    independent = scatter_and_claim(fit_affine, 400, 5)[1]
    assert 0.6 < claim / scatter < 1.6
    assert claim > 2 * independent


def test_the_covariance_of_a_matrix_is_what_repeated_fits_vary_by() -> None:
    found, claimed = [], []
    for seed in range(60):
        m, f = noisy(seed, 80)
        found.append(fit_affine(m, f).ravel()[:8])
        covariance = matrix_covariance(replicates(m, f, np.ones(80), fit_affine))
        assert covariance is not None
        claimed.append(covariance)
    mean = np.mean(claimed, axis=0)
    true = np.cov(np.array(found).T)
    np.testing.assert_allclose(np.sqrt(np.diag(mean)[:6]), np.sqrt(np.diag(true)[:6]), rtol=0.35)
    np.testing.assert_array_equal(mean[6:], 0)
    assert np.sign(mean[0, 2]) == np.sign(true[0, 2]) == -1  # what the stretch adds, the shift takes away


def test_a_covariance_is_symmetric_and_never_negative() -> None:
    covariance = matrix_covariance(replicates(*noisy(1, 100), np.ones(100), fit_homography))
    assert covariance is not None
    assert covariance.shape == (8, 8)
    np.testing.assert_allclose(covariance, covariance.T)
    scale = np.sqrt(np.diag(covariance))
    assert np.linalg.eigvalsh(covariance / np.outer(scale, scale)).min() > -1e-9


def test_the_uncertainty_is_largest_where_there_are_no_points() -> None:
    m, f = noisy(0, 100)
    near = f[:, 0] < SIDE / 2
    fits = replicates(m[near], f[near], np.ones(near.sum()), fit_affine)
    left, right = EVERYWHERE.copy(), EVERYWHERE.copy()
    left[:, SIDE // 2 :] = right[:, : SIDE // 2] = False
    here, there = (uncertainty(Transform(TRUE), fits, overlap) for overlap in (left, right))
    assert here is not None and there is not None
    assert there.mean > 2 * here.mean
    assert there.max > there.mean


def test_the_overlap_may_be_known_in_larger_pixels() -> None:
    m, f = noisy(0, 100)
    fits = replicates(m, f, np.ones(100), fit_affine)
    fine = uncertainty(Transform(TRUE), fits, EVERYWHERE)
    coarse = uncertainty(Transform(TRUE), fits, EVERYWHERE[::4, ::4], 4.0)
    assert fine is not None and coarse is not None
    assert coarse.mean == pytest.approx(fine.mean, rel=0.1)


def test_exact_points_leave_no_doubt() -> None:
    m, f = noisy(0, 50, noise=0.0)
    assert uncertainty(Transform(TRUE), replicates(m, f, np.ones(50), fit_affine), EVERYWHERE) == Uncertainty(
        pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9)
    )


def test_what_cannot_be_known_is_none() -> None:
    one, four = np.array([(3.0, 4.0)]), np.array([(0.0, 0.0), (100.0, 0.0), (100.0, 90.0), (0.0, 80.0)])
    assert replicates(one, one, np.ones(1), fit_translation) == ()
    assert replicates(four, four, np.ones(4), fit_homography) == ()
    assert matrix_covariance(()) is None
    assert uncertainty(Transform(TRUE), (), EVERYWHERE) is None
    fits = (Transform(translation(1, 0)), Transform(translation(2, 0)))
    assert uncertainty(Transform(TRUE), fits, ~EVERYWHERE) is None


def test_each_block_that_holds_points_is_left_out_once() -> None:
    m, f = noisy(0, 100)
    fits = replicates(m, f, np.ones(100), fit_affine)
    blocks = spatial_blocks(f)
    assert len(fits) == len(set(blocks.tolist())) > 20
    for fit, block in zip(fits, sorted(set(blocks.tolist())), strict=True):
        kept = blocks != block
        np.testing.assert_allclose(fit.matrix, fit_affine(m[kept], f[kept]), atol=1e-9)


def test_weights_count_in_the_replicates() -> None:
    m, f = noisy(0, 100)
    f[:10] += 200
    weights = np.where(np.arange(100) < 10, 0.0, 1.0)
    claim = uncertainty(Transform(TRUE), replicates(m, f, weights, fit_affine), EVERYWHERE)
    assert claim is not None
    assert claim.max < 1


def test_a_displacement_makes_the_transform_less_certain() -> None:
    """More freedom leaves more open between the same points."""
    m, f = noisy(0, 200)
    matrix, displaced = (
        uncertainty(as_transform(fit(m, f, None)), replicates(m, f, np.ones(200), fit), EVERYWHERE)
        for fit in (fit_affine, DISPLACED_HOMOGRAPHIES[4].fit)
    )
    assert matrix is not None and displaced is not None
    assert displaced.mean > 1.5 * matrix.mean


def test_standard_errors_in_file_pixels_are_rounded() -> None:
    assert in_file_px(Uncertainty(0.12345, 1.0), 2.0) == {"mean": 0.247, "max": 2.0}
    assert in_file_px(None, 2.0) is None

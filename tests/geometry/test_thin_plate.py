"""Bases of smooth displacements and penalised fits: what they reproduce, smooth and refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrl_register.errors import NotRegisteredError
from rrl_register.geometry.displacement import monomials, thin_plate_kernel
from rrl_register.geometry.thin_plate import KNOTS_PER_SIDE, Basis, cells, hull_of

SIDE = 500.0
EVERYWHERE = np.random.default_rng(0).uniform(0, SIDE, (150, 2))
ALL = np.ones(150, bool)
seeds = st.integers(0, 10_000)


def affine_field(places: np.ndarray) -> np.ndarray:
    return places @ np.array([[0.01, -0.005], [0.004, 0.008]]) + np.array([1.5, -2.0])


def waves(places: np.ndarray) -> np.ndarray:
    return 3 * np.sin(places / 70)


@pytest.mark.parametrize("smoothing", [1e-4, 1e-2, 100.0])
def test_a_thin_plate_reproduces_an_affine_displacement_at_any_smoothing(smoothing: float) -> None:
    """It has no bending energy, so that nothing is lost to the penalty."""
    basis = Basis.of(EVERYWHERE, ALL, 1, plate=True)
    displacement, values = basis.fit(affine_field(EVERYWHERE), np.ones(150), smoothing, basis.hull)
    np.testing.assert_allclose(values, affine_field(EVERYWHERE), atol=1e-5)
    np.testing.assert_allclose(displacement.weights, 0, atol=1e-4)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_polynomial_reproduces_one_of_its_degree(degree: int) -> None:
    basis = Basis.of(EVERYWHERE, ALL, degree, plate=False)
    rng = np.random.default_rng(degree)
    terms = monomials((EVERYWHERE - SIDE / 2) / SIDE, degree)
    wanted = terms @ rng.uniform(-3, 3, (terms.shape[1], 2))
    displacement, values = basis.fit(wanted, rng.uniform(0.1, 1, 150), None, basis.hull)
    np.testing.assert_allclose(values, wanted, atol=1e-6)
    assert displacement.kind == "polynomial"


@given(seeds, st.booleans())
@settings(max_examples=20, deadline=None)
def test_values_of_a_fit_are_those_of_its_displacement(seed: int, plate: bool) -> None:
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, SIDE, (120, 2))
    basis = Basis.of(places, np.ones(120, bool), 1 if plate else 3, plate)
    wanted, weights = rng.normal(0, 2, (120, 2)), rng.uniform(0.1, 1, 120)
    displacement, values = basis.fit(wanted, weights, 1e-3 if plate else None, basis.hull)
    np.testing.assert_allclose(displacement.at(places), values, atol=1e-7)


def test_kernel_weights_have_no_polynomial_part() -> None:
    """So the spline bends finitely: sums of its weights with the monomials at the knots vanish."""
    basis = Basis.of(EVERYWHERE, ALL, 1, plate=True)
    displacement, _ = basis.fit(waves(EVERYWHERE), np.ones(150), 1e-4, basis.hull)
    size = np.abs(displacement.weights).sum()
    np.testing.assert_allclose(monomials(basis.knots, 1).T @ displacement.weights, 0, atol=1e-9 * size)


def test_bending_energy_is_that_of_the_kernels() -> None:
    basis = Basis.of(EVERYWHERE, ALL, 1, plate=True)
    displacement, _ = basis.fit(waves(EVERYWHERE), np.ones(150), 1e-4, basis.hull)
    assert basis.null_space is not None
    # Coefficients of the combinations, from the weights of the kernels: the combinations are orthonormal.
    found = basis.null_space.combined(displacement.weights.T.copy())[:, 3:].T
    direct = displacement.weights.T @ thin_plate_kernel(basis.knots, basis.knots) @ displacement.weights
    np.testing.assert_allclose(found.T @ basis.bending @ found, direct, rtol=1e-6, atol=1e-6)
    assert np.linalg.eigvalsh(basis.bending).min() > -1e-9


def test_more_smoothing_bends_less_and_misses_more() -> None:
    basis = Basis.of(EVERYWHERE, ALL, 1, plate=True)
    wanted = waves(EVERYWHERE)
    fits = [basis.fit(wanted, np.ones(150), smoothing, basis.hull) for smoothing in (1e-5, 1e-3, 1e-1)]
    misses = [np.mean((values - wanted) ** 2) for _, values in fits]
    bends = [np.abs(displacement.weights).sum() for displacement, _ in fits]
    assert misses == sorted(misses)
    assert bends == sorted(bends, reverse=True)


@pytest.mark.parametrize("plate", [False, True])
def test_a_point_of_no_weight_does_not_count(plate: bool) -> None:
    wanted, weights = waves(EVERYWHERE), np.ones(150)
    weights[:20] = 0
    basis = Basis.of(EVERYWHERE, weights > 0, 1 if plate else 3, plate)
    spoilt = wanted.copy()
    spoilt[:20] = np.inf
    smoothing = 1e-3 if plate else None
    _, values = basis.fit(wanted, weights, smoothing, basis.hull)
    _, same = basis.fit(spoilt, weights, smoothing, basis.hull)
    np.testing.assert_array_equal(same, values)


def test_places_that_are_not_used_take_the_hull_s_nearest_value() -> None:
    used = EVERYWHERE[:, 0] < SIDE / 2
    basis = Basis.of(EVERYWHERE, used, 1, plate=True)
    displacement, values = basis.fit(waves(EVERYWHERE), used.astype(float), 1e-3, basis.hull)
    np.testing.assert_allclose(values[~used], displacement.at(EVERYWHERE[~used]), atol=1e-7)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_each_occupied_cell_has_a_knot_within_it(seed: int) -> None:
    places = np.random.default_rng(seed).uniform(0, SIDE, (200, 2))
    basis = Basis.of(places, np.ones(200, bool), 1, plate=True)
    assert len(basis.knots) <= min(200, KNOTS_PER_SIDE**2)
    assert (np.abs(basis.knots) <= 1 + 1e-12).all()
    own_cell = cells((basis.knots + 1) / 2, KNOTS_PER_SIDE)
    normalised = (places - basis.centre) / basis.scale
    assert set(own_cell.tolist()) == set(cells((normalised + 1) / 2, KNOTS_PER_SIDE).tolist())
    assert len(set(own_cell.tolist())) == len(basis.knots)


def test_cells_are_counted_column_by_column_and_hold_the_edges() -> None:
    points = np.array([(0.0, 0), (0.6, 0), (0, 0.6), (1, 1), (0.49, 0.49)])
    assert cells(points, 2).tolist() == [0, 2, 1, 3, 0]
    assert cells(np.array([(-0.5, 2.0)]), 4).tolist() == [3]


def test_the_hull_holds_all_places() -> None:
    hull = hull_of(EVERYWHERE)
    edge = np.roll(hull, -1, axis=0) - hull
    sides = [edge[:, 0] * (y - hull[:, 1]) - edge[:, 1] * (x - hull[:, 0]) for x, y in EVERYWHERE]
    assert np.min(sides) > -1e-3 * SIDE


def test_places_on_a_line_have_no_hull() -> None:
    line = np.column_stack([np.linspace(0, SIDE, 50), np.linspace(0, 2 * SIDE, 50)])
    with pytest.raises(NotRegisteredError, match=r"50 tie points lie almost on one line.*try a simpler --model"):
        hull_of(line)


def test_a_thin_plate_needs_more_cells_than_an_affine_has_terms() -> None:
    corners = np.array([(0.0, 0), (SIDE, 0), (0, SIDE)])
    with pytest.raises(NotRegisteredError, match=r"3 cells of the scene.*more than 3.*try a simpler --model"):
        Basis.of(np.concatenate([corners, corners + 1]), np.ones(6, bool), 1, plate=True)

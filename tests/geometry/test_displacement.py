"""Displacements and displaced transforms: forward and back, at any resolution, and constant beyond the hull."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrl_register.geometry.displacement import (
    MAX_GRADIENT,
    Displacement,
    Transform,
    as_transform,
    monomials,
    nearest_in_hull,
    thin_plate_kernel,
)
from rrl_register.geometry.transforms import project, similarity
from rrl_register.geometry.window import Box
from rrl_register.warping.inverse_map import DisplacementGrid

SIDE = 400
SQUARE = np.array([(20.0, 30.0), (380.0, 40.0), (370.0, 390.0), (40.0, 360.0)])
TILTED = np.array([[1.02, 0.05, -8], [-0.04, 0.97, 12], [5e-5, -4e-5, 1]])


def random_displacement(seed: int, knots: int = 12, size: float = 2.0) -> Displacement:
    """Return a displacement of some px far from folding; without knots a polynomial of degree 3."""
    rng = np.random.default_rng(seed)
    degree = 1 if knots else 3
    return Displacement(
        degree=degree,
        coefficients=rng.uniform(-size, size, ((degree + 1) * (degree + 2) // 2, 2)),
        knots=rng.uniform(-1, 1, (knots, 2)),
        weights=rng.uniform(-size, size, (knots, 2)),
        centre=np.array([200.0, 210.0]),
        scale=180.0,
        hull=SQUARE,
    )


seeds, kinds = st.integers(0, 10_000), st.sampled_from([0, 12])


@given(seed=seeds, knots=kinds, factor=st.floats(0.2, 5))
def test_forward_and_backward_undo_each_other_everywhere(seed: int, knots: int, factor: float) -> None:
    transform = Transform(TILTED, random_displacement(seed, knots))
    assert transform.displacement is not None
    assert transform.displacement.largest_gradient() < MAX_GRADIENT
    places = np.random.default_rng(seed).uniform(-100, SIDE + 100, (40, 2))
    moving = transform.backward(places)
    np.testing.assert_allclose(transform.forward(moving), places, atol=1e-7)
    np.testing.assert_allclose(transform.residuals(moving, places), 0, atol=1e-7)


@given(seed=seeds, knots=kinds, factor=st.floats(0.2, 5))
def test_a_reduced_displacement_is_the_same_in_larger_pixels(seed: int, knots: int, factor: float) -> None:
    displacement = random_displacement(seed, knots)
    places = np.random.default_rng(seed).uniform(-50, SIDE + 50, (20, 2))
    there = displacement.reduced(factor).at((places + 0.5) / factor - 0.5)
    np.testing.assert_allclose(there * factor, displacement.at(places), atol=1e-8)


@given(seed=seeds)
def test_beyond_the_hull_it_is_constant_outwards(seed: int) -> None:
    displacement, rng = random_displacement(seed, 0), np.random.default_rng(seed)
    outside = rng.uniform((-300, -300), (20, 700), (20, 2))
    nearest = nearest_in_hull(outside, SQUARE)
    np.testing.assert_allclose(displacement.at(outside), displacement.at(nearest))
    np.testing.assert_allclose(displacement.at(2 * outside - nearest), displacement.at(outside), atol=1e-9)


@given(seed=seeds)
def test_the_nearest_place_in_the_hull_is_the_nearest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, shares = rng.uniform(-200, 600, (20, 2)), rng.dirichlet(np.ones(4), 200)
    nearest = nearest_in_hull(points, SQUARE)
    distance = np.linalg.norm(points - nearest, axis=1)
    some_inside = shares @ SQUARE
    assert (distance <= np.linalg.norm(points[:, None] - some_inside, axis=2).min(axis=1) + 1e-9).all()
    np.testing.assert_allclose(nearest_in_hull(nearest, SQUARE), nearest, atol=1e-9)
    np.testing.assert_array_equal(nearest_in_hull(some_inside, SQUARE), some_inside)


@pytest.mark.parametrize("knots", [0, 12])
def test_json_brings_back_the_last_bit(knots: int) -> None:
    displacement = random_displacement(1, knots)
    data = json.loads(json.dumps(displacement.to_json(), allow_nan=False))
    assert data["kind"] == ("thin-plate" if knots else "polynomial")
    places = np.random.default_rng(0).uniform(0, SIDE, (30, 2))
    np.testing.assert_array_equal(Displacement.from_json(data).at(places), displacement.at(places))
    del data["hull"]
    with pytest.raises(KeyError):
        Displacement.from_json(data)


def test_a_polynomial_is_the_sum_of_its_monomials() -> None:
    points = np.array([(2.0, 3.0)])
    assert monomials(points, 2).tolist() == [[1, 2, 3, 4, 6, 9]]
    assert monomials(points, 3).shape == (1, 10)
    ramp = Displacement(
        1, np.array([(0, 0), (5, 0), (0, 0)]), np.empty((0, 2)), np.empty((0, 2)), np.zeros(2), 100.0, SQUARE
    )
    np.testing.assert_allclose(ramp.at([(50, 100), (200, 200)]), [(2.5, 0), (10, 0)])
    assert ramp.largest_gradient() == pytest.approx(0.05, rel=0.01)


def test_what_comes_near_to_folding_is_refused() -> None:
    assert random_displacement(0).fold_free
    assert not random_displacement(0, size=60.0).fold_free
    assert not replace(random_displacement(0), weights=np.full((12, 2), np.nan)).fold_free


def test_without_displacement_a_transform_is_its_matrix() -> None:
    transform, points = as_transform(similarity(1.1, 5, (3, 4))), np.array([(1.0, 2.0), (30.0, -4.0)])
    assert as_transform(transform) is transform
    np.testing.assert_array_equal(transform.forward(points), project(transform.matrix, points))
    np.testing.assert_allclose(transform.backward(transform.forward(points)), points)
    assert transform.residuals(points, transform.forward(points)).max() == 0


def test_a_point_on_the_horizon_has_no_place() -> None:
    horizon = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    assert np.isinf(Transform(horizon).residuals([(100, 0)], [(0, 0)]))[0]


@pytest.mark.parametrize("shape", [(400, 400), (90, 1500), (5, 7)])
@pytest.mark.parametrize("knots", [0, 12])
def test_the_grid_interpolates_the_displacement(shape: tuple[int, int], knots: int) -> None:
    displacement = random_displacement(3, knots)
    field = DisplacementGrid.sample(displacement.at, Box.of_shape(shape))
    columns, rows = np.arange(shape[1], dtype=float), np.arange(shape[0], dtype=float)[:, None]
    found = np.stack(field.at(columns, rows[:, 0]), axis=-1)
    places = np.stack(np.broadcast_arrays(columns, rows), axis=-1)
    exact = displacement.at(places.reshape(-1, 2)).reshape(found.shape)
    wrong = np.abs(found - exact)
    assert wrong.max() < MAX_GRADIENT * field.step / 4  # where the hull's edge bends it
    assert wrong[80:320, 80:330].max(initial=0) < 0.005


@pytest.fixture(scope="module")
def field() -> Callable[[slice, slice], np.ndarray]:
    whole = DisplacementGrid.sample(random_displacement(5).at, Box.of_shape((300, 500)))

    def part(rows: slice, columns: slice) -> np.ndarray:
        return np.stack(whole.at(np.arange(500.0)[columns], np.arange(300.0)[rows]))

    return part


@given(top=st.integers(0, 250), left=st.integers(0, 450), height=st.integers(1, 50), width=st.integers(1, 50))
def test_a_part_of_the_grid_has_the_bits_of_the_whole(
    field: Callable[[slice, slice], np.ndarray], top: int, left: int, height: int, width: int
) -> None:
    rows, columns = slice(top, top + height), slice(left, left + width)
    everywhere = field(slice(None), slice(None))
    assert field(rows, columns).tobytes() == np.ascontiguousarray(everywhere[:, rows, columns]).tobytes()


@given(seed=seeds, knots=kinds)
def test_counted_from_elsewhere_a_place_is_displaced_as_before(seed: int, knots: int) -> None:
    displacement = random_displacement(seed, knots)
    places = np.random.default_rng(seed).uniform(0, SIDE, (20, 2))
    moved = displacement.moved((1000.0, -50.0))
    np.testing.assert_allclose(moved.at(places + np.array([1000.0, -50.0])), displacement.at(places), atol=1e-9)


@given(seed=seeds, knots=kinds, factor=st.floats(0.3, 4))
def test_gradients_do_not_depend_on_the_size_of_the_pixels(seed: int, knots: int, factor: float) -> None:
    """So the fold check decides alike at every resolution."""
    displacement = random_displacement(seed, knots)
    assert displacement.reduced(factor).largest_gradient() == pytest.approx(displacement.largest_gradient(), rel=1e-6)


@given(seed=seeds, knots=kinds)
@settings(max_examples=30)
def test_a_start_near_the_result_changes_nothing(seed: int, knots: int) -> None:
    transform = Transform(TILTED, random_displacement(seed, knots))
    rng = np.random.default_rng(seed)
    places = rng.uniform(50, SIDE - 50, (20, 2))
    moving = transform.backward(places)
    near = transform.forward(moving, near=places + rng.normal(0, 2, places.shape))
    np.testing.assert_allclose(near, transform.forward(moving), atol=1e-7)


def test_the_kernel_is_r_squared_log_r() -> None:
    knots = np.array([(0.0, 0.0), (3.0, 4.0)])
    kernel = thin_plate_kernel(np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 2.0)]), knots)
    np.testing.assert_allclose(kernel[:, 0], [0, 0, 4 * np.log(2)], atol=1e-12)
    assert kernel[0, 1] == pytest.approx(25 * np.log(5))


@given(seed=seeds, degree=st.integers(1, 4))
def test_monomials_are_all_products_up_to_the_degree(seed: int, degree: int) -> None:
    points = np.random.default_rng(seed).uniform(-1, 1, (5, 2))
    expected = [
        points[:, 0] ** (total - j) * points[:, 1] ** j for total in range(degree + 1) for j in range(total + 1)
    ]
    np.testing.assert_allclose(monomials(points, degree), np.stack(expected, axis=1), atol=1e-12)


def test_many_places_are_displaced_as_few() -> None:
    """Kernels are summed in parts of 128 places."""
    displacement = random_displacement(2)
    places = np.random.default_rng(0).uniform(0, SIDE, (300, 2))
    one_by_one = np.concatenate([displacement.at(place[None]) for place in places])
    np.testing.assert_allclose(displacement.at(places), one_by_one, atol=1e-10)

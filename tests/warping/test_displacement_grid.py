"""Displacements that are sampled on a lattice."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.geometry.window import Box
from rrl_register.warping.inverse_map import CELLS, DisplacementGrid

BOX = Box(-30, 470, 100, 740)


def waves(places: np.ndarray) -> np.ndarray:
    """Some px, smooth, each axis on its own."""
    x, y = places.T
    return np.column_stack([3 * np.sin(x / 90) + y / 200, 2 * np.cos(y / 70) - x / 300])


def grid_at(grid: DisplacementGrid, box: Box) -> np.ndarray:
    return np.stack(grid.at(np.arange(box.left, box.right, dtype=float), np.arange(box.top, box.bottom, dtype=float)))


@pytest.fixture(scope="module")
def sampled() -> DisplacementGrid:
    return DisplacementGrid.sample(waves, BOX)


def test_the_samples_follow_a_smooth_displacement_up_to_the_edges(sampled: DisplacementGrid) -> None:
    rows, columns = np.mgrid[BOX.top : BOX.bottom, BOX.left : BOX.right]
    exact = waves(np.column_stack([columns.ravel(), rows.ravel()]).astype(float)).T.reshape(2, *BOX.shape)
    assert np.abs(grid_at(sampled, BOX) - exact).max() < 1e-5


@given(a=st.floats(-0.1, 0.1), b=st.floats(-0.1, 0.1), c=st.floats(-20, 20))
def test_a_linear_displacement_is_exact(a: float, b: float, c: float) -> None:
    grid = DisplacementGrid.sample(lambda places: np.column_stack([places @ (a, b) + c, places @ (b, a) - c]), BOX)
    along_x, along_y = grid.at(np.array([101.0, 350.5]), np.array([-3.25, 9.0, 400.0]))
    y, x = np.array([[-3.25], [9.0], [400.0]]), np.array([[101.0, 350.5]])
    np.testing.assert_allclose(along_x, a * x + b * y + c, atol=1e-9)
    np.testing.assert_allclose(along_y, b * x + a * y - c, atol=1e-9)


def test_outside_the_box_the_nearest_pixel_decides(sampled: DisplacementGrid) -> None:
    edge = np.stack(sampled.at(np.array([100.0, 739.0]), np.array([-30.0, 469.0])))
    beyond = np.stack(sampled.at(np.array([-500.0, 5000.0]), np.array([-900.0, 900.0])))
    assert np.array_equal(edge, beyond)


@given(top=st.integers(-30, 460), left=st.integers(100, 730), height=st.integers(1, 64), width=st.integers(1, 64))
def test_a_pixels_displacement_does_not_depend_on_its_block(
    sampled: DisplacementGrid, top: int, left: int, height: int, width: int
) -> None:
    part = Box(top, top + height, left, left + width).within(BOX)
    rows, columns = part.slices_from(BOX)
    assert grid_at(sampled, part).tobytes() == np.ascontiguousarray(grid_at(sampled, BOX)[:, rows, columns]).tobytes()


@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_the_lattice_is_bounded_in_either_way(height: int, width: int) -> None:
    seen = []

    def nothing(places: np.ndarray) -> np.ndarray:
        seen.append(len(places))
        return np.zeros_like(places)

    grid = DisplacementGrid.sample(nothing, Box(0, height, 0, width))
    assert grid.step >= 4
    assert max(height, width) / grid.step <= CELLS
    assert sum(seen) <= (CELLS + 18) ** 2


def test_processes_may_hand_it_on(sampled: DisplacementGrid) -> None:
    again = pickle.loads(pickle.dumps(sampled))
    assert np.array_equal(grid_at(again, BOX), grid_at(sampled, BOX))

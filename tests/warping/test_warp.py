"""Bringing an image onto another grid: exact, blind to pixels without data, and the same whatever the blocks."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.config import Resampling
from rrl_register.errors import UsageError
from rrl_register.geometry.displacement import Displacement, Transform
from rrl_register.warping.warp import warp_array
from warp_inputs import COMPLEX, DTYPES, METHODS, TILTED, noise, shift


def waves(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sin(x / 9) + np.cos(y / 7) + np.sin((x + y) / 13)


def waves_seen_through(matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """What an exact warp of waves would give."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in np.linalg.inv(matrix))
    return waves(u / w, v / w)


def inner(valid: np.ndarray, margin: int = 4) -> np.ndarray:
    framed = np.pad(valid, 1).astype(np.uint8)
    return cv2.erode(framed, np.ones((2 * margin + 1,) * 2, np.uint8))[1:-1, 1:-1] > 0


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


@pytest.mark.parametrize("resampling", METHODS)
@pytest.mark.parametrize("dtype", DTYPES + COMPLEX)
def test_identity_changes_no_bit(rng: np.random.Generator, dtype: str, resampling: Resampling) -> None:
    image = noise(rng, dtype, (2, 60, 70))
    warped, valid = warp_array(image, np.eye(3), (60, 70), resampling)
    assert warped.dtype == image.dtype
    assert warped.tobytes() == image.tobytes()
    assert valid.all()


@given(
    dx=st.integers(-80, 80),
    dy=st.integers(-70, 70),
    method=st.sampled_from(METHODS),
    scale=st.sampled_from([1, -1, 0.3, -7, 1e-9, 1e100]),
)
def test_a_whole_shift_copies_pixels(dx: int, dy: int, method: Resampling, scale: float) -> None:
    image = noise(np.random.default_rng(3), "int64")
    # A homography is the same at any scale, the sign included.
    warped, valid = warp_array(image, shift(dx, dy) * scale, (60, 70), method)
    expected, there = np.zeros_like(image), np.zeros(image.shape, bool)
    target = slice(max(dy, 0), max(0, 60 + min(dy, 0))), slice(max(dx, 0), max(0, 70 + min(dx, 0)))
    source = slice(max(-dy, 0), max(0, 60 - max(dy, 0))), slice(max(-dx, 0), max(0, 70 - max(dx, 0)))
    if abs(dx) < 70 and abs(dy) < 60:
        expected[target], there[target] = image[source], True
    assert np.array_equal(warped, expected)
    assert np.array_equal(valid, there)


def bulge(size: float = 3.0) -> Displacement:
    """Some px along x and y, bent by three thin_plate_kernel, within most of 190 x 210 px."""
    hull = np.array([(5.0, 5.0), (185.0, 5.0), (185.0, 205.0), (5.0, 205.0)])
    knots = np.array([(-0.4, -0.3), (0.5, 0.2), (0.0, 0.6)])
    weights, plane = size * np.array([(1.0, -1), (-2, 0.5), (1, 0.5)]), size * np.array([(0.3, 0.2), (0.1, 0), (0, 0)])
    return Displacement(1, plane, knots, weights, np.array([95.0, 105.0]), 100.0, hull)


def test_a_displaced_image_is_seen_where_the_transform_says() -> None:
    y, x = np.mgrid[:200, :220].astype(float)
    warped, valid = warp_array(waves(x, y).astype(np.float32), TILTED, (210, 190), displacement=bulge())
    rows, columns = np.mgrid[:210, :190].astype(float)
    there = Transform(TILTED, bulge()).backward(np.column_stack([columns.ravel(), rows.ravel()]))
    wrong = np.abs(warped - waves(*there.T).reshape(210, 190))[inner(valid)]
    assert wrong.max() < 0.02
    plain, _ = warp_array(waves(x, y).astype(np.float32), TILTED, (210, 190))
    assert np.abs(warped - plain)[inner(valid)].max() > 0.2


def test_a_constant_displacement_is_a_shift(rng: np.random.Generator) -> None:
    image = noise(rng, "int16")
    hull = np.array([(5.0, 5.0), (60.0, 5.0), (60.0, 50.0)])
    steady = Displacement(0, np.array([(4.0, -3.0)]), np.empty((0, 2)), np.empty((0, 2)), np.zeros(2), 50.0, hull)
    displaced, seen = warp_array(image, np.eye(3), (60, 70), displacement=steady)
    shifted, there = warp_array(image, shift(4, -3), (60, 70))
    assert np.array_equal(displaced, shifted)
    assert np.array_equal(seen, there)


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_quarter_turns_copy_pixels(rng: np.random.Generator, turn: int) -> None:
    image = noise(rng, "uint16", (40, 40))
    matrix = {
        1: np.array([[0, 1, 0], [-1, 0, 39], [0, 0, 1.0]]),
        2: np.array([[-1, 0, 39], [0, -1, 39], [0, 0, 1.0]]),
        3: np.array([[0, -1, 39], [1, 0, 0], [0, 0, 1.0]]),
    }[turn]
    warped, valid = warp_array(image, matrix, (40, 40))
    assert valid.all()
    assert np.array_equal(warped, np.rot90(image, turn))


@pytest.mark.parametrize(("resampling", "error"), [("bilinear", 0.012), ("cubic", 0.001)])
def test_a_smooth_image_is_interpolated_closely(resampling: str, error: float) -> None:
    y, x = np.mgrid[:200, :220].astype(float)
    warped, valid = warp_array(waves(x, y).astype(np.float32), TILTED, (210, 190), resampling)
    wrong = np.abs(warped - waves_seen_through(TILTED, (210, 190)))[inner(valid)]
    assert wrong.max() < error


def test_cubic_is_closer_than_opencv_whose_coordinates_are_rounded() -> None:
    y, x = np.mgrid[:200, :220].astype(float)
    image = waves(x, y).astype(np.float32)
    truth = waves_seen_through(TILTED, (200, 220))
    warped, valid = warp_array(image, TILTED, (200, 220))
    other = cv2.warpPerspective(image, TILTED, (220, 200), flags=cv2.INTER_CUBIC)
    inside = inner(valid)
    assert np.abs(warped - truth)[inside].max() < 0.2 * np.abs(other - truth)[inside].max()


def test_half_pixel_shift_of_a_ramp_is_exact() -> None:
    ramp = np.tile(np.arange(50, dtype=np.float64), (40, 1))
    for resampling in ("bilinear", "cubic"):
        warped, valid = warp_array(ramp, shift(0.5, 0.25), (40, 50), resampling)
        assert np.allclose(warped[inner(valid)], (ramp - 0.5)[inner(valid)], atol=1e-12)


def test_complex_parts_are_interpolated_each_by_itself(rng: np.random.Generator) -> None:
    image = noise(rng, "complex128")
    warped, valid = warp_array(image, TILTED, (60, 70))
    real, imaginary = (warp_array(np.ascontiguousarray(part), TILTED, (60, 70))[0] for part in (image.real, image.imag))
    assert np.allclose(warped, real + 1j * imaginary)
    assert valid.mean() > 0.7


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32"])
def test_integers_are_rounded_and_clipped(dtype: str) -> None:
    limits = np.iinfo(dtype)
    # Cubic interpolation overshoots beside an edge, beyond what the type holds.
    image = np.full((20, 20), limits.min, dtype)
    image[:, 10:] = limits.max
    warped, valid = warp_array(image, shift(0.4, 0), (20, 20))
    # At the image's edge interpolation is bilinear.
    steps = warped[inner(valid)]
    assert steps.min() == limits.min
    assert steps.max() == limits.max
    between = np.unique(steps[(steps > limits.min) & (steps < limits.max)])
    assert len(between) == 1
    half = warp_array(np.array([[3, 4, 4, 4]] * 4, np.uint8), shift(0.4, 0), (4, 4), "bilinear")[0]
    assert half[1, 1] == 4


@pytest.mark.parametrize("resampling", METHODS)
@pytest.mark.parametrize("hidden", [1e30, np.nan, np.inf])
def test_pixels_without_data_do_not_bleed(rng: np.random.Generator, resampling: Resampling, hidden: float) -> None:
    image = rng.uniform(10, 20, (60, 70)).astype(np.float32)
    known = rng.random((60, 70)) > 0.3
    known[20:30, 20:40] = False
    image[~known] = hidden
    warped, valid = warp_array(image, TILTED, (60, 70), resampling, known)
    assert valid.any()
    # Cubic interpolation may overshoot, by far less than the hidden values.
    assert 5 < warped[valid].min() <= warped[valid].max() < 25
    assert (warped[~valid] == 0).all()


@given(dx=st.floats(-3, 3), dy=st.floats(-3, 3), method=st.sampled_from(METHODS))
def test_a_constant_stays_constant_up_to_the_edge_of_the_data(dx: float, dy: float, method: Resampling) -> None:
    known = np.random.default_rng(4).random((30, 30)) > 0.2
    image = np.where(known, 7.0, -1e6)
    warped, valid = warp_array(image, shift(dx, dy), (30, 30), method, known)
    assert np.allclose(warped[valid], 7, atol=1e-9)


def test_a_place_has_data_where_its_nearest_pixel_has(rng: np.random.Generator) -> None:
    known = rng.random((30, 30)) > 0.5
    image = rng.random((30, 30))
    masks = [warp_array(image, shift(0.3, -0.2), (30, 30), method, known)[1] for method in METHODS]
    assert np.array_equal(masks[0], known)
    assert all(np.array_equal(mask, known) for mask in masks)


def test_values_that_are_not_finite_are_no_data(rng: np.random.Generator) -> None:
    image = rng.random((2, 30, 30))
    image[1, 4, 5] = np.nan
    valid = warp_array(image, np.eye(3), (30, 30))[1]
    assert valid.sum() == 899
    assert not valid[4, 5]


def test_nothing_is_seen_behind_the_horizon() -> None:
    image = np.ones((50, 50), np.float32)
    # The line 1 - x / 100 = 0 lies beyond the image; fixed pixels past its image would see it from behind.
    matrix = np.array([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    valid = warp_array(image, matrix, (50, 400))[1]
    columns = np.flatnonzero(valid.any(axis=0))
    assert columns.max() <= math.ceil(49.5 / (1 - 0.495))
    mirrored = warp_array(image, matrix @ shift(-300, 0), (50, 400))[1]
    assert mirrored.sum() < valid.sum()


@pytest.mark.parametrize("factor", [2, 3, 5, 8])
@pytest.mark.parametrize("resampling", ["bilinear", "cubic"])
def test_reducing_averages_so_that_nothing_aliases(factor: int, resampling: str) -> None:
    stripes = np.tile(np.arange(240) % 2 * 200, (240, 1)).astype(np.float32)
    matrix = np.diag([1 / factor, 1 / factor, 1])
    matrix[:2, 2] = 0.5 / factor - 0.5
    warped, valid = warp_array(stripes, matrix, (240 // factor, 240 // factor), resampling)
    expected = stripes.reshape(240 // factor, factor, 240 // factor, factor).mean(axis=(1, 3))
    assert valid.all()
    assert np.allclose(warped, expected, atol=1e-3)


def test_averaging_leaves_out_pixels_without_data() -> None:
    image = np.full((80, 80), 9.0)
    known = np.ones((80, 80), bool)
    known[::4] = False
    image[~known] = 1e9
    warped, valid = warp_array(image, np.diag([0.25, 0.25, 1]), (19, 19), "bilinear", known)
    assert valid.all()
    assert np.allclose(warped, 9)


def test_labels_are_never_averaged(rng: np.random.Generator) -> None:
    labels = rng.choice(np.array([3, 90, 200], np.uint8), (90, 90))
    warped, valid = warp_array(labels, np.diag([0.2, 0.2, 1]), (18, 18), "nearest")
    assert set(np.unique(warped[valid])) <= {3, 90, 200}


@pytest.mark.parametrize(
    "matrix", [np.ones((3, 3)), np.zeros((3, 3)), np.diag([1, 1, np.nan]), np.eye(2), np.diag([1.0, 0.0, 1.0])]
)
def test_a_matrix_without_inverse_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(UsageError, match="no inverse"):
        warp_array(np.ones((5, 5)), matrix, (5, 5))

"""Patches lie where they are asked for, on ground of any of the three sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.config import Kind
from rrl_register.nn.patches import SUPPORTS, PatchCutter, default_support

SHAPE = (200, 260)


def ramps() -> list[np.ndarray]:
    """The value of a pixel is its column in the one, its row in the other, in hundredths."""
    rows, columns = np.indices(SHAPE)
    return [(columns / 100).astype(np.float32), (rows / 100).astype(np.float32)]


def cut(image: np.ndarray, points: list[tuple[float, float]], support: int = 64) -> np.ndarray:
    return PatchCutter(image, np.ones(image.shape, bool), support).cut(np.array(points, float).reshape(-1, 2))[:, 0]


def test_the_pixel_that_is_asked_for_lies_in_the_middle() -> None:
    """64 is even: the four middle samples share a pixel at whole coordinates, and one has it half a pixel further."""
    image = np.zeros(SHAPE, np.float32)
    image[90, 120] = 1
    patch = cut(image, [(120, 90)])[0]
    middle = np.zeros((64, 64))
    middle[31:33, 31:33] = 0.25
    assert np.allclose(patch, middle)
    half = cut(image, [(119.5, 89.5)])[0]
    assert half[32, 32] == 1
    assert half.sum() == 1


@pytest.mark.parametrize("support", SUPPORTS)
@given(x=st.floats(66, 190), y=st.floats(66, 130))
def test_patches_are_centred_to_a_fraction_of_a_pixel(support: int, x: float, y: float) -> None:
    """The mean over a slope is its value in the middle; OpenCV interpolates at steps of 1/32 px."""
    found = [100 * cut(image, [(x, y)], support).mean() for image in ramps()]
    assert np.allclose(found, (x, y), atol=0.02 * support / 64 + 0.03)


@pytest.mark.parametrize("support", SUPPORTS)
def test_the_support_is_the_ground_under_a_patch(support: int) -> None:
    patch = cut(ramps()[0], [(130, 100)], support)[0]
    assert patch.shape == (64, 64)
    assert np.allclose(100 * np.diff(patch, axis=1), support / 64, atol=0.35)
    assert 100 * (patch[0, -1] - patch[0, 0]) == pytest.approx(63 * support / 64, abs=0.4)


def test_wide_supports_are_averaged_not_thinned_out() -> None:
    board = np.indices(SHAPE).sum(0) % 2
    patch = cut(board.astype(np.float32), [(130, 100)], 128)[0]
    assert np.allclose(patch, 0.5)


@pytest.mark.parametrize("support", SUPPORTS)
def test_beyond_the_image_its_edge_is_repeated(support: int) -> None:
    first, last = cut(ramps()[0], [(-200, 100), (500, 100)], support)
    assert np.allclose(first, first[0, 0])
    assert 0 <= 100 * first[0, 0] < support / 64
    assert np.allclose(last, last[0, 0])
    assert 259 - support / 64 < 100 * last[0, 0] <= 259


def test_missing_data_looks_like_the_mean_of_the_rest() -> None:
    image = ramps()[0]
    valid = np.ones(SHAPE, bool)
    valid[:, :130] = False
    image[~valid] = 77
    patch = PatchCutter(image, valid, 64).cut(np.array([(60.0, 100.0), (200.0, 100.0)]))
    assert np.allclose(patch[0], image[valid].mean(), atol=1e-4)
    assert np.array_equal(patch[1, 0], cut(image, [(200, 100)])[0])


def test_more_points_than_one_call_of_opencv_takes() -> None:
    points = [(70.0 + i % 120, 70.0 + i // 120) for i in range(600)]
    patches = cut(ramps()[0], points)
    assert patches.shape == (600, 64, 64)
    assert np.allclose(100 * patches.mean((1, 2)), np.array(points)[:, 0], atol=0.02)


def test_no_points_make_no_patches() -> None:
    patches = PatchCutter(ramps()[0], np.ones(SHAPE, bool), 64).cut(np.empty((0, 2)))
    assert patches.shape == (0, 1, 64, 64)
    assert patches.dtype == np.float32


@pytest.mark.parametrize(
    ("kinds", "shape", "support"),
    [
        ((Kind.OPTICAL, Kind.IR), (900, 900), 64),
        ((Kind.OPTICAL, Kind.SAR), (900, 900), 128),
        ((Kind.SAR, Kind.OPTICAL), (900, 900), 128),
        ((Kind.OPTICAL, Kind.SAR), (900, 255), 96),
        ((Kind.OPTICAL, Kind.SAR), (150, 900), 64),
        ((Kind.OPTICAL, Kind.SAR), (60, 60), 64),
    ],
)
def test_speckle_is_averaged_over_more_ground_where_there_is_ground(
    kinds: tuple[Kind, Kind], shape: tuple[int, int], support: int
) -> None:
    assert default_support(*kinds, shape) == support

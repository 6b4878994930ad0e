from __future__ import annotations

import cv2
import numpy as np
import pytest

from cfog import oriented_gradients
from rrl_register.matching.features.oriented_gradients import (
    contrast_normalised_gradients,
    direction_series,
    edge_strength,
    eroded,
    gradients,
    orientation_harmonics,
)
from rrl_register.parallel import BLOCK_ROWS


def texture(shape: tuple[int, int] = (120, 160), seed: int = 0, sigma: float = 2.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    image = cv2.GaussianBlur(noise, (0, 0), sigma)
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


ALL = np.ones((120, 160), bool)


@pytest.mark.parametrize("describe", [oriented_gradients, orientation_harmonics])
def test_inverted_contrast_changes_nothing(describe) -> None:
    image = texture()
    np.testing.assert_allclose(describe(image, ALL), describe(1 - image, ALL), atol=1e-3)


@pytest.mark.parametrize("describe", [oriented_gradients, orientation_harmonics, edge_strength])
def test_gain_and_offset_change_nothing(describe) -> None:
    image = texture()
    np.testing.assert_allclose(describe(image, ALL), describe(0.3 * image + 0.4, ALL), atol=1e-2)


def test_channels_have_unit_length_where_there_is_structure() -> None:
    channels = oriented_gradients(texture(), ALL, n_orientations=6)
    assert channels.shape == (120, 160, 6)
    assert channels.dtype == np.float32
    length = np.linalg.norm(channels, axis=-1)
    assert length.max() <= 1
    assert np.median(length) > 0.9


@pytest.mark.parametrize(("angle", "channel"), [(0, 0), (60, 3), (120, 6), (160, 8)])
def test_the_strongest_channel_is_the_gradients_direction(angle: float, channel: int) -> None:
    y, x = np.mgrid[:100, :100].astype(np.float32)
    along = x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle))
    channels = oriented_gradients(np.sin(along / 4).astype(np.float32), np.ones((100, 100), bool), 9)
    assert channels[50, 50].argmax() == channel


@pytest.mark.parametrize("n", [3, 6, 8, 9])
@pytest.mark.parametrize("hole", [False, True])
def test_the_series_keeps_the_products_of_the_channels(n: int, hole: bool) -> None:
    """In images of several strips, too, whose borders leave no mark."""
    shape = (2 * BLOCK_ROWS + 30, 90)
    valid = np.ones(shape, bool)
    valid[BLOCK_ROWS - 20 : BLOCK_ROWS + 10, 30:60] = not hole
    one, other = texture(shape), texture(shape, seed=1)
    channels = [oriented_gradients(image, valid, n) for image in (one, other)]
    channels = [each - each.mean(axis=-1, keepdims=True) for each in channels]
    series = [direction_series(image, valid, n) for image in (one, other)]
    assert series[0].shape == ((n - 1) // 2, *shape)
    assert series[0].dtype == np.complex64
    for first, second in ((0, 0), (0, 1)):
        product = (series[first] * series[second].conj()).real.sum(axis=0)
        np.testing.assert_allclose(product, (channels[first] * channels[second]).sum(axis=-1), atol=1e-5)


def test_a_series_may_have_a_frame_of_zeros() -> None:
    framed = direction_series(texture(), ALL, 6, margin=7)
    np.testing.assert_array_equal(framed[:, 7:-7, 7:-7], direction_series(texture(), ALL, 6))
    framed[:, 7:-7, 7:-7] = 0
    assert framed.shape == (2, 134, 174)
    assert not framed.any()


def test_harmonics_of_one_direction_have_its_doubled_angle() -> None:
    y, x = np.mgrid[:100, :100].astype(np.float32)
    angle = np.deg2rad(35)
    image = ((x * np.cos(angle) + y * np.sin(angle)) / 150).astype(np.float32)
    harmonics = orientation_harmonics(image, np.ones((100, 100), bool))[:, 50, 50]
    assert harmonics == pytest.approx(np.exp([2j * angle, 4j * angle]), abs=0.1)


def holed() -> tuple[np.ndarray, np.ndarray]:
    """A flat image with an invalid area of another value, whose border would be its only edge."""
    image = np.full((120, 160), 0.7, np.float32)
    valid = ALL.copy()
    valid[30:70, 40:90] = False
    valid[:, :12] = False
    image[~valid] = 0
    return image, valid


def test_the_border_of_the_valid_area_is_no_edge() -> None:
    image, valid = holed()
    gx, gy = gradients(image, valid)
    assert max(np.abs(gx).max(), np.abs(gy).max()) < 1e-5
    assert np.abs(oriented_gradients(image, valid)).max() < 0.1
    assert np.abs(orientation_harmonics(image, valid)).max() < 0.1
    assert np.abs(direction_series(image, valid)).max() < 0.1


@pytest.mark.parametrize("fill", [0.0, 1.0, np.float32(1e4)])
def test_what_invalid_pixels_hold_has_no_influence(fill: float) -> None:
    valid = holed()[1]
    image = texture()
    filled = np.where(valid, image, np.float32(fill))
    for describe in (oriented_gradients, edge_strength):
        np.testing.assert_allclose(describe(filled, valid), describe(np.where(valid, image, 0), valid), atol=1e-4)


def test_invalid_pixels_are_zero() -> None:
    valid = holed()[1]
    assert not oriented_gradients(texture(), valid)[~valid].any()
    assert not orientation_harmonics(texture(), valid)[:, ~valid].any()
    assert not direction_series(texture(), valid)[:, ~valid].any()
    assert not edge_strength(texture(), valid)[~valid].any()


def test_an_image_without_valid_pixels_has_no_structure() -> None:
    nothing = np.zeros((40, 50), bool)
    image = np.zeros((40, 50), np.float32)
    assert not oriented_gradients(image, nothing).any()
    assert not direction_series(image, nothing).any()
    assert not edge_strength(image, nothing).any()


def test_dim_areas_have_as_strong_edges_as_bright_ones() -> None:
    image = texture((120, 240), sigma=1.5)
    image[:, 120:] *= 0.1
    strength = edge_strength(image, np.ones(image.shape, bool))
    left, right = strength[:, 20:80].mean(), strength[:, 160:220].mean()
    assert right == pytest.approx(left, rel=0.35)


def test_erosion_is_a_chessboard_distance_and_spares_the_image_border() -> None:
    valid = np.ones((20, 20), bool)
    valid[10, 10] = False
    inner = eroded(valid, 3)
    assert inner[0, 0] and inner[14, 10] and not inner[13, 13]
    assert eroded(np.ones((20, 20), bool), 3).all()


@pytest.mark.parametrize("shape", [(1, 1), (40, 300), (300, 40), (259, 131)])
def test_gradients_are_divided_by_the_mean_gradient_around(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    image, valid = rng.random(shape, np.float32), rng.random(shape) < 0.98
    gx, gy = gradients(image, valid)
    weight, length = valid.astype(np.float32), np.hypot(gx, gy)

    def blur(array: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.GaussianBlur(array, (0, 0), 12, borderType=cv2.BORDER_REFLECT))

    around = blur(length * weight) / np.maximum(blur(weight), 1e-3)
    mean = length[valid].mean() if valid.any() else 0
    found = contrast_normalised_gradients(image, valid)
    expected = np.stack([gx, gy]) * weight / (around + 0.05 * mean + 1e-6)
    # The mean comes from a quarter of the resolution, noise being the worst case.
    np.testing.assert_allclose(found, expected, atol=0.05 * max(1.0, float(np.abs(expected).max())))
    assert np.sqrt(np.mean((found - expected) ** 2)) <= 0.01 * max(1.0, float(np.sqrt(np.mean(expected**2))))

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import fourier_shift

from cfog import oriented_gradients
from rrl_register.matching.local_correlation import N_ORIENTATIONS, LocalPeaks, Structure, peaks_between

SHAPE = (160, 200)
ALL = np.ones(SHAPE, bool)


def texture(seed: int = 0, sigma: float = 2.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    image = cv2.GaussianBlur(noise, (0, 0), sigma)
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


IMAGE = texture()
Seen = tuple[np.ndarray, np.ndarray]
FIXED: Seen = (IMAGE, ALL)
POINTS = np.stack(np.meshgrid(np.arange(60.0, 150, 20), np.arange(55.0, 110, 20)), -1).reshape(-1, 2)


def shifted(dx: float, dy: float, image: np.ndarray = IMAGE) -> np.ndarray:
    """The image moved by a fraction of a pixel, exactly (band-limited), wrapping around."""
    return np.fft.ifft2(fourier_shift(np.fft.fft2(image), (dy, dx))).real.astype(np.float32)


def local_peaks(
    fixed: Seen, moving: Seen, points: np.ndarray, half: int = 32, radius: int = 16, k: int = 3
) -> LocalPeaks:
    """The peaks for points of an image in another one, each with its mask."""
    structures = (Structure.of(*image, half, radius) for image in (fixed, moving))
    return peaks_between(*structures, points, radius, k)


@pytest.mark.parametrize("shift", [(0.37, 0.0), (0.37, -0.37), (-4.37, 2.63), (0.5, 0.5), (7.9, -6.2)])
def test_a_fractional_shift_is_recovered_to_a_twentieth_of_a_pixel(shift: tuple[float, float]) -> None:
    peaks = local_peaks(FIXED, (shifted(*shift), ALL), POINTS, half=24, radius=10, k=1)
    np.testing.assert_allclose(peaks.positions[:, 0] - POINTS, np.broadcast_to(shift, POINTS.shape), atol=0.05)
    assert peaks.valid.all()
    assert peaks.correlation.min() > 0.9


@given(st.floats(-9, 9), st.floats(-9, 9))
@settings(max_examples=15)
def test_any_shift_within_the_radius_is_recovered(dx: float, dy: float) -> None:
    peaks = local_peaks(FIXED, (shifted(dx, dy), ALL), POINTS, half=20, radius=10, k=1)
    assert np.abs(peaks.positions[:, 0] - POINTS - [dx, dy]).max() < 0.1


def test_inverted_contrast_is_matched_as_well() -> None:
    peaks = local_peaks(FIXED, (1 - shifted(3, -2), ALL), POINTS, half=24, radius=8)
    np.testing.assert_allclose(peaks.positions[:, 0] - POINTS, np.tile([3, -2], (len(POINTS), 1)), atol=0.05)


def test_fractional_points_are_moved_not_rounded() -> None:
    points = POINTS + np.array([0.25, -0.4])
    peaks = local_peaks(FIXED, FIXED, points, half=20, radius=6, k=1)
    np.testing.assert_allclose(peaks.positions[:, 0], points, atol=0.02)


def test_correlation_agrees_with_the_plain_formula() -> None:
    moving = (texture(seed=1), ALL)
    peaks = local_peaks(FIXED, moving, POINTS, half=12, radius=5, k=1)
    channels = [oriented_gradients(*image, N_ORIENTATIONS) for image in (FIXED, moving)]
    centred_fixed, centred_moving = (c - c.mean(-1, keepdims=True) for c in channels)

    def correlation(x: int, y: int, dx: int, dy: int) -> float:
        a = centred_fixed[y - 12 : y + 13, x - 12 : x + 13]
        b = centred_moving[y + dy - 12 : y + dy + 13, x + dx - 12 : x + dx + 13]
        return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))

    for i in np.flatnonzero(peaks.valid[:, 0]):
        dx, dy = (peaks.positions[i, 0] - POINTS[i]).round().astype(int)
        x, y = POINTS[i].astype(int)
        around = [correlation(x, y, dx + i, dy + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        assert peaks.correlation[i, 0] == pytest.approx(max(around), abs=1e-4)


def test_threads_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for n_threads in (1, 2, 5):
        monkeypatch.setattr(cv2, "getNumThreads", lambda n=n_threads: n)
        found.append(local_peaks(FIXED, (shifted(2.3, 1), ALL), POINTS, half=20, radius=6))
    for peaks in found[1:]:
        np.testing.assert_array_equal(peaks.positions, found[0].positions)
        np.testing.assert_array_equal(peaks.correlation, found[0].correlation)


def test_peaks_come_best_first_apart_and_within_the_radius() -> None:
    peaks = local_peaks(FIXED, (texture(seed=2), ALL), POINTS, half=12, radius=12, k=3)
    found = peaks.valid.all(axis=1)
    assert found.sum() > 8
    assert (np.diff(peaks.correlation[found], axis=1) <= 0).all()
    shift = peaks.positions[found] - POINTS[found, None]
    assert np.abs(shift).max() <= 13
    assert np.abs(shift[:, 0] - shift[:, 1]).max(axis=1).min() > 1


def test_a_true_match_stands_out_more_than_a_chance_one() -> None:
    true = local_peaks(FIXED, (shifted(2, 1), ALL), POINTS)
    chance = local_peaks(FIXED, (texture(seed=3), ALL), POINTS)
    assert true.correlation[:, 0].min() > chance.correlation[:, 0].max()


@given(st.floats(-6, 6), st.floats(-6, 6))
@settings(max_examples=10)
def test_the_search_back_ends_where_the_search_began(dx: float, dy: float) -> None:
    """The places found are no whole pixels; windows around them are searched all the same."""
    moving = (shifted(dx, dy), ALL)
    there = local_peaks(FIXED, moving, POINTS, half=20, radius=8, k=1).positions[:, 0]
    back = local_peaks(moving, FIXED, there, half=20, radius=8, k=1).positions[:, 0]
    assert np.linalg.norm(back - POINTS, axis=1).max() < 0.15


def test_the_search_back_from_a_chance_place_often_ends_elsewhere() -> None:
    moving = (texture(seed=4), ALL)
    there = local_peaks(FIXED, moving, POINTS, half=12, radius=10, k=1).positions[:, 0]
    back = local_peaks(moving, FIXED, there, half=12, radius=8, k=1).positions[:, 0]
    assert np.mean(np.linalg.norm(back - POINTS, axis=1) > 5) > 0.3


def test_a_repeated_pattern_gives_all_its_places() -> None:
    x = np.arange(SHAPE[1])
    stripes = np.broadcast_to(np.sin(2 * np.pi * x / 16), SHAPE) + 0.05 * texture()
    image = (stripes.astype(np.float32), ALL)
    peaks = local_peaks(image, image, POINTS[6:7], half=16, radius=12, k=3)
    np.testing.assert_allclose(peaks.positions[0, 0], POINTS[6], atol=0.3)
    assert peaks.correlation[0, 1] > 0.5 * peaks.correlation[0, 0]


def test_points_without_structure_around_them_are_not_valid() -> None:
    valid = ALL.copy()
    valid[:, :110] = False
    moving = (np.where(valid, IMAGE, 0), valid)
    peaks = local_peaks(FIXED, moving, POINTS, half=16, radius=6)
    inside = POINTS[:, 0] > 126
    assert peaks.valid[inside, 0].all()
    assert not peaks.valid[POINTS[:, 0] < 90].any()
    assert not peaks.correlation[~np.isfinite(peaks.positions[..., 0])].any()


def test_points_at_the_image_border_are_searched_as_far_as_there_is_image() -> None:
    corner = np.array([[8.0, 6.0], [190.0, 150.0]])
    peaks = local_peaks(FIXED, (shifted(2, 1), ALL), corner, half=20, radius=6, k=1)
    assert np.abs(peaks.positions[:, 0] - corner - [2, 1]).max() < 1


def test_no_points_give_no_peaks() -> None:
    peaks = local_peaks(FIXED, FIXED, np.empty((0, 2)))
    assert peaks.positions.shape == (0, 3, 2)
    assert peaks.valid.shape == peaks.correlation.shape == (0, 3)


def test_more_peaks_than_shifts_leave_the_rest_invalid() -> None:
    peaks = local_peaks(FIXED, FIXED, POINTS[:2], half=8, radius=1, k=5)
    assert peaks.positions.shape == (2, 5, 2)
    assert peaks.valid.sum() == 2


def test_images_on_two_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="not on one grid"):
        local_peaks(FIXED, (IMAGE[:-1], ALL[:-1]), POINTS)

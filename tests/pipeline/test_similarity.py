"""Similarity of both images before and after a registration."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_pairs import image_pair
from rrl_register.geometry.arrays import Image, Mask, Matrix
from rrl_register.geometry.displacement import Displacement, Transform
from rrl_register.geometry.transforms import similarity
from rrl_register.matching.image_pair import ImagePair
from rrl_register.pipeline.similarity import MAX_SIDE, figures, gradient_magnitude, measure_similarity

SHAPE = (300, 360)
TRUE = similarity(1.03, 4.0, (11.0, -7.0), (180.0, 150.0))


def texture(shape: tuple[int, int] = SHAPE, seed: int = 0) -> Image:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random(shape).astype(np.float32), (0, 0), 2.5)
    return np.asarray(cv2.normalize(noise, None, 0, 1, cv2.NORM_MINMAX), np.float32)


def seen_by(image: Image, matrix: Matrix, shape: tuple[int, int] | None = None) -> Image:
    """The image that ``matrix`` (moving px -> fixed px) brings onto ``image``, in inverted contrast."""
    size = (shape or image.shape)[::-1]
    return np.asarray(1 - cv2.warpPerspective(image, np.linalg.inv(matrix), size, borderMode=cv2.BORDER_REFLECT))


def pair_of(fixed: Image, moving: Image, valid: Mask | None = None, factor: float = 1.0) -> ImagePair:
    return image_pair(fixed, moving, fixed_valid=valid, factors=(factor, factor))


def test_right_transform_raises_both_figures_whatever_the_contrast() -> None:
    fixed = texture()
    found = measure_similarity(pair_of(fixed, seen_by(fixed, TRUE)), Transform(TRUE))
    assert found is not None
    assert found["before"]["nmi"] < 1.05 < 1.3 < found["after"]["nmi"] <= 2
    assert found["before"]["gradient_ssim"] < 0.2 < 0.8 < found["after"]["gradient_ssim"] <= 1


def test_a_prior_that_is_right_changes_nothing() -> None:
    fixed = texture()
    found = measure_similarity(pair_of(fixed, 1 - fixed), Transform(np.eye(3)))
    assert found is not None
    assert found["before"] == found["after"]
    assert found["after"]["nmi"] == pytest.approx(2, abs=0.02)
    assert found["after"]["gradient_ssim"] == pytest.approx(1, abs=1e-3)


def test_the_transform_is_one_of_file_pixels_and_images_are_averaged() -> None:
    shape = (2 * MAX_SIDE, 2 * MAX_SIDE + 64)
    fixed = cv2.GaussianBlur(texture(shape), (0, 0), 3)
    in_pair = similarity(1.0, 0.0, (18.0, 6.0), (0.0, 0.0))
    in_files = similarity(1.0, 0.0, (45.0, 15.0), (0.0, 0.0))
    found = measure_similarity(pair_of(fixed, seen_by(fixed, in_pair), factor=2.5), Transform(in_files))
    assert found is not None
    assert found["after"]["gradient_ssim"] > 0.9 > 0.3 > found["before"]["gradient_ssim"]


def test_a_displacement_is_followed() -> None:
    fixed = texture()
    height, width = fixed.shape
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], float)
    nothing = np.empty((0, 2))
    # 6 px x^2 to the right, in coordinates of the middle, of half the width
    bend = np.array([[0, 0], [0, 0], [0, 0], [6, 0], [0, 0], [0, 0]], float)
    bent = Displacement(2, bend, nothing, nothing, np.array([180.0, 150.0]), 180.0, corners)
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height))
    # moving = fixed image seen at f, with f = m + d(f): iterate
    places = np.column_stack([x.ravel(), y.ravel()])
    at = Transform(np.eye(3), bent).forward(places).astype(np.float32).reshape(height, width, 2)
    moving = cv2.remap(fixed, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    pair = pair_of(fixed, moving)
    with_it, without = (measure_similarity(pair, Transform(np.eye(3), each)) for each in (bent, None))
    assert with_it is not None
    assert without is not None
    assert with_it["after"]["gradient_ssim"] > 0.9
    assert without["after"] == without["before"]
    assert without["after"]["gradient_ssim"] < 0.6


def test_pixels_without_data_do_not_count() -> None:
    fixed, valid = texture(), np.ones(SHAPE, bool)
    valid[:, 200:] = False
    spoilt = np.where(valid, fixed, 17).astype(np.float32)
    transform = Transform(TRUE)
    clean, masked = (
        measure_similarity(pair_of(each, seen_by(fixed, TRUE), valid), transform) for each in (fixed, spoilt)
    )
    assert clean is not None
    assert masked is not None
    assert masked["after"] == pytest.approx(clean["after"], abs=0.03)


def test_both_figures_come_from_the_same_pixels() -> None:
    fixed = texture()
    moving = seen_by(fixed, similarity(1.0, 0.0, (250.0, 0.0), (0.0, 0.0)))
    assert measure_similarity(pair_of(fixed, moving), Transform(similarity(1, 0, (250, 0), (0, 0)))) is not None
    assert measure_similarity(pair_of(fixed, moving), Transform(similarity(1, 0, (5000, 0), (0, 0)))) is None


@pytest.mark.parametrize("shape", [(20, 30), (3, 900), (1, 1)])
def test_images_that_share_too_little_have_no_figures(shape: tuple[int, int]) -> None:
    fixed = texture(shape) if min(shape) > 1 else np.ones(shape, np.float32)
    assert measure_similarity(pair_of(fixed, fixed), Transform(np.eye(3))) is None


def test_a_constant_image_has_no_figures() -> None:
    fixed = texture()
    assert measure_similarity(pair_of(fixed, np.full(SHAPE, 0.5, np.float32)), Transform(np.eye(3))) is None


def test_a_transform_with_its_horizon_in_the_image_is_measured_on_this_side_of_it() -> None:
    fixed = texture()
    tilted = np.array([[1, 0, 0], [0, 1, 0], [-1 / 250, 0, 1]])
    found = measure_similarity(pair_of(fixed, fixed), Transform(tilted))
    assert found is None or all(np.isfinite(list(each.values())).all() for each in found.values())


@settings(max_examples=15, deadline=None)
@given(st.floats(0.2, 5), st.floats(-3, 3), st.booleans())
def test_gain_offset_and_sign_of_an_image_do_not_matter(gain: float, offset: float, inverted: bool) -> None:
    fixed, everywhere = texture((80, 90)), np.ones((80, 90), bool)
    moving = texture((80, 90), seed=1)
    other = ((-gain if inverted else gain) * moving + offset).astype(np.float32)
    assert figures(fixed, other, everywhere) == pytest.approx(figures(fixed, moving, everywhere), abs=0.02)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 3))
def test_figures_stay_in_their_ranges_and_noise_lowers_them(seed: int, noise: float) -> None:
    fixed, everywhere = texture((80, 90), seed), np.ones((80, 90), bool)
    noisy = fixed + noise * np.random.default_rng(seed).normal(size=fixed.shape).astype(np.float32)
    found, ideal = figures(fixed, noisy, everywhere), figures(fixed, fixed, everywhere)
    assert 1 <= found["nmi"] <= ideal["nmi"] == 2
    assert -1 <= found["gradient_ssim"] <= ideal["gradient_ssim"] == 1


def test_gradients_are_scaled_by_what_is_valid() -> None:
    image, valid = texture(), np.ones(SHAPE, bool)
    valid[:, 100:] = False
    steep = image.copy()
    steep[:, 150:] *= 1000
    np.testing.assert_allclose(gradient_magnitude(steep, valid)[:, :99], gradient_magnitude(image, valid)[:, :99])
    assert gradient_magnitude(steep, valid).max() == 1
    assert not gradient_magnitude(np.ones(SHAPE, np.float32), valid).any()


def test_scikit_image_is_imported_only_when_it_is_used() -> None:
    code = "import sys, rrl_register.pipeline.similarity; sys.exit('skimage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrl_register.errors import NotRegisteredError
from rrl_register.geometry.homography import fit_homography
from rrl_register.geometry.transforms import (
    Fit,
    Georeferences,
    centre_of,
    compose,
    corners_of,
    decompose,
    distances,
    fit_affine,
    fit_or_none,
    fit_similarity,
    fit_translation,
    from_complex,
    implausibility,
    invert,
    normalised,
    project,
    reduction_matrix,
    rescale_matrix,
    residuals,
    similarity,
    translation,
)

SHAPE = (400, 600)
POINTS = np.random.default_rng(0).uniform([0, 0], [599, 399], (40, 2))

scales = st.floats(0.4, 2.5)
angles = st.floats(-179, 179)
shifts = st.floats(-300, 300)
small = st.floats(-0.2, 0.2)


@st.composite
def similarities(draw: st.DrawFn) -> np.ndarray:
    return similarity(draw(scales), draw(angles), (draw(shifts), draw(shifts)), centre_of(SHAPE))


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    shear = np.array([[1, draw(small), 0], [draw(small), 1 + draw(small), 0], [0, 0, 1]])
    return draw(similarities()) @ shear


@st.composite
def homographies(draw: st.DrawFn) -> np.ndarray:
    tilt = np.eye(3)
    tilt[2, :2] = draw(st.floats(-3e-4, 3e-4)), draw(st.floats(-3e-4, 3e-4))
    return normalised(draw(affines()) @ tilt)


@given(homographies())
def test_projecting_forth_and_back_returns_to_the_start(matrix: np.ndarray) -> None:
    np.testing.assert_allclose(project(invert(matrix), project(matrix, POINTS)), POINTS, atol=1e-6)


@given(homographies(), homographies())
def test_composition_applies_the_last_argument_first(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(project(compose(a, b), POINTS), project(a, project(b, POINTS)), rtol=1e-6, atol=1e-4)


@given(homographies())
def test_project_agrees_with_opencv(matrix: np.ndarray) -> None:
    expected = cv2.perspectiveTransform(POINTS[None], matrix)[0]
    np.testing.assert_allclose(project(matrix, POINTS), expected, rtol=1e-9, atol=1e-9)


def test_a_point_on_the_horizon_has_no_finite_image_and_an_infinite_residual() -> None:
    matrix = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    assert not np.isfinite(project(matrix, [[100.0, 5.0]])).any()
    assert residuals(matrix, [[100.0, 5.0]], [[1.0, 1.0]])[0] == np.inf


@given(similarities())
@settings(max_examples=50)
def test_every_fit_recovers_a_similarity(matrix: np.ndarray) -> None:
    for fit in (fit_similarity, fit_affine, fit_homography):
        np.testing.assert_allclose(
            project(fit(POINTS, project(matrix, POINTS), None), POINTS), project(matrix, POINTS), atol=1e-5
        )


@given(affines())
@settings(max_examples=50)
def test_richer_fits_recover_an_affine(matrix: np.ndarray) -> None:
    for fit in (fit_affine, fit_homography):
        np.testing.assert_allclose(
            project(fit(POINTS, project(matrix, POINTS), None), POINTS), project(matrix, POINTS), atol=1e-5
        )


@given(homographies())
@settings(max_examples=50)
def test_homography_is_recovered_from_all_points_and_from_four(matrix: np.ndarray) -> None:
    for source in (POINTS, corners_of(SHAPE)):
        fitted = fit_homography(source, project(matrix, source))
        np.testing.assert_allclose(project(fitted, POINTS), project(matrix, POINTS), atol=1e-4)


@given(shifts, shifts)
def test_translation_is_recovered(dx: float, dy: float) -> None:
    np.testing.assert_allclose(fit_translation(POINTS, POINTS + np.array([dx, dy])), translation(dx, dy), atol=1e-9)


@pytest.mark.parametrize("fit", [fit_translation, fit_similarity, fit_affine, fit_homography])
def test_points_of_no_weight_have_no_influence(fit: Fit) -> None:
    fixed = POINTS + np.array([7.0, -3.0])
    fixed[:10] += 500
    weights = np.ones(len(POINTS))
    weights[:10] = 0
    np.testing.assert_allclose(fit(POINTS, fixed, weights), translation(7, -3), atol=1e-6)


@pytest.mark.parametrize("fit", [fit_translation, fit_similarity, fit_affine, fit_homography])
def test_a_weight_of_two_is_a_point_given_twice(fit: Fit) -> None:
    rng = np.random.default_rng(1)
    fixed = project(similarity(1.1, 5), POINTS) + rng.normal(0, 1, POINTS.shape)
    weights = rng.integers(1, 4, len(POINTS))
    repeated = fit(np.repeat(POINTS, weights, 0), np.repeat(fixed, weights, 0), None)
    np.testing.assert_allclose(
        project(fit(POINTS, fixed, weights.astype(float)), POINTS), project(repeated, POINTS), atol=1e-5
    )


@pytest.mark.parametrize("fit", [fit_translation, fit_similarity, fit_affine, fit_homography])
def test_no_neighbouring_transform_fits_noisy_points_better(fit: Fit) -> None:
    """The fits minimise distances in the fixed image; a merely algebraic solution fails this."""
    rng = np.random.default_rng(2)
    tilt = np.array([[1, 0.1, 0], [0, 1, 0], [4e-4, -3e-4, 1]])
    fixed = project(tilt, POINTS) + rng.normal(0, 3, POINTS.shape)
    best = fit(POINTS, fixed, None)
    loss = (residuals(best, POINTS, fixed) ** 2).sum()
    for nudge in (translation(0.05, 0), translation(0, 0.05), translation(-0.05, 0), translation(0, -0.05)):
        assert (residuals(nudge @ best, POINTS, fixed) ** 2).sum() > loss
    if fit is fit_homography:
        for element in ((2, 0), (2, 1), (0, 1), (1, 1)):
            nudged = best.copy()
            nudged[element] *= 1.002
            assert (residuals(nudged, POINTS, fixed) ** 2).sum() > loss


@pytest.mark.parametrize(
    ("fit", "moving"),
    [
        (fit_translation, np.empty((0, 2))),
        (fit_similarity, np.array([[3.0, 4.0]])),
        (fit_similarity, np.array([[3.0, 4.0]] * 5)),
        (fit_affine, np.array([[0.0, 0], [1, 1]])),
        (fit_affine, np.array([[0.0, 0], [100, 100], [200, 200], [350, 350]])),
        (fit_homography, np.array([[0.0, 0], [1, 0], [0, 1]])),
        (fit_homography, np.column_stack([np.arange(10.0), 2 * np.arange(10.0)])),
        (fit_homography, np.array([[0.0, 0], [100, 100], [200, 200], [350, 10]])),
    ],
)
def test_points_that_determine_no_transform_are_refused_by_name(fit: Fit, moving: np.ndarray) -> None:
    with pytest.raises(NotRegisteredError, match=r"tie points.*need.*try") as caught:
        fit(moving, moving + 5.0, None)
    assert "\n" not in str(caught.value)


def test_lists_of_different_length_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="40 moving points, 39 fixed points"):
        fit_affine(POINTS, POINTS[1:])


def test_a_singular_transform_cannot_be_inverted() -> None:
    with pytest.raises(NotRegisteredError, match="singular"):
        invert(np.ones((3, 3)))


@given(scales, angles, shifts, shifts)
def test_decompose_names_what_similarity_was_made_of(scale: float, angle: float, dx: float, dy: float) -> None:
    parts = decompose(similarity(scale, angle, (dx, dy), centre_of(SHAPE)), SHAPE)
    assert parts.scale == pytest.approx(scale)
    assert parts.rotation_deg == pytest.approx(angle, abs=1e-6)
    assert parts.anisotropy == pytest.approx(1)
    assert not parts.mirrored
    assert parts.perspective == pytest.approx(0, abs=1e-9)


def test_rotation_runs_from_x_to_y() -> None:
    np.testing.assert_allclose(project(similarity(rotation_deg=90), [[1.0, 0.0]]), [[0.0, 1.0]], atol=1e-12)


def test_complex_form_agrees_with_similarity() -> None:
    np.testing.assert_allclose(from_complex(2j, 3 + 4j), similarity(2, 90, (3, 4)), atol=1e-12)


@given(homographies())
def test_plausible_transforms_are_sane(matrix: np.ndarray) -> None:
    assert implausibility(matrix, SHAPE) is None


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.diag([-1.0, 1.0, 1.0]), "turns the image over"),
        (similarity(0.2), "scales by 0.2"),
        (similarity(4.0), "scales by 4"),
        (np.diag([3.0, 1.0, 1.0]), "stretches one way 3 times"),
        (translation(300, 200) @ [[1.0, 0, 0], [0, 1, 0], [1e-3, 1e-3, 1]] @ translation(-300, -200), "perspective"),
        (np.array([[1.0, 0, 0], [0, 1, 0], [-2e-3, 0, 1]]), "folds"),
        (np.full((3, 3), np.nan), "not finite"),
        (np.ones((3, 3)), "singular"),
    ],
)
def test_implausible_transforms_are_named(matrix: np.ndarray, reason: str) -> None:
    assert reason in (implausibility(matrix, SHAPE) or "")


@given(homographies(), st.floats(0.5, 4), st.floats(0.5, 4))
def test_a_rescaled_transform_maps_the_same_places(
    matrix: np.ndarray, fixed_factor: float, moving_factor: float
) -> None:
    rescaled = rescale_matrix(matrix, fixed_factor, moving_factor)
    reduced = project(reduction_matrix(moving_factor), POINTS)
    expected = project(reduction_matrix(fixed_factor), project(matrix, POINTS))
    np.testing.assert_allclose(project(rescaled, reduced), expected, atol=1e-5)


@given(st.floats(0.2, 5))
def test_reduction_keeps_the_outer_corner(factor: float) -> None:
    """The corner of the first pixel, not its centre, is what both grids share."""
    np.testing.assert_allclose(project(reduction_matrix(factor), [(-0.5, -0.5)]), [(-0.5, -0.5)], atol=1e-12)
    np.testing.assert_allclose(reduction_matrix(factor) @ reduction_matrix(1 / factor), np.eye(3), atol=1e-12)


@given(homographies(), homographies(), homographies())
@settings(max_examples=30)
def test_composition_is_associative(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """Up to the points that one of them puts near its horizon."""
    one, other = project(compose(compose(a, b), c), POINTS), project(compose(a, compose(b, c)), POINTS)
    near = (np.abs(one) < 1e5).all(axis=1)
    np.testing.assert_allclose(one[near], other[near], rtol=1e-5, atol=1e-3)


@given(homographies())
def test_the_inverse_composes_to_the_identity(matrix: np.ndarray) -> None:
    np.testing.assert_allclose(compose(invert(matrix), matrix), np.eye(3), atol=1e-7)


@given(scales, angles, st.floats(0, 600), st.floats(0, 400))
def test_a_similarity_leaves_its_centre_in_place(scale: float, angle: float, x: float, y: float) -> None:
    np.testing.assert_allclose(project(similarity(scale, angle, centre=(x, y)), [(x, y)]), [(x, y)], atol=1e-9)


@given(homographies(), shifts, shifts)
def test_a_shift_of_the_fixed_image_changes_no_part_of_a_decomposition(
    matrix: np.ndarray, dx: float, dy: float
) -> None:
    before, after = decompose(matrix, SHAPE), decompose(translation(dx, dy) @ matrix, SHAPE)
    assert after.scale == pytest.approx(before.scale, rel=1e-6)
    assert after.anisotropy == pytest.approx(before.anisotropy, rel=1e-5)
    assert after.perspective == pytest.approx(before.perspective, rel=1e-6, abs=1e-9)
    assert after.mirrored == before.mirrored


def test_a_mirror_image_has_a_positive_scale() -> None:
    parts = decompose(np.diag([-2.0, 2.0, 1.0]), SHAPE)
    assert parts.mirrored
    assert parts.scale == pytest.approx(2)
    assert parts.anisotropy == pytest.approx(1)


def test_perspective_compares_the_depths_of_the_corners() -> None:
    tilt = np.eye(3)
    tilt[2, 0] = 0.25 / (SHAPE[1] - 1)
    assert decompose(tilt, SHAPE).perspective == pytest.approx(0.25)
    assert decompose(3 * tilt, SHAPE).perspective == pytest.approx(0.25)


@given(homographies())
def test_a_multiple_of_a_matrix_is_the_same_transform(matrix: np.ndarray) -> None:
    np.testing.assert_allclose(normalised(-7 * matrix), normalised(matrix))
    np.testing.assert_allclose(residuals(-7 * matrix, POINTS, project(matrix, POINTS)), 0, atol=1e-9)


def test_a_matrix_that_cannot_be_normalised_is_kept() -> None:
    swap = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(normalised(swap), swap)


def test_offsets_that_are_nowhere_are_infinitely_long() -> None:
    assert distances(np.array([(3.0, 4.0), (np.nan, 0), (np.inf, 1), (0, 0)])).tolist() == [5, np.inf, np.inf, 0]


def test_corners_and_centre_are_of_pixel_centres() -> None:
    assert corners_of((3, 5)).tolist() == [[0, 0], [4, 0], [4, 2], [0, 2]]
    assert centre_of((3, 5)) == (2, 1)
    np.testing.assert_allclose(corners_of(SHAPE).mean(axis=0), centre_of(SHAPE))


def test_a_fit_that_is_refused_is_none() -> None:
    assert fit_or_none(fit_affine, POINTS[:2], POINTS[:2]) is None
    np.testing.assert_allclose(fit_or_none(fit_affine, POINTS, POINTS), np.eye(3), atol=1e-9)
    with pytest.raises(ValueError, match="not one of each"):
        fit_or_none(fit_affine, POINTS, POINTS[1:])


@given(
    turn=st.floats(-4, 4), scale=st.floats(0.9, 1.1), x=st.sampled_from([-4, -1, 0.5, 2]), y=st.sampled_from([-1, 1, 3])
)
def test_what_georeferences_declare_is_no_part_of_a_transform(turn: float, scale: float, x: float, y: float) -> None:
    """Pixels of the fixed image are rectangular, those of the moving one mirrored and rectangular, too."""
    pixel = np.diag([2.0, -5.0])
    ground = np.diag([2.0, -5.0, 1.0])
    prior = np.linalg.inv(ground) @ np.diag([3.0 * x, 3.0 * y, 1.0])
    true = np.linalg.inv(ground) @ similarity(scale, turn, (40.0, -20.0)) @ ground @ prior
    after = Georeferences(prior, pixel)
    parts = decompose(true, SHAPE, after)
    assert (parts.mirrored, implausibility(true, SHAPE, after)) == (False, None)
    assert np.allclose([parts.scale, parts.rotation_deg, parts.anisotropy], [scale, turn, 1], atol=1e-6)
    flipped = np.linalg.inv(ground) @ np.diag([-1.0, 1.0, 1.0]) @ ground @ prior
    assert "turns the image over" in (implausibility(flipped, SHAPE, after) or "")

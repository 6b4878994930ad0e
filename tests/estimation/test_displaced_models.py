"""Fitting homographies with a displacement: what they find, and what they refuse to guess."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rrl_register.errors import NotRegisteredError
from rrl_register.estimation.robust_fits import (
    DISPLACED_HOMOGRAPHIES,
    WIDE,
    DisplacedHomography,
    DisplacedModel,
    robust_displaced_homographies,
    robust_fit,
)
from rrl_register.geometry.displacement import Displacement, Transform
from rrl_register.geometry.homography import fit_homography
from rrl_register.geometry.transforms import invert, project, residuals

SIDE = 512
TRUE = np.array([[1.02, 0.05, -8], [-0.04, 0.97, 12], [5e-5, -4e-5, 1]])
LATTICE = np.stack(np.meshgrid(np.linspace(10, SIDE - 10, 12), np.linspace(10, SIDE - 10, 12)), -1).reshape(-1, 2)
POLYNOMIAL2, POLYNOMIAL3, *THIN_PLATES = DISPLACED_HOMOGRAPHIES
Field = Callable[[np.ndarray], np.ndarray]


def hills(places: np.ndarray) -> np.ndarray:
    """Terrain of up to 4 px: two hills that lean to the right."""
    x, y = places.T / SIDE
    height = np.exp(-((x - 0.3) ** 2 + (y - 0.4) ** 2) / 0.06) - np.exp(-((x - 0.75) ** 2 + (y - 0.7) ** 2) / 0.08)
    return np.stack([4 * height, 0 * height], axis=1)


def bent(degree: int) -> Field:
    """A polynomial displacement of a few px."""

    def field(places: np.ndarray) -> np.ndarray:
        x, y = (places / SIDE - 0.5).T
        return np.stack([8 * x * y + 4 * x**degree, 6 * y**degree - 5 * x * y ** (degree - 1)], axis=1)

    return field


def tie_points(field: Field, n: int, noise: float = 0.0, wrong: float = 0.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return points (moving, fixed), a share of them up to 12 px off, and a mask of the right ones."""
    rng = np.random.default_rng(seed)
    fixed = rng.uniform(0, SIDE, (n, 2))
    right = rng.random(n) >= wrong
    off = np.where(right[:, None], rng.normal(0, noise, (n, 2)), rng.uniform(-12, 12, (n, 2)))
    return project(invert(TRUE), fixed - field(fixed) + off), fixed, right


def error(transform: Transform, field: Field) -> np.ndarray:
    """Distance (N,) between the transform's way back and the true one, in fixed px."""
    return transform.residuals(project(invert(TRUE), LATTICE - field(LATTICE)), LATTICE)


def robust(
    displaced: DisplacedHomography, moving: np.ndarray, fixed: np.ndarray
) -> tuple[Transform, np.ndarray] | None:
    start = robust_fit(moving, fixed, WIDE * 3)
    assert start is not None
    return robust_displaced_homographies([displaced], moving, fixed, start.matrix, 3.0, np.ones(len(moving))).get(
        displaced
    )


@pytest.mark.parametrize(("displaced", "degree"), [(POLYNOMIAL2, 2), (POLYNOMIAL3, 2), (POLYNOMIAL3, 3)])
def test_a_polynomial_is_found(displaced: DisplacedHomography, degree: int) -> None:
    moving, fixed, _ = tie_points(bent(degree), 200)
    found = displaced.fit(moving, fixed)
    assert residuals(fit_homography(moving, fixed), moving, fixed).max() > 0.5
    assert np.median(error(found, bent(degree))) < 0.01  # the homography bends it by a little more than a polynomial


@pytest.mark.parametrize("displaced", DISPLACED_HOMOGRAPHIES)
def test_the_matrix_is_the_best_homography(displaced: DisplacedHomography) -> None:
    moving, fixed, _ = tie_points(hills, 200, 0.5)
    weights = np.random.default_rng(0).uniform(0, 1, 200)
    found = displaced.fit(moving, fixed, weights)
    np.testing.assert_array_equal(found.matrix, fit_homography(moving, fixed, weights))


def test_softer_plates_come_closer_to_the_points_and_bend_more() -> None:
    moving, fixed, _ = tie_points(hills, 300, 0.5)
    fits = [plate.fit(moving, fixed) for plate in THIN_PLATES]
    misses = [np.mean(fit.residuals(moving, fixed) ** 2) for fit in fits]
    largest_gradient = [fit.displacement.largest_gradient() for fit in fits if fit.displacement]
    assert misses == sorted(misses, reverse=True)
    assert largest_gradient == sorted(largest_gradient)


def test_terrain_is_found_among_outliers() -> None:
    moving, fixed, right = tie_points(hills, 400, 0.5, 0.2)
    found = robust(THIN_PLATES[1], moving, fixed)
    assert found is not None
    transform, inliers = found
    assert error(transform, hills).mean() < 0.35
    assert error(Transform(transform.matrix), hills).mean() > 2 * error(transform, hills).mean()
    assert inliers[right].mean() > 0.98
    assert inliers[~right].mean() < 0.25


def test_points_without_weight_count_for_nothing() -> None:
    moving, fixed, right = tie_points(hills, 200, 0.3, 0.3)
    one = THIN_PLATES[0].fit(moving, fixed, right.astype(float))
    other = THIN_PLATES[0].fit(moving[right], fixed[right])
    np.testing.assert_allclose(error(one, hills), error(other, hills), atol=1e-6)


@pytest.mark.parametrize("displaced", DISPLACED_HOMOGRAPHIES)
def test_too_few_inliers_are_refused(displaced: DisplacedHomography) -> None:
    moving, fixed, _ = tie_points(bent(2), displaced.min_points - 1)
    assert robust(displaced, moving, fixed) is None
    moving, fixed, _ = tie_points(bent(2), displaced.min_points + 20)
    assert robust(displaced, moving, fixed) is not None


@pytest.mark.parametrize("displaced", DISPLACED_HOMOGRAPHIES)
def test_inliers_in_three_corners_are_too_badly_spread(displaced: DisplacedHomography) -> None:
    moving, fixed, _ = tie_points(bent(2), 3000)
    corners = np.array([(0, 0), (SIDE, 0), (0, SIDE)])
    near = np.linalg.norm(fixed[:, None] - corners, axis=2).min(axis=1) < 60
    assert near.sum() > 60
    assert robust(displaced, moving[near], fixed[near]) is None


@pytest.mark.parametrize("displaced", DISPLACED_HOMOGRAPHIES)
def test_points_on_a_line_determine_nothing(displaced: DisplacedHomography) -> None:
    line = np.column_stack([np.arange(80.0), 2 * np.arange(80.0)])
    with pytest.raises(NotRegisteredError):
        displaced.fit(line, line)


def test_a_plate_needs_several_knots() -> None:
    corners = np.array([(0.0, 0.0), (300.0, 0.0), (0.0, 300.0)])
    close = np.concatenate([corners, corners + 1, corners + 2])
    with pytest.raises(NotRegisteredError, match="cells of the scene"):
        THIN_PLATES[0].fit(close, close)


def test_what_would_fold_the_image_is_refused() -> None:
    def fold(places: np.ndarray) -> np.ndarray:
        return np.stack([12 * np.sin(places[:, 0] / 20), 0 * places[:, 0]], axis=1)

    moving, fixed, _ = tie_points(fold, 3000)
    soft = DisplacedHomography(DisplacedModel.THIN_PLATE, 1, 1e-9, 60)
    start = np.asarray(TRUE)
    assert not robust_displaced_homographies([soft], moving, fixed, start, 20.0, np.ones(3000))


def test_repeated_fits_agree_to_the_last_bit() -> None:
    moving, fixed, _ = tie_points(hills, 100, 0.5)
    first, second = (THIN_PLATES[2].fit(moving, fixed).displacement for _ in range(2))
    assert isinstance(first, Displacement) and isinstance(second, Displacement)
    assert first.to_json() == second.to_json()

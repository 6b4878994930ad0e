"""Initial transforms from a few points, and refusals of points that mislead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_pairs import image_pair
from rrl_register.errors import InputError
from rrl_register.estimation.manual_start import initial_transform, require_inside
from rrl_register.geometry.transforms import compose, corners_of, project, similarity
from rrl_register.matching.image_pair import ImagePair
from rrl_register.pipeline.register import start_from_points

SHAPE = (300, 400)
TURNED = similarity(1.2, 35, (20, -30), (200, 150))
SHEARED = compose(TURNED, [[1, 0.1, 0], [0, 1.05, 0], [0, 0, 1]])
TILTED = compose([[1, 0, 0], [0, 1, 0], [3e-4, -2e-4, 1]], SHEARED)
SPREAD = np.array([(40.0, 40), (360, 60), (330, 270), (50, 250), (200, 150)])
CLOSE = np.array([(150.0, 100), (220, 110), (210, 170), (160, 160)])


def estimated(true: np.ndarray, moving: np.ndarray) -> np.ndarray:
    return initial_transform(moving, project(true, moving), SHAPE, SHAPE)


def is_same(found: np.ndarray, true: np.ndarray) -> bool:
    return np.allclose(project(found, corners_of(SHAPE)), project(true, corners_of(SHAPE)), atol=1e-3)


@pytest.mark.parametrize(
    ("n", "true"), [(2, TURNED), (3, SHEARED), (4, TILTED), (5, TILTED)], ids=["two", "three", "four", "five"]
)
def test_more_points_make_a_richer_transform(n: int, true: np.ndarray) -> None:
    assert is_same(estimated(true, SPREAD[:n]), true)


@given(
    scale=st.floats(0.4, 3),
    angle=st.floats(-180, 180),
    x=st.floats(-200, 200),
    y=st.floats(-200, 200),
    n=st.integers(2, 5),
)
def test_similarities_are_found_from_any_number(scale: float, angle: float, x: float, y: float, n: int) -> None:
    true = similarity(scale, angle, (x, y))
    assert is_same(estimated(true, SPREAD[:n]), true)


def test_four_points_close_together_make_an_affine() -> None:
    """A homography would be exact on them, and anything elsewhere."""
    fixed = project(SHEARED, CLOSE) + np.array([(1.0, 0), (0, 1), (-1, 0), (0, -1)])
    assert np.allclose(initial_transform(CLOSE, fixed, SHAPE, SHAPE)[2], [0, 0, 1])


def test_three_of_four_on_one_line_make_an_affine() -> None:
    moving = np.array([(20.0, 20), (200, 20), (380, 20), (200, 280)])
    assert is_same(estimated(SHEARED, moving), SHEARED)


@pytest.mark.parametrize(
    ("moving", "message"),
    [
        (SPREAD[:0], "0 points are enabled; needed 2"),
        (SPREAD[:1], "1 points are enabled; needed 2"),
        (SPREAD[[0, 0]], "within 0.0 px of each other"),
        (SPREAD[0] + np.array([(0.0, 0), (5, 0), (0, 5)]), "needed 20 px"),
        (np.linspace((10, 20), (390, 280), 4), "4 points lie almost on one line in the fixed image"),
        (np.array([(10.0, 20), (200, 153), (390, 280)]), "almost on one line"),
    ],
    ids=["none", "one", "twice the same", "one place", "a line", "nearly a line"],
)
def test_points_that_determine_nothing_are_refused(moving: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimated(TURNED, moving)


def test_a_point_that_contradicts_the_others_is_named() -> None:
    fixed = project(TURNED, SPREAD)
    fixed[1] += 150
    with pytest.raises(InputError, match=r"enabled point 2 has a residual of .* px"):
        initial_transform(np.vstack([SPREAD, CLOSE]), np.vstack([fixed, project(TURNED, CLOSE)]), SHAPE, SHAPE)


def test_images_in_the_wrong_order_of_their_points_are_no_transform() -> None:
    with pytest.raises(InputError, match="by the points the transform turns the image over"):
        initial_transform(SPREAD[:3], SPREAD[[1, 0, 2]] * [1, 1], SHAPE, SHAPE)


@pytest.mark.parametrize("place", [(-2.0, 5.0), (5.0, 301.0), (np.nan, 5.0)])
def test_points_outside_are_reported_with_their_place(place: tuple[float, float]) -> None:
    require_inside("moving", SPREAD, SHAPE)
    with pytest.raises(InputError, match=r"enabled point 6 lies at .* px of the moving image, which has 400 x 300 px"):
        require_inside("moving", np.vstack([SPREAD, [place]]), SHAPE)


@pytest.fixture
def reduced_pair() -> ImagePair:
    """Files of 400 x 300 and 800 x 600 px, seen at 200 x 150 px."""
    image = np.zeros((150, 200), np.float32)
    return image_pair(image, image, factors=(2.0, 4.0))


def points_file(folder: Path, fixed: np.ndarray, moving: np.ndarray) -> Path:
    path = folder / "mine.csv"
    rows = [",".join(map(str, row)) for row in np.column_stack([fixed, moving])]
    path.write_text("\n".join(["fixed_x,fixed_y,moving_x,moving_y", *rows]))
    return path


def test_a_file_makes_an_initial_transform_in_reduced_pixels(tmp_path: Path, reduced_pair: ImagePair) -> None:
    true = similarity(0.8, 5, (15, 3))
    moving = SPREAD / 2
    files = points_file(tmp_path, project(true, moving) * 2 + 0.5, moving * 4 + 1.5)
    found = start_from_points(files, reduced_pair)
    np.testing.assert_allclose(project(found, moving), project(true, moving), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda points: points[:1], "Cannot start from the points of .*mine.csv: 1 points"),
        (lambda points: points + 200, "Cannot start from the points of .*mine.csv: enabled point 2 lies at"),
    ],
    ids=["too few", "outside"],
)
def test_the_file_is_named(
    tmp_path: Path, reduced_pair: ImagePair, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        start_from_points(points_file(tmp_path, change(SPREAD), change(SPREAD)), reduced_pair)

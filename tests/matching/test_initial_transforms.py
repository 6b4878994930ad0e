"""Initial transforms, in the pixels of the resolution that suits their scale."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

from image_pairs import image_pair
from rrl_register.config import MatchConfig
from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.transforms import centre_of, compose, corners_of, decompose, invert, project, similarity
from rrl_register.matching.image_pair import ImagePair
from rrl_register.matching.initial_transforms import InitialTransform, initial_transforms
from rrl_register.raster.grid import Grid

SHAPE = (300, 400)


@dataclass(frozen=True)
class PlainScene:
    """A scene of which only the pair and the settings are asked."""

    pair: ImagePair
    config: MatchConfig

    def at_scale(self, scale: float) -> PlainScene:
        return replace(self, pair=self.pair.at_scale(scale))


def landscape() -> np.ndarray:
    rng = np.random.default_rng(11)
    image = np.full(SHAPE, 0.5, np.float32)
    for _ in range(150):
        place = rng.uniform(0, SHAPE[::-1], 2) + rng.normal(0, 25, (4, 2))
        cv2.fillConvexPoly(image, cv2.convexHull(place.astype(np.int32)), float(rng.uniform(0, 1)))
    return cv2.GaussianBlur(image, (0, 0), 1.0)


FIXED = landscape()


def scene_of(truth: Matrix, prior: Matrix, grid: Grid, **settings: str) -> PlainScene:
    moving = cv2.warpPerspective(1 - FIXED, invert(truth), SHAPE[::-1])
    valid = cv2.warpPerspective(np.ones(SHAPE, np.float32), invert(truth), SHAPE[::-1]) > 0.99
    pair = image_pair(FIXED, moving, prior, moving_valid=valid, grids=(grid, grid))
    return PlainScene(pair, MatchConfig(**settings))


def error(start: InitialTransform, truth: Matrix) -> float:
    """Mean distance of the moving corners from where they belong, px of the fixed file."""
    matrix = start.context.pair.frames.to_files(Transform(start.matrix)).matrix
    corners = corners_of(SHAPE)
    return float(np.linalg.norm(project(matrix, corners) - project(truth, corners), axis=1).mean())


def started(scene: PlainScene, max_shift: float) -> Iterator[InitialTransform]:
    return initial_transforms(scene, max_shift, None, lambda _: nullcontext())  # type: ignore[arg-type]


PLAIN = Grid(400, 300)


def test_a_given_transform_is_the_only_start() -> None:
    scene, given = scene_of(np.eye(3), np.eye(3), PLAIN), similarity(1.1, 25, (12, 8), centre_of(SHAPE))
    (start,) = initial_transforms(scene, 10, given, lambda _: nullcontext())  # type: ignore[arg-type]
    assert error(start, given) < 1e-9


@pytest.mark.parametrize(
    ("rotation", "scale", "shift"), [(10, 1.1, (30, -20)), (140, 1.0, (60, 40)), (-75, 1.7, (20, 10))]
)
def test_some_start_is_near_the_truth_without_any_prior(
    rotation: float, scale: float, shift: tuple[float, float]
) -> None:
    truth = similarity(scale, rotation, shift, centre_of(SHAPE))
    scene = scene_of(truth, np.eye(3), PLAIN)
    starts = started(scene, SHAPE[1] / 2)
    assert any(error(start, truth) < 8 for start in starts)


def test_only_rotations_near_a_stated_one_are_searched() -> None:
    truth = similarity(1.0, 90, (20, 0), centre_of(SHAPE))
    scene = scene_of(truth, np.eye(3), PLAIN, rotation="85", scale="none")
    starts = list(started(scene, SHAPE[1] / 2))
    assert error(starts[0], truth) < 8
    turns = [decompose(start.matrix, SHAPE).rotation_deg for start in starts]
    assert all(70 < turn < 100 for turn in turns)


def test_georeferences_are_the_start_of_the_search() -> None:
    """The moving image lies turned by 30 degrees by its georeference, which is off by a few px."""
    grid = Grid.from_dict({"width": 400, "height": 300, "crs": "EPSG:32631", "transform": [10, 0, 5e5, 0, -10, 5e6]})
    prior = similarity(1.0, 30, (15, 10), centre_of(SHAPE))
    truth = compose(similarity(1.01, 1.5, (12, -9), centre_of(SHAPE)), prior)
    scene = scene_of(truth, prior, grid)
    assert error(next(started(scene, 100)), truth) < 5


def test_the_prior_itself_is_taken_to_its_scale() -> None:
    prior = similarity(1.9, 0, (-150, -100))
    scene = scene_of(prior, prior, Grid(400, 300))
    start = InitialTransform.of(scene, scene.pair.prior, 60)  # type: ignore[arg-type]
    assert start.context.pair.fixed.factor > 1
    assert start.radius == pytest.approx(60 / start.context.pair.fixed.factor)
    assert error(start, prior) < 1e-6

"""Hard cases in memory, made from a pair of images and a seed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

import cv2
import numpy as np
from numpy.typing import NDArray

from case_maker.damage import WHITE
from case_maker.difficulties import DIFFICULTIES, NEGATIVE, Difficulty
from case_maker.misregistration import (
    Frame,
    Relief,
    draw_overlapping,
    draw_relief,
    landmarks,
    pixels,
    plan_frame,
    to_fixed,
)
from case_maker.sources import ScenePixels, SourcePair, read_pixels
from rrl_register.geometry.arrays import Matrix, Points
from rrl_register.geometry.transforms import decompose, project

_SOURCE_BLUR = 0.5
"""Standard deviation equivalent to a pixel's area, px."""


@dataclass(frozen=True)
class Plan:
    """Plan of one case.

    Attributes:
        name: Name of the case.
        suite: Its difficulty.
        scene: Source of the fixed image.
        partner: Source of the moving image: the same scene, except for negatives.
        seed: Random seed.
    """

    name: str
    suite: str
    scene: SourcePair
    partner: SourcePair
    seed: int

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of its scenes."""
        return tuple(dict.fromkeys((self.scene.name, self.partner.name)))


@dataclass(frozen=True)
class HardCase:
    """A case in memory.

    Attributes:
        fixed, moving: (B, H, W) uint8.
        matrix: (3, 3), moving px -> fixed px, without the relief; None for negatives.
        landmarks_fixed, landmarks_moving: (N, 2) px, with the relief; None for negatives.
    """

    fixed: NDArray[np.uint8]
    moving: NDArray[np.uint8]
    matrix: Matrix | None
    landmarks_fixed: Points | None
    landmarks_moving: Points | None


def plan_cases(
    scenes: Sequence[SourcePair], per_suite: int, seed: int, suites: Sequence[str] = tuple(DIFFICULTIES)
) -> list[Plan]:
    """Choose scenes for each suite, alternating between families; the result depends on the seed only.

    More cases of a suite begin with the same ones. A suite without suitable scenes has no cases.
    """
    plans = []
    for suite in suites:
        rng = np.random.default_rng((seed, zlib.crc32(suite.encode())))
        usable = [scene for scene in scenes if _suits(scene, DIFFICULTIES[suite])]
        if suite == NEGATIVE:
            usable = [scene for scene in usable if len(_of_family(usable, scene.family)) > 1]
        for number, scene in enumerate(islice(_families_in_turn(usable, rng), per_suite)):
            partner = scene if suite != NEGATIVE else _other_place(scene, _of_family(usable, scene.family), rng)
            plans.append(Plan(f"{suite}-{number:03d}", suite, scene, partner, int(rng.integers(2**31))))
    return plans


def make_case(plan: Plan) -> HardCase:
    """Read the images of a plan, misregister and damage them.

    Raises:
        InputError: An image cannot be read.
    """
    return spoil(read_pixels(plan.scene.visible), read_pixels(plan.partner.other), plan.suite, plan.seed)


def spoil(visible: ScenePixels, other: ScenePixels, suite: str, seed: int) -> HardCase:
    """Make a hard case of two images.

    Args:
        visible: Becomes the fixed image.
        other: Becomes the moving image; on one grid with ``visible``, or of another place for negatives, which are cut
            to the size of the smaller.
        suite: Its difficulty.
        seed: Random seed.
    """
    rng, difficulty = np.random.default_rng(seed), DIFFICULTIES[suite]
    height, width = (min(a, b) for a, b in zip(visible.valid.shape, other.valid.shape, strict=True))
    visible, other = _cut(visible, height, width), _cut(other, height, width)
    frame = plan_frame((height, width), draw_overlapping(difficulty.draw, rng, (height, width)), rng)
    relief = draw_relief(rng, frame.shape) if difficulty.relief else None
    fixed, moving = render_fixed(visible, frame), render_moving(other, frame, relief)
    images = (
        _damaged(fixed, difficulty.damage_fixed(fixed.values, rng)),
        _damaged(moving, difficulty.damage_moving(moving.values, rng)),
    )
    if suite == NEGATIVE:
        return HardCase(*images, None, None, None)
    return HardCase(*images, frame.matrix, *landmarks(frame.matrix, frame.shape, relief))


def render_fixed(image: ScenePixels, frame: Frame) -> ScenePixels:
    """Resample the fixed image of a frame."""
    return sample(image, project(frame.to_source, pixels(frame.shape)), frame.shape, float(frame.to_source[0, 0]))


def render_moving(image: ScenePixels, frame: Frame, relief: Relief | None = None) -> ScenePixels:
    """Resample the moving image of a frame, through the misregistration and the relief."""
    places = project(frame.to_source, to_fixed(pixels(frame.shape), frame.matrix, relief))
    step = float(frame.to_source[0, 0]) * decompose(frame.matrix, frame.shape).scale
    return sample(image, places, frame.shape, step)


def sample(image: ScenePixels, places: Points, shape: tuple[int, int], step: float) -> ScenePixels:
    """Interpolate an image at places, after a blur that matches the size of the new pixels.

    Args:
        image: The source.
        places: (H * W, 2) px of the source, row by row.
        shape: (H, W) of the result.
        step: Source px per px of the result.

    Returns:
        The image, 0 where the source holds no data.
    """
    x, y = (places[:, axis].reshape(shape).astype(np.float32) for axis in (0, 1))
    bands = [_looked_up(_reduced_detail(band, step), x, y) for band in image.values]
    known = cv2.remap(image.valid.astype(np.uint8), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT) > 0
    return ScenePixels(np.where(known, np.stack(bands), 0).astype(np.float32), np.asarray(known))


def _reduced_detail(band: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    sigma = _SOURCE_BLUR * np.sqrt(max(0.0, step**2 - 1))
    return np.asarray(cv2.GaussianBlur(band, (0, 0), sigma), np.float32) if sigma > 0.1 else band


def _looked_up(band: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.remap(band, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _damaged(before: ScenePixels, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert to bytes, 0 where there was no data before."""
    return np.where(before.valid, np.clip(np.rint(values), 0, WHITE), 0).astype(np.uint8)


def _cut(image: ScenePixels, height: int, width: int) -> ScenePixels:
    return ScenePixels(image.values[:, :height, :width], image.valid[:height, :width])


def _suits(scene: SourcePair, difficulty: Difficulty) -> bool:
    return scene.side >= difficulty.least_side and scene.family not in difficulty.not_families


def _of_family(scenes: Sequence[SourcePair], family: str) -> list[SourcePair]:
    return [scene for scene in scenes if scene.family == family]


def _families_in_turn(scenes: Sequence[SourcePair], rng: np.random.Generator) -> Iterator[SourcePair]:
    """Yield one scene of each family in turn, without end; those of a family in random order."""
    families = [_of_family(scenes, family) for family in dict.fromkeys(scene.family for scene in scenes)]
    shuffled = [[family[i] for i in rng.permutation(len(family))] for family in families]
    for turn in count() if shuffled else ():
        for family in shuffled:
            yield family[turn % len(family)]


def _other_place(scene: SourcePair, family: Sequence[SourcePair], rng: np.random.Generator) -> SourcePair:
    """Choose another scene: in half of the cases the next one of the list, because neighbours look most alike."""
    others = [other for other in family if other.name != scene.name]
    following = family.index(scene) % len(others)
    return others[following if rng.random() < 0.5 else int(rng.integers(len(others)))]

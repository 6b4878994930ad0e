"""Geometry of hard cases: random misregistrations, frames cut out of a pair, and landmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.geometry.arrays import Matrix, Points
from rrl_register.geometry.transforms import centre_of, compose, corners_of, project, similarity, translation

MIN_OVERLAP = 0.4
"""Overlap of both images over the smaller one's footprint."""
LEAST_SIDE, MOST_SIDE = 400, 640
"""Longer side of the images, px: enough for matching, and fast."""
FINEST_STEP = 0.7
"""Source px per px of the finer image: a finer one would only be blurred."""
MAX_GEOREFERENCE_ERROR_PX = 100.0
_LATTICE = 12
"""Landmarks per side, before those outside of the fixed image are dropped."""
_WAVES = 3


@dataclass(frozen=True)
class Misregistration:
    """Position of the moving image relative to the fixed one, for any size.

    Attributes:
        scale: Fixed px per moving px.
        rotation_deg: About the centre.
        shift: (x, y), in longer sides of the image.
        tilt: Perspective: change of the projective depth over one longer side, along x and y.
    """

    scale: float = 1.0
    rotation_deg: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    tilt: tuple[float, float] = (0.0, 0.0)

    def matrix(self, shape: tuple[int, int]) -> Matrix:
        """Return the matrix (3, 3), moving px -> fixed px, for two images of ``shape`` (H, W)."""
        side, (x, y) = max(shape), centre_of(shape)
        turned = similarity(self.scale, self.rotation_deg, (self.shift[0] * side, self.shift[1] * side), (x, y))
        tilted = np.eye(3)
        tilted[2, :2] = np.array(self.tilt) / side
        return compose(turned, translation(x, y), tilted, translation(-x, -y))


Draw = Callable[[np.random.Generator], Misregistration]


def modest(rng: np.random.Generator) -> Misregistration:
    """Draw up to 10 degrees, 10 %, a tenth of the side, and a slight perspective."""
    return Misregistration(
        scale=float(np.exp(rng.uniform(-0.1, 0.1))),
        rotation_deg=float(rng.uniform(-10, 10)),
        shift=_pair(rng, 0.1),
        tilt=_pair(rng, 0.05),
    )


def shifted(rng: np.random.Generator) -> Misregistration:
    """Draw a shift of a quarter to half of the side one way, up to half the other way; up to 3 degrees."""
    far, other = rng.uniform(0.25, 0.5) * rng.choice([-1, 1]), rng.uniform(-0.5, 0.5)
    shift = (far, other) if rng.random() < 0.5 else (other, far)
    return Misregistration(rotation_deg=float(rng.uniform(-3, 3)), shift=(float(shift[0]), float(shift[1])))


def scaled(rng: np.random.Generator) -> Misregistration:
    """Draw a scale of 0.5 to 2, otherwise ``modest``."""
    others = modest(rng)
    return Misregistration(float(2 ** rng.uniform(-1, 1)), others.rotation_deg, others.shift, others.tilt)


def turned(rng: np.random.Generator) -> Misregistration:
    """Draw any rotation, otherwise ``modest``."""
    others = modest(rng)
    return Misregistration(others.scale, float(rng.uniform(-180, 180)), others.shift, others.tilt)


def tilted(rng: np.random.Generator) -> Misregistration:
    """Draw a strong perspective, otherwise ``modest``: the depth changes by 15 to 30 % over the image."""
    others, direction = modest(rng), rng.uniform(0, 2 * np.pi)
    tilt = rng.uniform(0.15, 0.3) * np.array([np.cos(direction), np.sin(direction)])
    return Misregistration(others.scale, others.rotation_deg, others.shift, (float(tilt[0]), float(tilt[1])))


def combined(rng: np.random.Generator) -> Misregistration:
    """Draw a scale of 0.6 to 1.7, any rotation, a shift of up to 0.15 of the side and a slight perspective."""
    scale = float(np.exp(rng.uniform(np.log(0.6), np.log(1.7))))
    return Misregistration(scale, float(rng.uniform(-180, 180)), _pair(rng, 0.15), _pair(rng, 0.05))


def georeferenced_wrongly(rng: np.random.Generator) -> Misregistration:
    """Draw a shift of 40 to 100 px for ``MOST_SIDE``, in proportion for smaller images; up to 3 degrees and 3 %."""
    direction, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1) * MAX_GEOREFERENCE_ERROR_PX / MOST_SIDE
    return Misregistration(
        scale=float(np.exp(rng.uniform(-0.03, 0.03))),
        rotation_deg=float(rng.uniform(-3, 3)),
        shift=(float(length * np.cos(direction)), float(length * np.sin(direction))),
    )


def draw_overlapping(draw: Draw, rng: np.random.Generator, shape: tuple[int, int]) -> Misregistration:
    """Draw until images of ``shape`` (H, W) overlap by ``MIN_OVERLAP``."""
    while True:
        drawn = draw(rng)
        if overlap(drawn.matrix(shape), shape) >= MIN_OVERLAP:
            return drawn


def overlap(matrix: Matrix, shape: tuple[int, int]) -> float:
    """Compute the overlap of two images of ``shape`` (H, W) over the smaller footprint, 0-1."""
    fixed = corners_of(shape).astype(np.float32)
    moving = project(matrix, corners_of(shape)).astype(np.float32)
    shared, _ = cv2.intersectConvexConvex(fixed, moving)
    return float(shared) / min(cv2.contourArea(fixed), cv2.contourArea(moving))


@dataclass(frozen=True)
class Frame:
    """Position of both images of a case on the pixel grid of a pair.

    Attributes:
        shape: (H, W) of both.
        matrix: (3, 3), moving px -> fixed px.
        to_source: (3, 3), fixed px -> px of the pair; a scale and a shift.
    """

    shape: tuple[int, int]
    matrix: Matrix
    to_source: Matrix


def plan_frame(source: tuple[int, int], drawn: Misregistration, rng: np.random.Generator) -> Frame:
    """Place a misregistered case within a pair of images.

    The finer image takes one px per px of the pair, so that nothing is blurred; the size is chosen so that both
    images lie within the pair. Where that would make them smaller than ``LEAST_SIDE``, the finer one is enlarged
    somewhat, and what of the moving image is then still outside of the pair stays without data.

    Args:
        source: (H, W) of the pair.
        drawn: The misregistration.
        rng: Chooses the place.
    """
    longest = max(source)
    coarse = 1 / min(1.0, drawn.scale)
    needed = _extent(drawn.matrix(source), source) * coarse
    side = int(min(max(longest / needed, LEAST_SIDE), MOST_SIDE, longest))
    finest = min(1.0, max(FINEST_STEP, longest / (side * needed)), longest / (side * coarse))
    step = finest * coarse
    shape = (source[0] * side // longest, source[1] * side // longest)
    matrix = drawn.matrix(shape)
    left, top = _place(source, shape, _bounds(matrix, shape), step, rng)
    return Frame(shape, matrix, _source_matrix(step, left, top))


@dataclass(frozen=True)
class Relief:
    """A smooth displacement along one direction, as terrain seen from two sides makes it.

    Attributes:
        direction: (2,) displacement where it is strongest, fixed px.
        waves: (n, 3) sines that add up to the relief: radians per fixed px along x and y, and phase.
    """

    direction: NDArray[np.float64]
    waves: NDArray[np.float64]

    def at(self, points: Points) -> Points:
        """Compute the displacement (N, 2) of points (N, 2), fixed px."""
        heights = np.sin(points @ self.waves[:, :2].T + self.waves[:, 2]).mean(axis=1)
        return np.asarray(heights[:, None] * self.direction, np.float64)


def draw_relief(rng: np.random.Generator, shape: tuple[int, int]) -> Relief:
    """Draw a relief that displaces by at most 2 to 5 px, in waves of half a side and more."""
    wave = rng.uniform(0.5, 1.5, (_WAVES, 1)) * max(shape)
    angle = rng.uniform(0, 2 * np.pi, (_WAVES, 1))
    waves = np.hstack(
        [2 * np.pi / wave * np.hstack([np.cos(angle), np.sin(angle)]), rng.uniform(0, 2 * np.pi, (_WAVES, 1))]
    )
    heading = rng.uniform(0, 2 * np.pi)
    unscaled = Relief(np.array([np.cos(heading), np.sin(heading)]), waves)
    strongest = np.linalg.norm(unscaled.at(pixels(shape)), axis=1).max()
    return Relief(unscaled.direction * rng.uniform(2, 5) / strongest, waves)


def to_fixed(points: Points, matrix: Matrix, relief: Relief | None) -> Points:
    """Map moving px (N, 2) to fixed px (N, 2) by the matrix and the relief."""
    mapped = project(matrix, points)
    return mapped if relief is None else mapped + relief.at(mapped)


def landmarks(matrix: Matrix, shape: tuple[int, int], relief: Relief | None = None) -> tuple[Points, Points]:
    """Spread landmarks over the overlap; return (N, 2) fixed px and (N, 2) moving px."""
    x, y = (np.linspace(0.04, 0.96, _LATTICE) * (side - 1) for side in shape[::-1])
    moving = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    fixed = to_fixed(moving, matrix, relief)
    seen = np.all((fixed >= 0) & (fixed <= np.array(shape[::-1]) - 1), axis=1)
    return fixed[seen], moving[seen]


def pixels(shape: tuple[int, int]) -> Points:
    """Return the centres (H * W, 2) of all pixels of an image, row by row."""
    rows, columns = np.indices(shape)
    return np.stack([columns, rows], axis=-1).reshape(-1, 2).astype(np.float64)


def _pair(rng: np.random.Generator, most: float) -> tuple[float, float]:
    x, y = rng.uniform(-most, most, 2)
    return float(x), float(y)


def _bounds(matrix: Matrix, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the bounding box of both images: smallest and largest (x, y), (2, 2) fixed px, pixel areas included."""
    corners = np.vstack([corners_of(shape), project(matrix, corners_of(shape))])
    return np.array([corners.min(axis=0) - 0.5, corners.max(axis=0) + 0.5])


def _extent(matrix: Matrix, shape: tuple[int, int]) -> float:
    """Return the larger ratio, of both axes, of the common bounding box to the fixed image."""
    bounds = _bounds(matrix, shape)
    return float(((bounds[1] - bounds[0]) / shape[::-1]).max())


def _place(
    source: tuple[int, int], shape: tuple[int, int], bounds: NDArray[np.float64], step: float, rng: np.random.Generator
) -> tuple[int, int]:
    """Choose the fixed image's left and top edge in the pair, whole px, so that both images fit as far as possible.

    ``bounds``: (2, 2) bounding box of both images, fixed px; ``step``: source px per fixed px.
    """
    sides, size = np.array(source[::-1]), np.array(shape[::-1]) * step
    low, high = -(bounds[0] + 0.5) * step, sides - (bounds[1] + 0.5) * step
    chosen = np.where(low <= high, rng.uniform(np.minimum(low, high), np.maximum(low, high)), (low + high) / 2)
    left, top = np.clip(np.floor(chosen), 0, np.floor(sides - size))
    return int(left), int(top)


def _source_matrix(step: float, left: int, top: int) -> Matrix:
    """Return fixed px -> source px of an image with pixels of ``step`` source px and its edges at left and top."""
    return translation(left - 0.5, top - 0.5) @ np.diag([step, step, 1.0]) @ translation(0.5, 0.5)

"""A landscape that nobody has seen: terrain, land cover, and how high things stand on it, all drawn from one seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial import cKDTree

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Cover(IntEnum):
    """Land cover; fields and roofs have further types of their own."""

    FIELD = 0
    HEDGE = 1
    TRACK = 2
    FOREST = 3
    WATER = 4
    ROAD = 5
    GARDEN = 6
    ROOF = 7


@dataclass(frozen=True)
class Landscape:
    """A square piece of land; every array is (N, N).

    Attributes:
        pixel_m: Side of a pixel, m.
        terrain: Bare ground above a datum, m.
        height: Trees and buildings above the ground, m.
        cover: ``Cover`` of each pixel.
        variety: Random integer that is the same all over one field or one roof; chooses crop, colour, row direction.
        texture: Zero-mean unevenness of the cover, about unit deviation.
    """

    pixel_m: float
    terrain: FloatArray
    height: FloatArray
    cover: IntArray
    variety: IntArray
    texture: FloatArray


def make_landscape(size: int, pixel_m: float, seed: int) -> Landscape:
    """Draw a landscape with fields, hedges, forest, a river, a lake, roads and a town."""
    rng = np.random.default_rng(seed)
    terrain = _terrain(size, rng)
    river, water = _water(size, rng)
    terrain -= 5 * np.exp(-((river / 30) ** 2))
    fields, edge = _fields(size, rng)
    cover = np.full((size, size), int(Cover.FIELD))
    cover[(edge < 1.5) & (fields % 4 == 0)] = Cover.HEDGE
    cover[(edge < 1.5) & (fields % 4 == 1)] = Cover.TRACK
    cover[(_noise(size, 30, rng) + 0.3 * _noise(size, 7, rng) > 1) | ((river < 22) & (_noise(size, 8, rng) > 0.4))] = (
        Cover.FOREST
    )
    cover[water] = Cover.WATER
    town = _Town(size, rng)
    cover[town.inside & ~water] = town.cover[town.inside & ~water]
    cover[_roads(size)] = Cover.ROAD
    variety = np.where(cover == Cover.ROOF, town.variety, fields)
    height = _heights(cover, town.height, rng)
    return Landscape(pixel_m, terrain, height, cover, variety, _noise(size, 1.2, rng))


def _noise(size: int, scale: float, rng: np.random.Generator) -> FloatArray:
    """Draw smooth noise with zero mean and unit deviation; ``scale`` is the size of its blobs, px."""
    noise = gaussian_filter(rng.standard_normal((size, size)), scale, mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std())


def _terrain(size: int, rng: np.random.Generator) -> FloatArray:
    """Draw hills some twenty metres high on a gentle slope, m."""
    y, x = np.indices((size, size)) / size
    return 120 + 12 * x - 6 * y + 9 * _noise(size, 70, rng) + 2 * _noise(size, 25, rng)


def _water(size: int, rng: np.random.Generator) -> tuple[FloatArray, Mask]:
    """Draw a winding river and a lake; return the distance from the river's middle, px, and the mask of water."""
    y, x = np.indices((size, size)) / size
    middle = 0.66 + 0.07 * np.sin(7 * y + 1) + 0.03 * np.sin(17 * y)
    slope = np.gradient(middle[:, 0], 1 / size)[:, None]
    distance = size * np.abs(x - middle) / np.hypot(1, slope)
    lake = np.hypot((x - 0.24) / 0.11, (y - 0.74) / 0.08) < 1 + 0.18 * _noise(size, 22, rng)
    return distance, (distance < 8 + 2 * np.sin(23 * y)) | lake


def _fields(size: int, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """Divide the land into angular parcels; return each one's random number and the distance to the next, px."""
    spacing = 62
    seeds = np.stack(np.meshgrid(*[np.arange(-size, 2 * size, spacing)] * 2), axis=-1).reshape(-1, 2)
    seeds = seeds * (1.0, 0.6) + rng.uniform(-0.33, 0.33, seeds.shape) * spacing
    u, v = _rotated(size, 24)
    # The chessboard metric gives parcels with straight sides in two directions.
    distances, nearest = cKDTree(seeds).query(np.stack([u, v], axis=-1).reshape(-1, 2), k=2, p=np.inf)
    number = rng.integers(0, 1000, len(seeds))
    edge = (distances[:, 1] - distances[:, 0]).reshape(size, size)
    return number[nearest[:, 0]].reshape(size, size), edge


def _roads(size: int) -> Mask:
    """Draw two roads that cross near the town, one of them over the river."""
    y, x = np.indices((size, size)) / size
    across = np.abs(y - (0.36 + 0.10 * np.sin(3.1 * x) - 0.05 * x)) * size < 4
    along = np.abs(x - (0.42 + 0.06 * np.sin(4.5 * y + 2))) * size < 3
    return np.asarray(across | along)


def _heights(cover: IntArray, buildings: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Let trees and buildings stand up from the ground, m."""
    size = len(cover)
    inland = distance_transform_edt(cover == Cover.FOREST)
    trees = np.minimum(13 + 1.8 * _noise(size, 1.5, rng), 5 + 3 * inland)
    height = np.zeros(cover.shape)
    for kind, values in ((Cover.FOREST, trees), (Cover.HEDGE, np.full(cover.shape, 3.5)), (Cover.ROOF, buildings)):
        height[cover == kind] = values[cover == kind]
    return height


def _rotated(size: int, degrees: float) -> tuple[FloatArray, FloatArray]:
    """Coordinates (u, v) of every pixel in a frame turned about the centre, px."""
    y, x = np.indices((size, size)) - size / 2
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cosine * x + sine * y, cosine * y - sine * x


class _Town:
    """Streets at right angles, lots between them, a house or a garden on each; arrays as in ``Landscape``."""

    STREETS = (66, 44)
    """From street to street, px, in both directions."""
    STREET_WIDTH = 5
    LOT = 15

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        y, x = np.indices((size, size)) / size
        radius = np.hypot((x - 0.40) / 0.20, (y - 0.30) / 0.17) + 0.12 * _noise(size, 18, rng)
        u, v = (axis + 4 * size for axis in _rotated(size, -9))
        lot = (u // self.LOT).astype(int), (v // self.LOT).astype(int)
        table = rng.uniform(size=(5, 1 + int(lot[0].max()), 1 + int(lot[1].max())))
        wide, deep, storeys, use, colour = (row[lot] for row in table)
        in_street = ((u % self.STREETS[0]) < self.STREET_WIDTH) | ((v % self.STREETS[1]) < self.STREET_WIDTH)
        off_u, off_v = np.abs(u % self.LOT - self.LOT / 2), np.abs(v % self.LOT - self.LOT / 2)
        roof = (off_u < 3 + 3.5 * wide) & (off_v < 3 + 3.5 * deep) & (use < 0.8) & ~in_street
        self.inside = radius < 1
        self.cover = np.where(in_street, Cover.ROAD, np.where(roof, Cover.ROOF, Cover.GARDEN))
        centre_bonus = np.clip(1.2 - 1.6 * radius, 0, 1)
        self.height = 4 + 4 * storeys + 10 * centre_bonus * storeys
        self.variety = (1000 * colour).astype(np.int64)

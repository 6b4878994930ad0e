"""Initial transform from a file of points, in place of the coarse search."""

from __future__ import annotations

from pathlib import Path

from rrl_register.errors import InputError
from rrl_register.estimation.manual_start import initial_transform, require_inside
from rrl_register.exchange.formats import read_points
from rrl_register.exchange.table import Grids
from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.matching.image_pair import ImagePair


def start_from_points(path: Path, pair: ImagePair) -> Matrix:
    """Fit an initial transform ``(3, 3)``, reduced moving px -> reduced fixed px, to the enabled points of a file.

    Raises:
        InputError: The file cannot be read, or its points determine no transform; see ``initial_transform``.
    """
    given = read_points(path, Grids(pair.fixed.grid, pair.moving.grid)).enabled
    try:
        points = reduced_points(given, pair)
        return initial_transform(points.moving, points.fixed, pair.moving.shape, pair.fixed.shape)
    except InputError as error:
        raise InputError(f"Cannot start from the points of {path}: {error}") from error


def reduced_points(points: TiePoints, pair: ImagePair) -> TiePoints:
    """Convert points of the files to pixels of the reduced images.

    Raises:
        InputError: One lies outside its image.
    """
    require_inside("fixed", points.fixed, pair.fixed.grid.shape)
    require_inside("moving", points.moving, pair.moving.grid.shape)
    frames = pair.frames
    return TiePoints(frames.fixed.from_file(points.fixed), frames.moving.from_file(points.moving), points.score)

"""Pairs for matching, built from arrays."""

from __future__ import annotations

import numpy as np

from rrl_register.config import Kind
from rrl_register.geometry.arrays import Image, Mask, Matrix
from rrl_register.geometry.window import Frame
from rrl_register.matching.image_pair import ImagePair, MatchingImage
from rrl_register.raster.grid import Grid


def matching_image(
    values: Image, valid: Mask | None = None, kind: Kind = Kind.OPTICAL, factor: float = 1.0, grid: Grid | None = None
) -> MatchingImage:
    """Build an image; without a grid it is one that was reduced by ``factor`` and has no georeference."""
    height, width = values.shape
    known = grid or Grid(round(factor * width), round(factor * height))
    return MatchingImage(values, np.ones(values.shape, bool) if valid is None else valid, kind, known, Frame(factor))


def image_pair(
    fixed: Image,
    moving: Image,
    prior: Matrix | None = None,
    *,
    fixed_valid: Mask | None = None,
    moving_valid: Mask | None = None,
    factors: tuple[float, float] = (1.0, 1.0),
    kinds: tuple[Kind, Kind] = (Kind.OPTICAL, Kind.IR),
    grids: tuple[Grid | None, Grid | None] = (None, None),
) -> ImagePair:
    """Build a pair; without a prior, the images lie on each other."""
    return ImagePair(
        matching_image(fixed, fixed_valid, kinds[0], factors[0], grids[0]),
        matching_image(moving, moving_valid, kinds[1], factors[1], grids[1]),
        np.eye(3) if prior is None else prior,
    )

"""Initial transforms of the search: hypotheses of the coarse search, or a transform that the user gives."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.transforms import compose, decompose, rescale_matrix
from rrl_register.matching.coarse import coarse_hypotheses
from rrl_register.matching.coarse_scan import SearchGrid
from rrl_register.matching.image_pair import MatchingContext
from rrl_register.matching.search_config import SEARCH, StageTimer

logger = logging.getLogger(__name__)

_UPRIGHT_DEG, _UPRIGHT_SCALES = 20.0, (0.8, 1.25)
"""Rotations and scales of images taken side by side."""
_PRIOR_DEG, _PRIOR_SCALES = 4.0, (0.95, 1.05)
"""Errors of georeferences, and of a rotation or scale that is stated to be none."""
_ANY_SCALE = (0.5, 2.0)
_GIVEN_DEG, _GIVEN_SCALE = 10.0, 1.15
"""Largest error of a rotation, and of a scale, that the user states."""
_WIDE_SIDE = 128
_WIDE_SCREENED = 60


def rotation_grid(limit_deg: float, step_deg: float = 3.0) -> tuple[float, ...]:
    """Return rotations within +-``limit_deg``, with 0, at most ``step_deg`` apart; all around from 180 on."""
    n = math.ceil(min(limit_deg, 180.0) / step_deg)
    if limit_deg >= 180:
        return tuple(180.0 * i / n for i in range(-n, n))
    return tuple(limit_deg * (i / n) for i in range(-n, n + 1)) if n else (0.0,)


def scale_grid(low: float, high: float, step: float = 1.06) -> tuple[float, ...]:
    """Return scales from ``low`` to ``high`` in equal ratios of at most ``step``."""
    n = math.ceil(math.log(high / low) / math.log(step) - 1e-9)
    return tuple(low * (high / low) ** (i / n) for i in range(n + 1)) if n else (low,)


UPRIGHT = SearchGrid(rotation_grid(_UPRIGHT_DEG), scale_grid(*_UPRIGHT_SCALES))


def wide_grid(scales: tuple[float, float] = _ANY_SCALE) -> SearchGrid:
    """Return a coarse grid of all rotations and a range of scales; its best peaks are screened."""
    return SearchGrid(rotation_grid(180, 5.0), scale_grid(*scales, 1.1), _WIDE_SIDE, _WIDE_SCREENED)


def search_grids(rotation: str, scale: str, georeferenced: bool) -> tuple[SearchGrid, ...]:
    """Return the grids to search, one after the other until an estimate is accepted.

    Args:
        rotation: ``auto``, ``none`` or degrees, on top of the georeferences.
        scale: ``auto``, ``none`` or fixed pixels per moving pixel, on top of the georeferences or the sizes.
        georeferenced: Whether both images have georeferences.
    """
    if scale == "none" or (scale == "auto" and georeferenced):
        scales = _PRIOR_SCALES
    else:
        scales = _ANY_SCALE if scale == "auto" else (float(scale) / _GIVEN_SCALE, float(scale) * _GIVEN_SCALE)
    if rotation == "auto" and not georeferenced:
        low, high = max(scales[0], _UPRIGHT_SCALES[0]), min(scales[1], _UPRIGHT_SCALES[1])
        if low >= high:
            return (wide_grid(scales),)
        fine = scale_grid(low, high)
        grids = SearchGrid(rotation_grid(_UPRIGHT_DEG), fine), SearchGrid(rotation_grid(180), fine)
        return grids if (low, high) == scales else (*grids, wide_grid(scales))
    middle, limit = (0.0, _PRIOR_DEG) if rotation in ("auto", "none") else (float(rotation), _GIVEN_DEG)
    return (SearchGrid(tuple(middle + turn for turn in rotation_grid(limit)), scale_grid(*scales)),)


@dataclass(frozen=True)
class InitialTransform:
    """A transform from which the search starts.

    Attributes:
        context: The pair, at the resolution that suits the transform's scale.
        matrix: ``(3, 3)`` its reduced moving px -> its reduced fixed px.
        radius: Largest error of the transform, its reduced fixed px.
    """

    context: MatchingContext
    matrix: Matrix
    radius: float

    @classmethod
    def of(cls, context: MatchingContext, matrix: Matrix, radius: float | None = None) -> InitialTransform:
        """Bring a matrix and its context to the resolution that suits its scale.

        Args:
            context: The pair; ``matrix`` and ``radius`` are in its pixels.
            matrix: ``(3, 3)``.
            radius: Largest error; None: that of a coarse search.
        """
        pair = context.pair
        radius = SEARCH.coarse_error * max(pair.fixed.shape) if radius is None else radius
        suited = context.at_scale(decompose(matrix, pair.moving.shape).scale)
        fixed_factor = suited.pair.fixed.factor / pair.fixed.factor
        moving_factor = suited.pair.moving.factor / pair.moving.factor
        return cls(suited, compose(rescale_matrix(matrix, fixed_factor, moving_factor)), radius / fixed_factor)


def initial_transforms(
    context: MatchingContext, max_shift: float, given: Matrix | None, timer: StageTimer
) -> Iterator[InitialTransform]:
    """Yield initial transforms; each grid is searched when the first of its hypotheses is requested.

    Georeferences may rotate and shear the moving image, so it is first placed on the fixed grid. Without them it is
    searched as it is, so that nothing is cut off.

    Args:
        context: The pair.
        max_shift: Largest error of the prior, reduced fixed px.
        given: ``(3, 3)`` the only one, if the user gives it.
        timer: Times the coarse search.

    Yields:
        The initial transforms of one grid after the other, the best of a grid first.
    """
    if given is not None:
        yield InitialTransform.of(context, given)
        return
    pair, config = context.pair, context.config
    fixed, moving, prior = pair.fixed, (pair.moving.values, pair.moving.valid), pair.prior
    scale = 1.0 if pair.georeferenced else decompose(prior, pair.moving.shape).scale
    for grid in search_grids(config.rotation, config.scale, pair.georeferenced):
        with timer("coarse"):
            images = (fixed.values, fixed.valid, *(pair.placed(prior) if pair.georeferenced else moving))
            found = coarse_hypotheses(*images, grid=grid.times(scale), max_shift=max_shift, n=SEARCH.n_initial)
            matrices = [each.matrix for each in found]
            if pair.georeferenced:
                matrices = [compose(matrix, prior) for matrix in matrices]
            starts = [InitialTransform.of(context, matrix) for matrix in matrices]
            logger.info("coarse search: %s", found)
        yield from starts

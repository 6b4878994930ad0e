"""Initial transforms: hypotheses of the coarse search, a transform that the user gives, and the prior itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.transforms import compose, decompose, rescale_matrix
from rrl_register.matching.coarse import SearchGrid, coarse_hypotheses, search_grids
from rrl_register.matching.context import MatchingContext
from rrl_register.matching.search_config import SEARCH

logger = logging.getLogger(__name__)


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


def initial_transforms(context: MatchingContext, max_shift: float) -> Iterator[list[InitialTransform]]:
    """Search coarsely, grid by grid; each grid is searched when its result is requested.

    Args:
        context: The pair.
        max_shift: Largest error of the prior, reduced fixed px.

    Yields:
        The initial transforms of a grid, best first.
    """
    config = context.config
    for grid in search_grids(config.rotation, config.scale, context.pair.georeferenced):
        yield [InitialTransform.of(context, matrix) for matrix in _coarse_matrices(context, grid, max_shift)]


def _coarse_matrices(context: MatchingContext, grid: SearchGrid, max_shift: float) -> list[Matrix]:
    """Return the matrices of a coarse search, best first.

    Georeferences may rotate and shear the moving image, so it is first placed on the fixed grid. Without them it is
    searched as it is, so that nothing is cut off.
    """
    pair, fixed = context.pair, context.pair.fixed
    if pair.georeferenced:
        moving, moving_valid = pair.placed(pair.prior)
    else:
        moving, moving_valid = pair.moving.values, pair.moving.valid
        grid = grid.times(decompose(pair.prior, pair.moving.shape).scale)
    found = coarse_hypotheses(
        fixed.values, fixed.valid, moving, moving_valid, grid=grid, max_shift=max_shift, n=SEARCH.n_initial
    )
    for hypothesis in found:
        logger.info("coarse hypothesis: %s", hypothesis)
    if pair.georeferenced:
        return [compose(hypothesis.matrix, pair.prior) for hypothesis in found]
    return [hypothesis.matrix for hypothesis in found]

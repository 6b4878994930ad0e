"""Where the search for tie points may start from: what the coarse search finds, and at last the prior itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.transforms import compose, decompose, rescale_matrix
from rrl_register.matching.coarse import Hypothesis, SearchGrid, coarse_hypotheses, search_grids
from rrl_register.matching.descriptor_matching import MatchingContext

logger = logging.getLogger(__name__)

N_PROPOSALS = 2
"""Coarse hypotheses of a grid that are looked at; a true one is hardly ever the third."""
COARSE_ERROR = 0.05
"""Share of the longer side that a coarse hypothesis may be off."""


@dataclass(frozen=True)
class Proposal:
    """A start.

    Attributes:
        scene: The pair, at the resolution that suits the proposed scale.
        matrix: ``(3, 3)`` its reduced moving px -> its reduced fixed px.
        radius: How far that may be off, its reduced fixed px.
    """

    scene: MatchingContext
    matrix: Matrix
    radius: float

    @classmethod
    def of(cls, scene: MatchingContext, matrix: Matrix, radius: float) -> Proposal:
        """Takes the scene to the resolution that suits the matrix's scale; both are in the pixels of ``scene``."""
        suited = scene.at_scale(decompose(matrix, scene.pair.moving.shape).scale)
        fixed_factor = suited.pair.fixed_factor / scene.pair.fixed_factor
        moving_factor = suited.pair.moving_factor / scene.pair.moving_factor
        return cls(suited, compose(rescale_matrix(matrix, fixed_factor, moving_factor)), radius / fixed_factor)


def proposals(scene: MatchingContext, max_shift: float) -> Iterator[list[Proposal]]:
    """Groups of proposals by the coarse search, each the best first; a group is made when it is asked for.

    Args:
        scene: The pair.
        max_shift: How far the prior may be off, reduced fixed px.
    """
    pair, config = scene.pair, scene.config
    error = COARSE_ERROR * max(pair.fixed.shape)
    for grid in search_grids(config.rotation, config.scale, pair.georeferenced):
        yield [Proposal.of(scene, matrix, error) for matrix in _coarse(scene, grid, max_shift)]


def given_proposal(scene: MatchingContext, matrix: Matrix) -> Proposal:
    """A start that is known from elsewhere, about as good as one of the coarse search."""
    return Proposal.of(scene, matrix, COARSE_ERROR * max(scene.pair.fixed.shape))


def prior_proposal(scene: MatchingContext, max_shift: float) -> Proposal:
    """What georeferences or sizes say, for want of anything better."""
    return Proposal.of(scene, scene.pair.prior, max_shift)


def _coarse(scene: MatchingContext, grid: SearchGrid, max_shift: float) -> list[Matrix]:
    """What the coarse search finds, best first.

    Georeferences may turn and shear the moving image, so that it is put on the fixed grid first. Without them it is
    searched as it is: nothing of it is cut off that way.
    """
    pair = scene.pair
    if pair.georeferenced:
        moving, moving_valid = pair.placed(pair.prior)
        start, searched = pair.prior, grid
    else:
        moving, moving_valid, start = pair.moving, pair.moving_valid, None
        searched = grid.times(decompose(pair.prior, pair.moving.shape).scale)
    found = coarse_hypotheses(
        pair.fixed, pair.fixed_valid, moving, moving_valid, grid=searched, max_shift=max_shift, n=N_PROPOSALS
    )
    for hypothesis in found:
        logger.info("proposal: %s", hypothesis)
    return [_after(hypothesis, start) for hypothesis in found]


def _after(hypothesis: Hypothesis, start: Matrix | None) -> Matrix:
    return hypothesis.matrix if start is None else compose(hypothesis.matrix, start)

"""Choice of the transform model: as stiff as the tie points allow, judged by points kept out of the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrl_register.estimation.displaced import DISPLACED, WIDE, Displaced, DisplacedModel, robust_displaced
from rrl_register.estimation.displacement import AnyFit, Transform
from rrl_register.estimation.ransac import (
    Model,
    biweight,
    left_out_residuals,
    robust_fit,
    robust_homography,
    spatial_blocks,
)
from rrl_register.estimation.transforms import Matrix, Points, compose, project

Candidate = Model | Displaced
CANDIDATES: tuple[Candidate, ...] = (*Model, *DISPLACED)
"""From stiff to flexible."""
_Found = tuple[Transform, NDArray[np.bool_]]
_Losses = dict[Candidate, NDArray[np.float64]]

_OUTLIER = 2.0
"""Thresholds from which a point costs no more: those judged lie within one of some model, so that a miss by more is the
model's; without an end, one wild extrapolation would drown the rest."""

_CLEARLY = 2.0
"""Standard errors by which a displacement has to be better than the best matrix, and than a stiffer displacement: of
several that are tried, one is better by a single one now and then where there is nothing to displace, and flexible ones
profit by errors that neighbours share across the blocks' borders."""

_WORTH = 1.5
"""Root mean square distance, px, by which a displacement that is worth having brings points nearer. Windows that
overlap share the errors of their places, and flexible models follow those across the blocks' borders: on training pairs
whose truth is a matrix they seemed to gain up to 1.45 px and were further off."""

_NOTHING = 1e-6
"""Excess, px², that is rounding and not a worse model: a thousandth of a pixel, squared."""


class ModelFit(NamedTuple):
    """A transform and the model that it was fitted as.

    Attributes:
        model: the model.
        transform: moving -> fixed.
        inliers: (N,) bool, the tie points within the threshold of it.
        fit: the model's least-squares fit, on top of the prior.
    """

    model: Model | DisplacedModel
    transform: Transform
    inliers: NDArray[np.bool_]
    fit: AnyFit

    @property
    def matrix(self) -> Matrix:
        """(3, 3) matrix of the transform."""
        return self.transform.matrix


def choose_model(
    moving: ArrayLike,
    fixed: ArrayLike,
    threshold: float = 3.0,
    models: Sequence[Candidate] = CANDIDATES,
    weights: ArrayLike | None = None,
    prior: ArrayLike | None = None,
    seed: int = 0,
) -> ModelFit | None:
    """Fit each model robustly; of those, take the stiffest that predicts points kept out of the fit as well as any.

    A richer model comes closer to the points it was fitted to whatever the truth is; how it does on others, tells
    whether what it adds is there. Its error where there are no points, at the corners of the scene, grows faster still,
    so what cannot be told apart goes to the stiffer one: the one-standard-error rule (Breiman, Friedman, Olshen & Stone
    1984, section 3.4.3), on the differences between two models at the same points, which vary much less than either.
    A displacement is taken only where the best one is better than the best matrix by two standard errors and by
    (1.5 px)²; then it is the stiffest within two standard errors of the best.

    Args:
        moving: (N, 2) points.
        fixed: (N, 2) corresponding points.
        threshold: largest residual of an inlier, fixed pixels.
        models: the candidates, from stiff to flexible; a single one is fitted and not judged.
        weights: (N,) trust in each tie point, >= 0; None: all 1.
        prior: (3, 3) transform moving -> fixed that the models come on top of: a translation is a shift of what the
            prior gives; None: of the moving points themselves.
        seed: of the random samples.

    Returns:
        The chosen fit, or None when the points determine no candidate.
    """
    start = np.eye(3) if prior is None else np.asarray(prior, np.float64)
    placed, target = project(start, moving), np.asarray(fixed, np.float64).reshape(-1, 2)
    trust = np.ones(len(placed)) if weights is None else np.asarray(weights, np.float64)
    found = _robust_fits(models, placed, target, threshold, trust, seed)
    if not found:
        return None
    chosen = next(iter(found)) if len(found) == 1 else _stiffest(found, placed, target, trust, threshold)
    transform, inliers = found[chosen]
    whole = replace(transform, matrix=compose(transform.matrix, start))
    model = chosen.model if isinstance(chosen, Displaced) else chosen
    return ModelFit(model, whole, inliers, fit_after(start, chosen))


def candidates(name: str | None) -> tuple[Candidate, ...]:
    """The candidates of a model's name, from stiff to flexible: one, or a thin plate's several; None: all."""
    known = {model: model.model if isinstance(model, Displaced) else model for model in CANDIDATES}
    return tuple(model for model, called in known.items() if name in (None, called.value))


def fit_after(prior: ArrayLike, model: Candidate) -> AnyFit:
    """The least-squares fit of a model that comes on top of a transform; see ``choose_model``."""

    def fit(moving: Points, fixed: Points, weights: NDArray[np.float64] | None = None) -> Matrix | Transform:
        """Fit what is left after the prior, and put the prior in front of it."""
        found = model.fit(project(prior, moving), fixed, weights)
        if isinstance(found, Transform):
            return replace(found, matrix=compose(found.matrix, prior))
        return compose(found, prior)

    return fit


def _robust_fits(
    models: Sequence[Candidate],
    moving: Points,
    fixed: Points,
    threshold: float,
    trust: NDArray[np.float64],
    seed: int,
) -> dict[Candidate, _Found]:
    """Those of the candidates that the points determine."""
    fits: dict[Candidate, _Found | None] = {}
    for model in models:
        if isinstance(model, Model):
            plain = robust_fit(moving, fixed, threshold, model, trust, seed)
            fits[model] = plain and (Transform(plain.matrix), plain.inliers)
    wide = None
    if displaced := [model for model in models if isinstance(model, Displaced)]:
        wide = robust_homography(moving, fixed, WIDE * threshold, weights=trust, seed=seed)
    for rich in displaced:
        fits[rich] = wide and robust_displaced(rich, moving, fixed, wide.matrix, threshold, trust)
    return {model: fit for model, fit in fits.items() if fit is not None}


def _stiffest(
    found: dict[Candidate, _Found], moving: Points, fixed: Points, trust: NDArray[np.float64], threshold: float
) -> Candidate:
    """The first model whose held-out loss is within one standard error of the least; displaced ones where it is clear.

    All are judged on the points that any of them explains: a model gains nothing by dropping those it cannot reach.
    """
    judged = np.any([inliers for _, inliers in found.values()], axis=0)
    m, f, w = moving[judged], fixed[judged], trust[judged]
    blocks = spatial_blocks(f)

    def losses(kind: type[Candidate]) -> _Losses:
        """Of the models of one kind."""
        fits = {model: fit for model, (fit, _) in found.items() if isinstance(model, kind)}
        return {model: _held_out_loss(model, fit, m, f, w, blocks, threshold) for model, fit in fits.items()}

    family, errors = losses(Model), 1.0
    if not family or np.average(_least(family, w), weights=w) >= _WORTH**2:  # else no displacement gains enough
        displaced = losses(Displaced)
        if displaced and (not family or _is_worth_it(_least(family, w) - _least(displaced, w), w, blocks)):
            family, errors = displaced, _CLEARLY
    least = _least(family, w)
    return next(model for model, loss in family.items() if _as_good(loss - least, w, blocks, errors))


def _least(losses: _Losses, trust: NDArray[np.float64]) -> NDArray[np.float64]:
    """The losses of the model that has the least in all."""
    return min(losses.values(), key=lambda loss: float(loss @ trust))


def _held_out_loss(
    model: Candidate,
    transform: Transform,
    moving: Points,
    fixed: Points,
    trust: NDArray[np.float64],
    blocks: NDArray[np.int64],
    threshold: float,
) -> NDArray[np.float64]:
    """Squared distance (N,) of each point from a fit without its block, cut off where an outlier begins.

    The fits weigh the points as the robust fit did in the end. Blocks are left out one by one, for with five folds a
    dozen points leave too few to a homography. Where the others determine no transform, nothing is predicted, which
    costs as much as an outlier.
    """
    cut = _OUTLIER * threshold
    weights = trust * biweight(transform.residuals(moving, fixed), threshold)
    left_out = left_out_residuals(moving, fixed, blocks, model.fit, weights)
    return np.asarray(np.nan_to_num(np.minimum(left_out, cut), nan=cut) ** 2)


def _is_worth_it(gain: NDArray[np.float64], trust: NDArray[np.float64], blocks: NDArray[np.int64]) -> bool:
    """Whether what a displacement gains over a matrix, px², is both clear and enough."""
    return bool(np.average(gain, weights=trust) >= _WORTH**2 and not _as_good(gain, trust, blocks, _CLEARLY))


def _as_good(
    excess: NDArray[np.float64], trust: NDArray[np.float64], blocks: NDArray[np.int64], errors: float = 1.0
) -> bool:
    """Whether a mean excess over the best, px², is within so many standard errors of itself.

    Points of one block share errors (terrain, a displaced object), so the blocks are what varies independently: the
    standard error of a mean over clusters (Liang & Zeger 1986).
    """
    mean = np.average(excess, weights=trust)
    sums = np.bincount(blocks, trust * (excess - mean))
    n_blocks = len(np.unique(blocks))
    error = np.sqrt((sums**2).sum() * n_blocks / max(1, n_blocks - 1)) / trust.sum()
    return bool(mean <= errors * error + _NOTHING)

"""Choice of the transform model: as stiff as the tie points allow, judged by points kept out of the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrl_register.estimation.cross_validation import fit_each
from rrl_register.estimation.displaced_models import DISPLACED, WIDE, Displaced, DisplacedModel, robust_displaced
from rrl_register.estimation.ransac import (
    Model,
    biweight,
    left_out_residuals,
    robust_fit,
    robust_homography,
    spatial_blocks,
)
from rrl_register.geometry.arrays import Matrix, Points
from rrl_register.geometry.displacement import AnyFit, Transform, as_transform
from rrl_register.geometry.transforms import compose, project

Candidate = Model | Displaced
CANDIDATES: tuple[Candidate, ...] = (*Model, *DISPLACED)
"""From stiff to flexible."""
_Found = tuple[Transform, NDArray[np.bool_]]

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
    (1.5 px)²; then it is the stiffest within two standard errors of the best. Where the matrices do too well for that,
    none is fitted.

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
    judge = _Judge(placed, target, trust, threshold)
    found = _matrix_fits(models, placed, target, threshold, trust, seed)
    displaced = [model for model in models if isinstance(model, Displaced)]
    if displaced and not _is_enough(found, judge):
        for model, fit in _displaced_fits(displaced, placed, target, threshold, trust, seed).items():
            found[model] = fit
    if not found:
        return None
    chosen = next(iter(found)) if len(found) == 1 else _stiffest(found, judge)
    transform, inliers = found[chosen]
    whole = replace(transform, matrix=compose(transform.matrix, start))
    name = chosen.model if isinstance(chosen, Displaced) else chosen
    return ModelFit(name, whole, inliers, FitAfter(start, chosen))


def candidates(name: str | None) -> tuple[Candidate, ...]:
    """The candidates of a model's name, from stiff to flexible: one, or a thin plate's several; None: all."""
    known = {model: model.model if isinstance(model, Displaced) else model for model in CANDIDATES}
    return tuple(model for model, called in known.items() if name in (None, called.value))


@dataclass(frozen=True)
class FitAfter:
    """The least-squares fit of a model that comes on top of a transform; see ``choose_model``.

    Attributes:
        prior: ``(3, 3)`` the transform.
        model: What is fitted to what it leaves.
    """

    prior: Matrix
    model: Candidate

    def __call__(self, moving: Points, fixed: Points, weights: NDArray[np.float64] | None = None) -> Matrix | Transform:
        """Fit what is left after the prior, and put the prior in front of it."""
        found = self._whole(as_transform(self.model.fit(project(self.prior, moving), fixed, weights)))
        return found if found.displacement else found.matrix

    def each(self, moving: Points, fixed: Points, weights: NDArray[np.float64]) -> list[Transform | None]:
        """The same under weights ``(B, N)``; None where the points with a weight determine none."""
        fits = fit_each(self.model.fit, project(self.prior, moving), fixed, weights)
        return [fit and self._whole(fit) for fit in fits]

    def _whole(self, found: Transform) -> Transform:
        return replace(found, matrix=compose(found.matrix, self.prior))


def _matrix_fits(
    models: Sequence[Candidate],
    moving: Points,
    fixed: Points,
    threshold: float,
    trust: NDArray[np.float64],
    seed: int,
) -> dict[Candidate, _Found]:
    """Those of the candidates that are a matrix and that the points determine."""
    matrices = [model for model in models if isinstance(model, Model)]
    fits = {model: robust_fit(moving, fixed, threshold, model, trust, seed) for model in matrices}
    return {model: (Transform(fit.matrix), fit.inliers) for model, fit in fits.items() if fit}


def _displaced_fits(
    models: Sequence[Displaced],
    moving: Points,
    fixed: Points,
    threshold: float,
    trust: NDArray[np.float64],
    seed: int,
) -> dict[Displaced, _Found]:
    """Those of the candidates that are more than a matrix and that the points determine."""
    wide = robust_homography(moving, fixed, WIDE * threshold, weights=trust, seed=seed)
    return robust_displaced(models, moving, fixed, wide.matrix, threshold, trust) if wide else {}


@dataclass(frozen=True)
class _Judge:
    """What models lose on points kept out of their fits.

    Attributes:
        moving: ``(N, 2)`` points.
        fixed: ``(N, 2)`` corresponding points.
        trust: ``(N,)``, >= 0.
        threshold: Largest residual of an inlier, px.
        known: Losses by model, and by the points that it was judged on.
    """

    moving: Points
    fixed: Points
    trust: NDArray[np.float64]
    threshold: float
    known: dict[tuple[Candidate, bytes], NDArray[np.float64]] = field(default_factory=dict)

    def least(self, found: dict[Candidate, _Found], judged: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Losses ``(J,)`` of the model that has the least in all, on those J of the points that are to be judged.

        Those that come closest to the points that they were fitted to are judged first. The others are not, once they
        lose more even there than a model does on points kept out.
        """
        trust = self.trust[judged]
        seen = {model: float(self.seen(transform, judged) @ trust) for model, (transform, _) in found.items()}
        first, *others = sorted(seen, key=lambda model: seen[model])
        least = self.loss(first, found[first][0], judged)
        for model in others:
            if seen[model] < least @ trust:
                least = min(least, self.loss(model, found[model][0], judged), key=lambda loss: float(loss @ trust))
        return least

    def loss(self, model: Candidate, transform: Transform, judged: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Squared distance ``(J,)`` of each point from a fit without its block, cut off where an outlier begins.

        The fits weigh the points as the robust fit did in the end. Blocks are left out one by one, for with five folds
        a dozen points leave too few to a homography. Where the others determine no transform, nothing is predicted,
        which costs as much as an outlier.
        """
        key = model, judged.tobytes()
        if key not in self.known:
            moving, fixed = self.moving[judged], self.fixed[judged]
            weights = self.trust[judged] * biweight(transform.residuals(moving, fixed), self.threshold)
            residual = left_out_residuals(moving, fixed, spatial_blocks(fixed), model.fit, weights)
            self.known[key] = self._cut_off(residual)
        return self.known[key]

    def seen(self, transform: Transform, judged: NDArray[np.bool_]) -> NDArray[np.float64]:
        """What a transform loses, ``(J,)``, on points that it was fitted to: in all less than on those kept out."""
        return self._cut_off(transform.residuals(self.moving[judged], self.fixed[judged]))

    def _cut_off(self, residual: NDArray[np.float64]) -> NDArray[np.float64]:
        """Squared distances, px², up to where an outlier begins; NaN costs as much as one."""
        cut = _OUTLIER * self.threshold
        return np.asarray(np.nan_to_num(np.minimum(residual, cut), nan=cut) ** 2)


def _explained(found: dict[Candidate, _Found]) -> NDArray[np.bool_]:
    """The points that any of the fits explains: a model gains nothing by dropping those that it cannot reach."""
    return np.asarray(np.any([inliers for _, inliers in found.values()], axis=0))


def _is_enough(matrices: dict[Candidate, _Found], judge: _Judge) -> bool:
    """Whether no displacement can gain enough over the matrices, even if it met every point that these miss."""
    if not matrices:
        return False
    judged = _explained(matrices)
    most = np.full(len(judged), (_OUTLIER * judge.threshold) ** 2)
    most[judged] = judge.least(matrices, judged)
    return bool(np.average(most, weights=judge.trust) < _WORTH**2)


def _may_gain(
    displaced: dict[Candidate, _Found], judge: _Judge, judged: NDArray[np.bool_], least: NDArray[np.float64]
) -> bool:
    """Whether a displacement gains enough over what the matrices lose at least, even on the points it was fitted to."""
    w = judge.trust[judged]
    seen = (judge.seen(transform, judged) for transform, _ in displaced.values())
    return any(np.average(least - loss, weights=w) >= _WORTH**2 for loss in seen)


def _stiffest(found: dict[Candidate, _Found], judge: _Judge) -> Candidate:
    """The first model whose held-out loss is within one standard error of the least; displaced ones where it is clear.

    All are judged on the points that any of them explains.
    """
    judged = _explained(found)
    w, blocks = judge.trust[judged], spatial_blocks(judge.fixed[judged])
    family, displaced = ({m: fit for m, fit in found.items() if isinstance(m, kind)} for kind in (Model, Displaced))
    least, errors = judge.least(family, judged) if family else None, 1.0
    if least is None or _may_gain(displaced, judge, judged, least):
        bent = judge.least(displaced, judged)
        if least is None or _is_worth_it(least - bent, w, blocks):
            family, least, errors = displaced, bent, _CLEARLY
    losses = ((model, judge.loss(model, transform, judged)) for model, (transform, _) in family.items())
    return next(model for model, loss in losses if _as_good(loss - least, w, blocks, errors))


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

"""Model selection: the simplest transform whose cross-validation error is as low as the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rrl_register.estimation.cross_validation import cross_validation_residuals, fit_each, spatial_blocks
from rrl_register.estimation.robust_fits import (
    DISPLACED_HOMOGRAPHIES,
    WIDE,
    DisplacedHomography,
    DisplacedModel,
    Model,
    biweight,
    robust_displaced_homographies,
    robust_fit,
)
from rrl_register.geometry.arrays import Flags, Floats, Indices, Matrix, Points, Weights
from rrl_register.geometry.displacement import AnyFit, Transform, as_transform
from rrl_register.geometry.transforms import compose, project

Candidate = Model | DisplacedHomography
CANDIDATES: tuple[Candidate, ...] = (*Model, *DISPLACED_HOMOGRAPHIES)
"""All models, from simple to flexible."""
_Found = tuple[Transform, Flags]
"""A candidate's transform and its inliers ``(N,)``."""

_MAX_LOSS = 2.0
"""Thresholds from which a residual costs no more: the compared points lie within one of some model, so that a larger
residual is the model's; without a limit, one wild extrapolation would outweigh the rest."""

_CLEARLY = 2.0
"""Standard errors by which a displacement has to be better than the best matrix, and than a simpler displacement: of
several candidates, one is better by a single standard error now and then where there is nothing to displace, and
flexible ones profit by errors that neighbours share across the blocks' borders."""

_WORTH = 1.5
"""Root mean square distance, px, by which a displacement that is worth having brings points nearer. Windows that
overlap share the errors of their places, and flexible models follow those across the blocks' borders: on training pairs
whose truth is a matrix they seemed to gain up to 1.45 px and were further off."""

_ROUNDING = 1e-6
"""Excess, px², that is rounding and not a worse model: a thousandth of a pixel, squared."""


class ModelFit(NamedTuple):
    """A transform and the model that it was fitted as.

    Attributes:
        model: The model.
        transform: Moving -> fixed.
        inliers: (N,) bool, the tie points within the threshold of it.
        fit: The model's least-squares fit, on top of the prior.
    """

    model: Model | DisplacedModel
    transform: Transform
    inliers: Flags
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
    """Fit each model robustly; choose the simplest one whose cross-validation error is as low as the best.

    A more flexible model always comes closer to the points that it was fitted to; only points left out show whether the
    truth is that flexible. Its error without points nearby, at the corners of the scene, grows faster still, so models
    of equal error yield to the simpler one: the one-standard-error rule (Breiman, Friedman, Olshen & Stone
    1984, section 3.4.3), on the differences between two models at the same points, which vary much less than either.
    A displaced homography is chosen only if the best one is better than the best matrix by two standard errors and by
    (1.5 px)²; then it is the simplest within two standard errors of the best. If the matrices are too good for that,
    none is fitted.

    Args:
        moving: (N, 2) points.
        fixed: (N, 2) corresponding points.
        threshold: Largest residual of an inlier, fixed pixels.
        models: The candidates, from simple to flexible; a single one is fitted without cross-validation.
        weights: (N,) trust in each tie point, >= 0; None: all 1.
        prior: (3, 3) transform moving -> fixed that the models come on top of: a translation is a shift of what the
            prior maps to; None: the identity.
        seed: Seed of the random hypotheses.

    Returns:
        The chosen fit, or None if the points determine no candidate.
    """
    start = np.eye(3) if prior is None else np.asarray(prior, np.float64)
    placed, target = project(start, moving), np.asarray(fixed, np.float64).reshape(-1, 2)
    trust = np.ones(len(placed)) if weights is None else np.asarray(weights, np.float64)
    compared = _Comparison(placed, target, trust, threshold)
    matrices = [model for model in models if isinstance(model, Model)]
    robust = {model: robust_fit(placed, target, threshold, model, trust, seed) for model in matrices}
    found: dict[Candidate, _Found] = {m: (Transform(fit.matrix), fit.inliers) for m, fit in robust.items() if fit}
    displaced = [model for model in models if isinstance(model, DisplacedHomography)]
    if displaced and not (found and compared.matrices_suffice(found)):
        wide = robust_fit(placed, target, WIDE * threshold, Model.HOMOGRAPHY, trust, seed)
        if wide:
            fits = robust_displaced_homographies(displaced, placed, target, wide.matrix, threshold, trust)
            found.update(fits.items())
    if not found:
        return None
    chosen = next(iter(found)) if len(found) == 1 else compared.simplest(found)
    transform, inliers = found[chosen]
    whole = replace(transform, matrix=compose(transform.matrix, start))
    name = chosen.model if isinstance(chosen, DisplacedHomography) else chosen
    return ModelFit(name, whole, inliers, FitAfter(start, chosen))


def candidates(name: str | None) -> tuple[Candidate, ...]:
    """Return the candidates of a model's name, from simple to flexible: one, or a thin plate's several; None: all."""
    known = {model: model.model if isinstance(model, DisplacedHomography) else model for model in CANDIDATES}
    return tuple(model for model, called in known.items() if name in (None, called.value))


@dataclass(frozen=True)
class FitAfter:
    """The least-squares fit of a model that comes on top of a transform; see ``choose_model``.

    Attributes:
        prior: ``(3, 3)`` the transform.
        model: Model of what the prior leaves.
    """

    prior: Matrix
    model: Candidate

    def __call__(self, moving: Points, fixed: Points, weights: Weights | None = None) -> Matrix | Transform:
        """Fit the model to what the prior leaves, and compose both."""
        found = self._composed(as_transform(self.model.fit(project(self.prior, moving), fixed, weights)))
        return found if found.displacement else found.matrix

    def each(self, moving: Points, fixed: Points, weights: Floats) -> list[Transform | None]:
        """Fit under weights ``(B, N)``; None where the points with a weight determine no transform."""
        fits = fit_each(self.model.fit, project(self.prior, moving), fixed, weights)
        return [fit and self._composed(fit) for fit in fits]

    def _composed(self, found: Transform) -> Transform:
        return replace(found, matrix=compose(found.matrix, self.prior))


@dataclass(frozen=True)
class _Comparison:
    """Comparison of fitted models by their losses: squared residuals, px², up to those of an outlier.

    Models are compared on the points that any of them explains: a model gains nothing by dropping those that it cannot
    reach.

    Attributes:
        moving: ``(N, 2)`` points.
        fixed: ``(N, 2)`` corresponding points.
        trust: ``(N,)``, >= 0.
        threshold: Largest residual of an inlier, px.
        known: Cross-validation losses by model, and by the points that they were computed on.
    """

    moving: Points
    fixed: Points
    trust: Weights
    threshold: float
    known: dict[tuple[Candidate, bytes], Floats] = field(default_factory=dict)

    def matrices_suffice(self, matrices: dict[Candidate, _Found]) -> bool:
        """Return true if a displacement cannot gain enough, even if it met all points that the matrices miss."""
        some = _explained(matrices)
        most = np.full(len(some), (_MAX_LOSS * self.threshold) ** 2)
        most[some] = self.least_loss(matrices, some)
        return bool(np.average(most, weights=self.trust) < _WORTH**2)

    def simplest(self, found: dict[Candidate, _Found]) -> Candidate:
        """Apply the one-standard-error rule, and return a displaced homography only if it is clearly better."""
        some = _explained(found)
        trust, blocks = self.trust[some], spatial_blocks(self.fixed[some])
        matrices, displaced = (
            {model: fit for model, fit in found.items() if isinstance(model, kind)}
            for kind in (Model, DisplacedHomography)
        )
        family, errors = matrices, 1.0
        least = self.least_loss(matrices, some) if matrices else None
        if least is None or self._may_gain(displaced, some, least):
            least_displaced = self.least_loss(displaced, some)
            if least is None or _is_clear_gain(least - least_displaced, trust, blocks):
                family, least, errors = displaced, least_displaced, _CLEARLY
        for model, (transform, _) in family.items():  # the best one is among them, and as good as itself
            if _is_as_good(self.loss(model, transform, some) - least, trust, blocks, errors):
                break
        return model

    def least_loss(self, found: dict[Candidate, _Found], some: Flags) -> Floats:
        """Return the cross-validation losses ``(S,)`` of the model with the least sum, on S of the points.

        Models are cross-validated in the order of their fit losses. Those that lose more on the very points that they
        were fitted to than another one on points left out cannot be the best, and are skipped.
        """
        trust = self.trust[some]
        fit_loss = {model: float(self.fit_loss(transform, some) @ trust) for model, (transform, _) in found.items()}
        first, *others = sorted(fit_loss, key=lambda model: fit_loss[model])
        least = self.loss(first, found[first][0], some)
        for model in others:
            if fit_loss[model] < least @ trust:
                least = min(least, self.loss(model, found[model][0], some), key=lambda loss: float(loss @ trust))
        return least

    def loss(self, model: Candidate, transform: Transform, some: Flags) -> Floats:
        """Return the cross-validation losses ``(S,)`` of a model: each point under a fit without its block.

        The fits weigh the points as the robust fit did in the end. Blocks are left out one by one, because with five
        folds a dozen points leave too few to a homography. Where the others determine no transform, nothing is
        predicted, which costs as much as an outlier.
        """
        key = model, some.tobytes()
        if key not in self.known:
            moving, fixed = self.moving[some], self.fixed[some]
            weights = self.trust[some] * biweight(transform.residuals(moving, fixed), self.threshold)
            residual = cross_validation_residuals(moving, fixed, spatial_blocks(fixed), model.fit, weights)
            self.known[key] = self._bounded(residual)
        return self.known[key]

    def fit_loss(self, transform: Transform, some: Flags) -> Floats:
        """Return the losses ``(S,)`` on points that a transform was fitted to: in all less than in cross-validation."""
        return self._bounded(transform.residuals(self.moving[some], self.fixed[some]))

    def _bounded(self, residual: Floats) -> Floats:
        """Return squared residuals, px², up to those of an outlier; NaN costs as much as one."""
        limit = _MAX_LOSS * self.threshold
        return np.asarray(np.nan_to_num(np.minimum(residual, limit), nan=limit) ** 2)

    def _may_gain(self, displaced: dict[Candidate, _Found], some: Flags, least: Floats) -> bool:
        """Return true if a displacement gains enough over the losses of the best matrix, if only on its own points."""
        gains = (least - self.fit_loss(transform, some) for transform, _ in displaced.values())
        return any(np.average(gain, weights=self.trust[some]) >= _WORTH**2 for gain in gains)


def _explained(found: dict[Candidate, _Found]) -> Flags:
    """Return ``(N,)``, true for the inliers of any fit."""
    return np.asarray(np.any([inliers for _, inliers in found.values()], axis=0))


def _is_clear_gain(gain: Floats, trust: Weights, blocks: Indices) -> bool:
    """Return true if the gain of a displacement over a matrix, px², is both clear and worth having."""
    return bool(np.average(gain, weights=trust) >= _WORTH**2 and not _is_as_good(gain, trust, blocks, _CLEARLY))


def _is_as_good(excess: Floats, trust: Weights, blocks: Indices, errors: float) -> bool:
    """Return true if a mean excess over the best, px², is within so many standard errors of itself.

    Points of one block share errors (terrain, a displaced object), so the blocks are what varies independently: the
    standard error of a mean over clusters (Liang & Zeger 1986).
    """
    mean = np.average(excess, weights=trust)
    sums = np.bincount(blocks, trust * (excess - mean))
    n_blocks = len(np.unique(blocks))
    error = np.sqrt((sums**2).sum() * n_blocks / max(1, n_blocks - 1)) / trust.sum()
    return bool(mean <= errors * error + _ROUNDING)

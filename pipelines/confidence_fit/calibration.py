"""Fit of the confidence to registrations with known answers, and its calibration in cross-validation over scenes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from rrl_register.errors import InputError
from rrl_register.estimation.acceptance import ASPECTS, FEATURES, MIN_CONFIDENCE, Figures, features

N_FOLDS = 5
N_BINS = 10
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Candidates of the inverse strength of the ridge penalty."""

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class KnownRegistrations:
    """Registrations with known answers.

    Attributes:
        evidence: (N, F) features of the confidence model, in the order of ``FEATURES``.
        right: (N,) bool, true for correct transforms.
        scenes: N tuples, the scenes of each registration's images.
        typical: Median of each figure over the correct ones.
    """

    evidence: Values
    right: Flags
    scenes: tuple[tuple[str, ...], ...]
    typical: dict[str, float]


@dataclass(frozen=True)
class ConfidenceModel:
    """A logistic model of the evidence.

    Attributes:
        intercept: Log odds where all features are 0.
        coefficients: (F,) change of the log odds with each feature.
    """

    intercept: float
    coefficients: Values

    def predict(self, evidence: Values) -> Values:
        """Predict the probabilities (N,) that transforms with evidence (N, F) are correct."""
        return np.asarray(expit(self.intercept + evidence @ self.coefficients), np.float64)


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of similar confidence.

    Attributes:
        n: Their number.
        confidence: Their mean confidence.
        share_right: Share of correct ones.
    """

    n: int
    confidence: float
    share_right: float


def known_registrations(rows: Sequence[Mapping[str, Any]]) -> KnownRegistrations:
    """Select the rows whose acceptance depends on the confidence.

    Args:
        rows: With ``evidence`` (``Evidence.figures()``, or None), ``implausible``, ``right`` and
            ``scenes``.

    Raises:
        InputError: All of them are correct, or none.
    """
    usable = [row for row in rows if row["evidence"] and not row["implausible"]]
    right = np.array([row["right"] for row in usable], bool)
    if right.all() or not right.any():
        raise InputError(
            f"{right.sum()} of {len(right)} registrations with evidence are correct; needed both kinds: make more"
        )
    evidence = np.array([features(row["evidence"]) for row in usable])
    scenes = tuple(tuple(row["scenes"]) for row in usable)
    return KnownRegistrations(evidence, right, scenes, typical([row["evidence"] for row in usable if row["right"]]))


def calibrate(known: KnownRegistrations) -> dict[str, Any]:
    """Fit the model and measure it.

    The penalty is the one with the smallest log loss in cross-validation over scenes: without a penalty, separable
    evidence would drive all confidences to 0 and 1.

    Returns:
        The content of rrl_register/estimation/confidence.json: the model, and figures of the cross-validation.
    """
    strength = min(STRENGTHS, key=lambda c: log_loss(held_out_confidence(known, c), known.right))
    model, held_out = fit_model(known.evidence, known.right, strength), held_out_confidence(known, strength)
    bins = reliability(held_out, known.right)
    accepted = held_out >= MIN_CONFIDENCE
    return {
        "intercept": round(model.intercept, 4),
        "coefficients": dict(zip(FEATURES, np.round(model.coefficients, 4).tolist(), strict=True)),
        "typical": known.typical,
        "registrations": len(known.right),
        "right": int(known.right.sum()),
        "inverse_penalty": strength,
        "held_out_log_loss": round(log_loss(held_out, known.right), 4),
        "held_out_brier": round(float(np.mean((held_out - known.right) ** 2)), 4),
        "held_out_calibration_error": round(calibration_error(bins), 4),
        "held_out_wrong_accepted": int((accepted & ~known.right).sum()),
        "held_out_right_refused": int((~accepted & known.right).sum()),
        "reliability": [
            {"n": one.n, "confidence": round(one.confidence, 3), "share_right": round(one.share_right, 3)}
            for one in bins
        ],
    }


def fit_model(evidence: Values, right: Flags, strength: float) -> ConfidenceModel:
    """Fit a logistic model with a ridge penalty and no coefficient below 0: more evidence never lowers the confidence.

    Args:
        evidence: (N, F) features in [0, 1].
        right: (N,) bool, with both kinds.
        strength: Inverse strength of the penalty; 1: half the squared length of the coefficients counts as much as one
            log likelihood.
    """
    ones = np.column_stack([np.ones(len(evidence)), evidence])
    penalty = np.r_[0.0, np.full(evidence.shape[1], 1 / strength)]
    sign = np.where(right, 1.0, -1.0)

    def loss(beta: Values) -> tuple[float, Values]:
        """Compute the penalised negative log likelihood and its gradient."""
        margin = sign * (ones @ beta)
        gradient = penalty * beta - ones.T @ (sign * expit(-margin))
        return float(np.logaddexp(0, -margin).sum() + penalty @ beta**2 / 2), gradient

    bounds = [(None, None), *[(0, None)] * evidence.shape[1]]
    found = minimize(loss, np.zeros(ones.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B").x
    return ConfidenceModel(float(found[0]), np.asarray(found[1:]))


def typical(figures: Sequence[Figures]) -> dict[str, float]:
    """Compute the median of each figure behind the features, over its known values."""
    names = [aspect.figure for aspect in ASPECTS.values()]
    known = {name: [each[name] for each in figures if each.get(name) is not None] for name in names}
    return {name: round(float(np.median(np.array(values, float))), 4) for name, values in known.items() if values}


def held_out_confidence(known: KnownRegistrations, strength: float) -> Values:
    """Confidence (N,) of each trial by a model that saw neither of its scenes.

    Scenes are dealt to folds by a hash of their name. The model of a trial is fitted on those known that have no scene
    in its scenes' folds.

    Raises:
        InputError: KnownRegistrations without the scenes of some fold are all right, or all wrong.
    """
    folds = [frozenset(map(_fold, scenes)) for scenes in known.scenes]
    confidence = np.empty(len(folds))
    for left_out in set(folds):
        tested = np.array([fold == left_out for fold in folds])
        seen = np.array([fold.isdisjoint(left_out) for fold in folds])
        if len(set(known.right[seen])) < 2:
            raise InputError(f"{seen.sum()} registrations of other scenes are all right or all wrong: make more")
        model = fit_model(known.evidence[seen], known.right[seen], strength)
        confidence[tested] = model.predict(known.evidence[tested])
    return confidence


def log_loss(confidence: Values, right: Flags) -> float:
    """Compute the mean negative logarithm of the probability of the true outcome."""
    given = np.clip(np.where(right, confidence, 1 - confidence), 1e-12, 1)
    return float(-np.log(given).mean())


def reliability(confidence: Values, right: Flags, n_bins: int = N_BINS) -> list[ReliabilityBin]:
    """Compare the mean confidence with the share of correct ones, in bins of equal width without empty ones."""
    number = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    members = [number == bin_ for bin_ in np.unique(number)]
    return [ReliabilityBin(int(m.sum()), float(confidence[m].mean()), float(right[m].mean())) for m in members]


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Compute the expected calibration error: mean difference of confidence and share (Naeini 2015)."""
    n = sum(one.n for one in bins)
    return sum(one.n * abs(one.confidence - one.share_right) for one in bins) / n


def _fold(scene: str) -> int:
    return zlib.crc32(scene.encode()) % N_FOLDS

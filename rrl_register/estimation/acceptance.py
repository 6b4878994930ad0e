"""The verdict: whether the evidence proves a transform, how surely, and what is missing where it does not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from rrl_register.estimation.evidence import Evidence

MIN_COVERAGE = 0.08
MIN_OVER_CHANCE = 3.0
MAX_CONTROL_RATIO = 0.5
"""Acceptance of wrong places over that of candidates, from which the network's word proves nothing on a pair."""
MIN_CONFIDENCE = 0.5

ENOUGH_INLIERS = 100
"""More prove nothing more: a search with more keypoints is not a surer one."""
ENOUGH_INDEPENDENT = 12
LEAST_SHARE = 0.01
ENOUGH_OVER_CHANCE = 20.0
ENOUGH_MARGIN = 10.0
COARSE_AGREEMENT_PX = 2.0

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Aspect:
    """One side of the evidence, as the confidence model sees it and as a refusal speaks of it.

    Attributes:
        figure: Which of ``Evidence.figures()`` it is.
        strength: Of a figure's value, from 0, speaks for nothing, to 1, as good as can be; monotone.
        said: What was seen, to be filled with the figure.
        number: Format of the figure.
        remedy: What to try where it is missing.
    """

    figure: str
    strength: Callable[[float], float]
    said: str
    number: str
    remedy: str

    def of(self, figures: Figures) -> float:
        """Its strength, 0-1; what is not known speaks for nothing."""
        value = figures.get(self.figure)
        return 0.0 if value is None else _within_one(self.strength(value))

    def shown(self, figures: Figures) -> str:
        """Its figure as text."""
        value = figures.get(self.figure)
        return "unknown" if value is None else format(value, self.number)


def _within_one(value: float) -> float:
    return min(max(value, 0.0), 1.0)


_MORE_POINTS = "--keypoints 1500"
_OTHER_VIEW = "another --support or other bands (--fixed-bidx, --moving-bidx)"
_WHAT_IS_SHOWN = "--fixed-kind and --moving-kind, or --weights trained on such images"

ASPECTS = {
    "inliers": Aspect(
        "n_inliers",
        lambda n: math.log1p(min(n, ENOUGH_INLIERS)) / math.log1p(ENOUGH_INLIERS),
        "{} tie points agree with the transform",
        ".0f",
        _MORE_POINTS,
    ),
    "independent": Aspect(
        "n_independent",
        lambda n: math.log1p(min(n, ENOUGH_INDEPENDENT)) / math.log1p(ENOUGH_INDEPENDENT),
        "{} inliers lie so far apart that each rests on structure of its own",
        ".0f",
        _MORE_POINTS,
    ),
    "share": Aspect(
        "share",
        lambda share: 1 - math.log(max(share, LEAST_SHARE)) / math.log(LEAST_SHARE),
        "{} of the keypoints tried agree with the transform",
        ".0%",
        _OTHER_VIEW,
    ),
    "over_chance": Aspect(
        "over_chance",
        lambda times: math.log(max(times, 1)) / math.log(ENOUGH_OVER_CHANCE),
        "tie points agree {} times as often as by chance",
        ".1f",
        _OTHER_VIEW,
    ),
    "coverage": Aspect(
        "coverage",
        lambda share: share,
        "the inliers span {} of the overlap",
        ".0%",
        _MORE_POINTS,
    ),
    "occupied": Aspect(
        "occupied", lambda share: share, "{} of the blocks of the overlap hold inliers", ".0%", _MORE_POINTS
    ),
    "score": Aspect("mean_score", lambda score: score, "the network gives the inliers {}", ".2f", _WHAT_IS_SHOWN),
    "score_margin": Aspect(
        "score_margin",
        lambda margin: margin / ENOUGH_MARGIN,
        "the network prefers the places found to wrong ones by log-odds of {}",
        ".1f",
        _WHAT_IS_SHOWN,
    ),
    "control_rejection": Aspect(
        "control_acceptance",
        lambda share: 1 - share,
        "the network accepts {} of places that are wrong",
        ".0%",
        f"--min-score 0.8, {_WHAT_IS_SHOWN}",
    ),
    "held_out": Aspect(
        "check_ratio",
        lambda ratio: 1 - ratio,
        "points kept out of the fit miss it by {} of the inlier threshold",
        ".0%",
        f"{_MORE_POINTS} or another --model",
    ),
    "agreeing": Aspect(
        "agreeing", lambda share: share, "{} of the inliers are found back within 1 px", ".0%", _OTHER_VIEW
    ),
    "agreement": Aspect(
        "agreement_px",
        lambda distance: 1 - distance / COARSE_AGREEMENT_PX,
        "searched back, half of the inliers end within {} px",
        ".1f",
        _OTHER_VIEW,
    ),
    "certain": Aspect(
        "uncertainty_ratio",
        lambda ratio: 1 - ratio,
        "where the transform puts a point is uncertain by {} of the inlier threshold",
        ".0%",
        f"{_MORE_POINTS} or a stiffer --model",
    ),
}
FEATURES = tuple(ASPECTS)


def features(figures: Figures) -> list[float]:
    """What the confidence model sees of the evidence, 0-1 each, in the order of ``FEATURES``; more is better.

    Args:
        figures: ``Evidence.figures()``.
    """
    return [aspect.of(figures) for aspect in ASPECTS.values()]


def confidence(evidence: Evidence) -> float:
    """Probability, 0-1, that the transform is right, by a logistic model of the evidence.

    The model is fitted by ``pipelines/calibrate_confidence.py`` on registrations of training pairs with known answers,
    with no coefficient below 0: more evidence never makes it less sure.
    """
    if evidence.implausible or not evidence.n_inliers:
        return 0.0
    model = _confidence_model()
    seen = features(evidence.figures())
    logit = model["intercept"] + sum(
        model["coefficients"][name] * value for name, value in zip(FEATURES, seen, strict=True)
    )
    return 1 / (1 + math.exp(-logit))


def typical_figures() -> Figures:
    """The figures that are typical of right registrations, by name."""
    typical: Figures = _confidence_model()["typical"]
    return typical


def weakest(evidence: Evidence) -> str:
    """The feature that lowers the confidence most against what is typical of right registrations; one of ``FEATURES``.

    Args:
        evidence: What speaks for a transform.
    """
    model = _confidence_model()
    short = np.subtract(features(typical_figures()), features(evidence.figures()))
    return FEATURES[int(np.argmax(short * [model["coefficients"][name] for name in FEATURES]))]


def refusal(evidence: Evidence, min_inliers: int, max_check_rmse_px: float) -> str | None:
    """Why the evidence does not carry a registration, in one line with what to try; None if it does.

    The first that is missing is told: what the network accepted, what agrees, and only then how well.

    Args:
        evidence: What speaks for the transform.
        min_inliers: Tie points that have to agree with it.
        max_check_rmse_px: What the check error may be.
    """
    return (
        _too_few(evidence, min_inliers)
        or _no_better_than_chance(evidence)
        or _badly_spread(evidence)
        or _missed_by_held_out(evidence, max_check_rmse_px)
        or _unsure(evidence)
    )


def refusal_without_transform(n_candidates: int, n_tie_points: int) -> str:
    """Why there is no transform to judge, in one line with what to try.

    Args:
        n_candidates: Pairs that the network scored, in all passes together.
        n_tie_points: Those that it accepted.
    """
    return (
        f"no transform could be estimated: the network accepted {n_tie_points} of {n_candidates} pairs in all passes, "
        f"in none enough for a fit: check that both images show one place; try {_MORE_POINTS}, {_OTHER_VIEW}, "
        f"or {_WHAT_IS_SHOWN}"
    )


def _too_few(evidence: Evidence, min_inliers: int) -> str | None:
    if evidence.n_tie_points < min_inliers:
        return (
            f"the network accepted {evidence.n_tie_points} of {evidence.n_points} places, {min_inliers} are needed: "
            f"check that both images show one place; try {_OTHER_VIEW}, or {_WHAT_IS_SHOWN}"
        )
    if evidence.n_inliers < min_inliers:
        return (
            f"{evidence.n_inliers} of {evidence.n_tie_points} tie points agree on a transform, {min_inliers} are "
            f"needed: check that both images show one place; try {_MORE_POINTS}, or {_OTHER_VIEW}"
        )
    return None


def _no_better_than_chance(evidence: Evidence) -> str | None:
    if evidence.implausible:
        return (
            f"{evidence.implausible}: check that both images show one place; try to narrow the search with --max-shift"
        )
    accepted = evidence.n_tie_points / max(1, evidence.n_points)
    if evidence.control_acceptance > MAX_CONTROL_RATIO * accepted:
        return (
            f"the network accepts {evidence.control_acceptance:.0%} of places that are wrong and {accepted:.0%} of "
            f"those found, {MAX_CONTROL_RATIO:g} times as many wrong ones at most are needed: "
            f"try --min-score 0.8, {_WHAT_IS_SHOWN}"
        )
    if evidence.over_chance < MIN_OVER_CHANCE:
        return (
            f"tie points agree only {evidence.over_chance:.1f} times as often as by chance, {MIN_OVER_CHANCE:g} times "
            f"is needed: check that both images show one place; try {_OTHER_VIEW}"
        )
    return None


def _badly_spread(evidence: Evidence) -> str | None:
    if evidence.coverage < MIN_COVERAGE:
        return (
            f"the inliers span {evidence.coverage:.0%} of the overlap, {MIN_COVERAGE:.0%} is needed: "
            f"try {_MORE_POINTS}, or a part of the scene with structure all over"
        )
    if evidence.uncertainty_ratio > 1:
        return (
            f"the tie points leave open where the transform puts a point of the overlap, by "
            f"{evidence.uncertainty_ratio:.1f} times the inlier threshold on average, once is allowed: "
            f"try {_MORE_POINTS}, a stiffer --model, or a part of the scene with structure all over"
        )
    return None


def _missed_by_held_out(evidence: Evidence, max_check_rmse_px: float) -> str | None:
    if math.isnan(evidence.check_rmse_px):
        return (
            f"the {evidence.n_inliers} inliers are too few to keep some out of the fit and test it: "
            f"try {_MORE_POINTS}, or a stiffer --model"
        )
    if evidence.check_rmse_px > max_check_rmse_px:
        return (
            f"points kept out of the fit miss it by {evidence.check_rmse_px:.1f} px, at most "
            f"{max_check_rmse_px:g} px is needed: try {_MORE_POINTS}, another --model, or a smaller part of the scene"
        )
    return None


def _unsure(evidence: Evidence) -> str | None:
    sure = confidence(evidence)
    if sure >= MIN_CONFIDENCE:
        return None
    aspect = ASPECTS[weakest(evidence)]
    return (
        f"the evidence is weak (confidence {sure:.2f}, {MIN_CONFIDENCE:g} is needed), above all "
        f"{aspect.said.format(aspect.shown(evidence.figures()))}, {aspect.shown(typical_figures())} is "
        f"typical of right ones: check that both images show one place; try {aspect.remedy}"
    )


@cache
def _confidence_model() -> dict[str, Any]:
    model: dict[str, Any] = json.loads((files("rrl_register.estimation") / "confidence.json").read_text())
    return model

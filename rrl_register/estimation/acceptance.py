"""Acceptance: the confidence in a transform by its evidence, and the reason for a refusal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any

import numpy as np

from rrl_register.estimation.evidence import MIN_TO_CROSS_VALIDATE, Evidence

MIN_COVERAGE = 0.08
MIN_OVER_CHANCE = 3.0
MAX_CONTROL_RATIO = 0.5
"""Acceptance of control points over that of candidates, from which the network's scores mean nothing on a pair."""
MIN_CONFIDENCE = 0.5

ENOUGH_INLIERS = 100
"""More are no further evidence: a search with more keypoints is not a more confident one."""
ENOUGH_INDEPENDENT = 12
LEAST_SHARE = 0.01
ENOUGH_OVER_CHANCE = 20.0
ENOUGH_MARGIN = 10.0
COARSE_AGREEMENT_PX = 2.0

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Aspect:
    """One aspect of the evidence: a feature of the confidence model, and its wording in refusals and reports.

    Attributes:
        figure: Name of its figure in ``Evidence.figures()``.
        strength: Monotone function of the figure, 0 (no evidence) to 1 (as good as can be); clipped to that range.
        wording: Statement with a place for the figure.
        number: Format of the figure.
        remedy: Options to try if it is weak.
    """

    figure: str
    strength: Callable[[float], float]
    wording: str
    number: str
    remedy: str

    def of(self, figures: Figures) -> float:
        """Return its strength, 0-1; 0 if the figure is not known."""
        value = figures.get(self.figure)
        return 0.0 if value is None else min(max(self.strength(value), 0.0), 1.0)

    def shown(self, figures: Figures) -> str:
        """Return its figure as text."""
        value = figures.get(self.figure)
        return "unknown" if value is None else format(value, self.number)

    def stated(self, figures: Figures) -> str:
        """Return the statement about its figure."""
        return self.wording.format(self.shown(figures))


def _count(enough: int) -> Callable[[float], float]:
    """Return the strength of a number of points, which is 1 from ``enough`` on."""
    return lambda n: math.log1p(min(n, enough)) / math.log1p(enough)


def _inverse_share(share: float) -> float:
    return 1 - share


_MORE_POINTS = "--keypoints 1500"
_OTHER_VIEW = "another --support or other bands (--fixed-bidx, --moving-bidx)"
_OTHER_KIND = "--fixed-kind and --moving-kind, or --weights trained on such images"
_OTHER_MODEL = f"{_MORE_POINTS} or another --model"
_SAME_PLACE = "check that both images show the same place"

ASPECTS = {
    "inliers": Aspect("n_inliers", _count(ENOUGH_INLIERS), "{} inliers", ".0f", _MORE_POINTS),
    "independent": Aspect(
        "n_independent",
        _count(ENOUGH_INDEPENDENT),
        "{} independent inliers, whose correlation windows share less than half",
        ".0f",
        _MORE_POINTS,
    ),
    "share": Aspect(
        "share",
        lambda share: 1 - math.log(max(share, LEAST_SHARE)) / math.log(LEAST_SHARE),
        "{} of the keypoints are inliers",
        ".0%",
        _OTHER_VIEW,
    ),
    "over_chance": Aspect(
        "over_chance",
        lambda times: math.log(max(times, 1)) / math.log(ENOUGH_OVER_CHANCE),
        "inliers are {} times as frequent as by chance",
        ".1f",
        _OTHER_VIEW,
    ),
    "coverage": Aspect("coverage", float, "the inliers cover {} of the overlap", ".0%", _MORE_POINTS),
    "occupied": Aspect("occupied", float, "{} of the blocks of the overlap hold inliers", ".0%", _MORE_POINTS),
    "score": Aspect("mean_score", float, "the mean score of the inliers is {}", ".2f", _OTHER_KIND),
    "score_margin": Aspect(
        "score_margin",
        lambda margin: margin / ENOUGH_MARGIN,
        "candidates score higher than control points by log-odds of {}",
        ".1f",
        _OTHER_KIND,
    ),
    "control_rejection": Aspect(
        "control_acceptance",
        _inverse_share,
        "the network accepts {} of the control points, which are wrong",
        ".0%",
        f"--min-score 0.8, {_OTHER_KIND}",
    ),
    "held_out": Aspect(
        "check_ratio", _inverse_share, "the cross-validation RMSE is {} of the inlier threshold", ".0%", _OTHER_MODEL
    ),
    "agreeing": Aspect(
        "agreeing", float, "{} of the inliers pass the forward-backward check of 1 px", ".0%", _OTHER_VIEW
    ),
    "agreement": Aspect(
        "agreement_px",
        lambda distance: 1 - distance / COARSE_AGREEMENT_PX,
        "the median forward-backward error of the inliers is {} px",
        ".1f",
        _OTHER_VIEW,
    ),
    "certain": Aspect(
        "uncertainty_ratio",
        _inverse_share,
        "the standard error of the transform is {} of the inlier threshold",
        ".0%",
        f"{_MORE_POINTS} or a simpler --model",
    ),
}
FEATURES = tuple(ASPECTS)


def features(figures: Figures) -> list[float]:
    """Return the features of the confidence model, 0-1 each, in the order of ``FEATURES``; more is better.

    Args:
        figures: ``Evidence.figures()``.
    """
    return [aspect.of(figures) for aspect in ASPECTS.values()]


def confidence(evidence: Evidence) -> float:
    """Return the probability, 0-1, that the transform is right, by a logistic model of the evidence.

    The model is fitted by ``pipelines/calibrate_confidence.py`` on registrations of training pairs with known answers,
    with no coefficient below 0: more evidence never lowers the confidence.
    """
    if evidence.implausible or not evidence.n_inliers:
        return 0.0
    model = _confidence_model()
    weighted = zip(FEATURES, features(evidence.figures()), strict=True)
    logit = model["intercept"] + sum(model["coefficients"][name] * value for name, value in weighted)
    return 1 / (1 + math.exp(-logit))


def typical_figures() -> Figures:
    """Return the figures that are typical of right registrations, by name."""
    typical: Figures = _confidence_model()["typical"]
    return typical


def weakest(evidence: Evidence) -> str:
    """Return the feature, of ``FEATURES``, that lowers the confidence most against a typical right registration."""
    model = _confidence_model()
    short = np.subtract(features(typical_figures()), features(evidence.figures()))
    return FEATURES[int(np.argmax(short * [model["coefficients"][name] for name in FEATURES]))]


def refusal(evidence: Evidence, min_inliers: int, max_check_rmse_px: float) -> str | None:
    """Return the reason why the evidence is too weak, in one line with options to try; None if it is enough.

    The first shortfall is reported: first of the tie points, then of their number, agreement, spread and precision.

    Args:
        evidence: The evidence for the transform.
        min_inliers: Least number of inliers.
        max_check_rmse_px: Largest cross-validation RMSE.
    """
    shortfalls = chain(_too_few(evidence, min_inliers), _by_chance(evidence), _inaccurate(evidence, max_check_rmse_px))
    shortfall = next(shortfalls, None)
    if shortfall or (certainty := confidence(evidence)) >= MIN_CONFIDENCE:
        return shortfall
    aspect = ASPECTS[weakest(evidence)]
    return (
        f"the evidence is weak: confidence {certainty:.2f}, at least {MIN_CONFIDENCE:g} is needed; weakest: "
        f"{aspect.stated(evidence.figures())} (typical of right registrations: {aspect.shown(typical_figures())}): "
        f"{_SAME_PLACE}; try {aspect.remedy}"
    )


def refusal_without_transform(n_candidates: int, n_tie_points: int) -> str:
    """Return the reason why there is no transform, in one line with options to try.

    Args:
        n_candidates: Pairs that the network scored, in all searches together.
        n_tie_points: Those that it accepted.
    """
    return (
        f"no transform could be estimated: the network accepted {n_tie_points} of {n_candidates} candidates, in no "
        f"search enough for a fit: {_SAME_PLACE}; try {_MORE_POINTS}, {_OTHER_VIEW}, or {_OTHER_KIND}"
    )


def _too_few(evidence: Evidence, min_inliers: int) -> Iterator[str]:
    if evidence.n_tie_points < min_inliers:
        yield (
            f"the network accepted {evidence.n_tie_points} of {evidence.n_points} candidates, at least {min_inliers} "
            f"are needed: {_SAME_PLACE}; try {_OTHER_VIEW}, or {_OTHER_KIND}"
        )
    if evidence.n_inliers < min_inliers:
        yield (
            f"{evidence.n_inliers} inliers among {evidence.n_tie_points} tie points, at least {min_inliers} are "
            f"needed: {_SAME_PLACE}; try {_MORE_POINTS}, or {_OTHER_VIEW}"
        )


def _by_chance(evidence: Evidence) -> Iterator[str]:
    if evidence.implausible:
        yield f"{evidence.implausible}: {_SAME_PLACE}; try to narrow the search with --max-shift"
    accepted = evidence.n_tie_points / max(1, evidence.n_points)
    if evidence.control_acceptance > MAX_CONTROL_RATIO * accepted:
        yield (
            f"the network accepts {evidence.control_acceptance:.0%} of the control points, which are wrong, and "
            f"{accepted:.0%} of the candidates, at most {MAX_CONTROL_RATIO:g} times the latter is allowed: "
            f"try --min-score 0.8, {_OTHER_KIND}"
        )
    if evidence.over_chance < MIN_OVER_CHANCE:
        yield (
            f"inliers are only {evidence.over_chance:.1f} times as frequent as by chance, at least "
            f"{MIN_OVER_CHANCE:g} times is needed: {_SAME_PLACE}; try {_OTHER_VIEW}"
        )


def _inaccurate(evidence: Evidence, max_check_rmse_px: float) -> Iterator[str]:
    if evidence.coverage < MIN_COVERAGE:
        yield (
            f"the inliers cover {evidence.coverage:.0%} of the overlap, at least {MIN_COVERAGE:.0%} is needed: "
            f"try {_MORE_POINTS}, or a part of the scene with structure all over"
        )
    if evidence.uncertainty_ratio > 1:
        yield (
            f"the mean standard error of the transform over the overlap is {evidence.uncertainty_ratio:.1f} times the "
            f"inlier threshold, at most once is allowed: try {_MORE_POINTS}, a simpler --model, or a part of the scene "
            "with structure all over"
        )
    if math.isnan(evidence.check_rmse_px):
        yield (
            f"{evidence.n_inliers} inliers are too few for cross-validation, at least {MIN_TO_CROSS_VALIDATE} are "
            f"needed, spread over the overlap: try {_MORE_POINTS}, or a simpler --model"
        )
    if evidence.check_rmse_px > max_check_rmse_px:
        yield (
            f"the cross-validation RMSE is {evidence.check_rmse_px:.1f} px, at most {max_check_rmse_px:g} px is "
            f"allowed: try {_MORE_POINTS}, another --model, or a smaller part of the scene"
        )


@cache
def _confidence_model() -> dict[str, Any]:
    model: dict[str, Any] = json.loads((files("rrl_register.estimation") / "confidence.json").read_text())
    return model

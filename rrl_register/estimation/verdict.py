"""The verdict: whether tie points prove a transform, or could have come about by chance."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.estimation.displacement import AnyFit
from rrl_register.estimation.ransac import held_out_rmse
from rrl_register.estimation.transforms import Matrix, is_sane

MIN_COVERAGE = 0.08
MIN_OVER_CHANCE = 3.0
MIN_CONFIDENCE = 0.5


@dataclass(frozen=True)
class Evidence:
    """What speaks for a transform.

    Attributes:
        n_points: Keypoints that the last search tried to tie.
        n_tie_points: Those that the network accepted a place for.
        n_inliers: Those that agree with the transform.
        over_chance: Share of inliers over the share that would fall within the threshold if tie points were spread
            over their search area at random.
        coverage: Area of the inliers' convex hull over the area that both images cover, 0-1.
        rmse_px: Root mean square of the inliers' residuals, fixed px.
        check_rmse_px: The same for points kept out of the fit; NaN where there are too few to try.
        mean_score: Mean probability that the network gives the inliers.
        implausible: Why no two images of one place lie to each other like this, or None.
    """

    n_points: int
    n_tie_points: int
    n_inliers: int
    over_chance: float
    coverage: float
    rmse_px: float
    check_rmse_px: float
    mean_score: float
    implausible: str | None

    @property
    def share(self) -> float:
        """Inliers over keypoints tried, 0-1."""
        return self.n_inliers / max(1, self.n_points)

    @property
    def precision(self) -> float:
        """Inliers over tie points, 0-1."""
        return self.n_inliers / max(1, self.n_tie_points)

    def figures(self) -> dict[str, float | None]:
        """The numbers that the confidence is made of; None for what is not known."""
        known = {
            "n_points": self.n_points,
            "share": self.share,
            "precision": self.precision,
            "over_chance": self.over_chance,
            "coverage": self.coverage,
            "mean_score": self.mean_score,
        }
        return {name: round(value, 4) if np.isfinite(value) else None for name, value in known.items()}


def gather_evidence(
    matrix: Matrix,
    fixed: NDArray[np.float64],
    moving: NDArray[np.float64],
    score: NDArray[np.float64],
    residual: NDArray[np.float64],
    *,
    fit: AnyFit,
    n_points: int,
    threshold: float,
    radius: float,
    overlap_px: float,
    moving_shape: tuple[int, int],
) -> Evidence:
    """Weighs a transform against the tie points of a search that could have contradicted it.

    Args:
        matrix: ``(3, 3)`` moving -> fixed.
        fixed: ``(N, 2)`` tie points.
        moving: ``(N, 2)`` the same places in the moving image.
        score: ``(N,)`` probabilities by the network.
        residual: ``(N,)`` their residuals under the transform, a displacement included, fixed px.
        fit: Least-squares fit of the model that the transform was fitted as; the check error is this model's.
        n_points: Keypoints that were tried.
        threshold: Largest residual of an inlier.
        radius: Half the side of the square that was searched for each tie point.
        overlap_px: Area that both images cover, fixed px.
        moving_shape: ``(H, W)`` of the moving image.
    """
    inlier = residual <= threshold
    n = int(inlier.sum())
    chance = min(1.0, np.pi * threshold**2 / (2 * radius + 1) ** 2)
    check = held_out_rmse(moving[inlier], fixed[inlier], fit=fit) if n >= 10 else float("nan")
    return Evidence(
        n_points=n_points,
        n_tie_points=len(fixed),
        n_inliers=n,
        over_chance=n / max(1, len(fixed)) / chance,
        coverage=_hull_area(fixed[inlier]) / max(1.0, overlap_px),
        rmse_px=float(np.sqrt(np.mean(residual[inlier] ** 2))) if n else float("nan"),
        check_rmse_px=check,
        mean_score=float(score[inlier].mean()) if n else 0.0,
        implausible=is_sane(matrix, moving_shape),
    )


def refusal(evidence: Evidence, min_inliers: int, max_check_rmse_px: float) -> str | None:
    """Why the evidence does not carry a registration, in one line with what to try; None if it does.

    Args:
        evidence: What speaks for the transform.
        min_inliers: Tie points that have to agree with it.
        max_check_rmse_px: What the check error may be.
    """
    if evidence.n_inliers < min_inliers:
        return (
            f"{evidence.n_inliers} of {evidence.n_tie_points} tie points agree on a transform, {min_inliers} are "
            "needed: check that both images show one place; try --keypoints 1500, another --support or other bands"
        )
    if evidence.implausible:
        return f"{evidence.implausible}: check that both images show one place, or narrow the search with --max-shift"
    if evidence.over_chance < MIN_OVER_CHANCE:
        return (
            f"tie points agree only {evidence.over_chance:.1f} times as often as by chance, {MIN_OVER_CHANCE:g} times "
            "is needed: check that both images show one place; try another --support or other bands"
        )
    if evidence.coverage < MIN_COVERAGE:
        return (
            f"the inliers span {evidence.coverage:.0%} of the overlap, {MIN_COVERAGE:.0%} is needed: "
            "try --keypoints 1500, or a part of the scene with structure all over"
        )
    if np.isnan(evidence.check_rmse_px):
        return (
            f"the {evidence.n_inliers} inliers are too few to keep some out of the fit and test it: "
            "try --keypoints 1500, or a stiffer --model"
        )
    if evidence.check_rmse_px > max_check_rmse_px:
        return (
            f"points kept out of the fit miss it by {evidence.check_rmse_px:.1f} px, at most "
            f"{max_check_rmse_px:g} px is needed: try --keypoints 1500, or a smaller part of the scene"
        )
    if confidence(evidence) < MIN_CONFIDENCE:
        return (
            f"the evidence is weak (confidence {confidence(evidence):.2f}, {MIN_CONFIDENCE:g} is needed; "
            f"{evidence.n_inliers} inliers, {evidence.over_chance:.1f} times chance, {evidence.coverage:.0%} of the "
            "overlap): check that both images show one place; try another --support or other bands"
        )
    return None


ENOUGH_INLIERS = 100
"""More prove nothing more: a search with more keypoints is not a surer one."""
FEATURES = ("log_inliers", "log_share", "log_precision", "coverage", "mean_score")


def features(figures: dict[str, float | None]) -> list[float]:
    """What the confidence model sees of the evidence, in the order of ``FEATURES``.

    Args:
        figures: ``Evidence.figures()`` and ``n_inliers``.
    """
    share, precision = figures["share"] or 0.0, figures["precision"] or 0.0
    return [
        math.log(1 + min(figures["n_inliers"] or 0, ENOUGH_INLIERS)),
        math.log(share + 0.01),
        math.log(precision + 0.01),
        figures["coverage"] or 0.0,
        figures["mean_score"] or 0.0,
    ]


def confidence(evidence: Evidence) -> float:
    """Probability, 0-1, that the transform is right, by a logistic model of the evidence.

    The model is fitted by ``pipelines/calibrate_confidence.py`` on registrations of training pairs with known answers.
    """
    if evidence.implausible or not evidence.n_inliers:
        return 0.0
    model = _confidence_model()
    seen = features(evidence.figures() | {"n_inliers": evidence.n_inliers})
    logit = model["intercept"] + sum(
        model["coefficients"][name] * value for name, value in zip(FEATURES, seen, strict=True)
    )
    return 1 / (1 + math.exp(-logit))


@cache
def _confidence_model() -> dict[str, Any]:
    model: dict[str, Any] = json.loads((files("rrl_register.estimation") / "confidence.json").read_text())
    return model


def _hull_area(points: NDArray[np.float64]) -> float:
    if len(points) < 3:
        return 0.0
    return float(cv2.contourArea(cv2.convexHull(points.astype(np.float32))))

"""The evidence: figures that tell tie points which prove a transform from those that came about by chance."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.estimation.ransac import held_out_rmse
from rrl_register.geometry.arrays import Mask, Matrix
from rrl_register.geometry.displacement import AnyFit
from rrl_register.geometry.tie_points import AGREEMENT_PX, Matches
from rrl_register.geometry.transforms import implausibility

MIN_TO_HOLD_OUT = 10
"""Inliers from which some can be kept out of the fit."""
_GRID = 5
"""Blocks along each axis that the overlap is cut into."""
_MIN_BLOCK = 0.25
"""Share of a block that has to overlap for inliers to be missed in it."""


@dataclass(frozen=True)
class Evidence:
    """What speaks for a transform. Figures that could not be measured are NaN.

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
        check_ratio: ``check_rmse_px`` over the inlier threshold.
        occupied: Share of the blocks of the overlap, five along each axis, that hold inliers, 0-1.
        score_margin: How far the network prefers candidates over wrong places beside them, mean log-odds.
        control_acceptance: Share of those wrong places that the network accepts, 0-1.
        agreeing: Share of the inliers that the search back finds within 1 px of where they started, 0-1.
        agreement_px: Median distance between forward and backward search of the inliers that were found back, fixed px.
        uncertainty_ratio: Standard error of where the transform puts a point of the overlap, mean, over the inlier
            threshold.
        n_independent: Inliers that are left where no two may share half of their correlation windows or more: where
            one structure fits by chance, as one street grid does another, all points near it agree.
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
    check_ratio: float = float("nan")
    occupied: float = float("nan")
    score_margin: float = float("nan")
    control_acceptance: float = float("nan")
    agreeing: float = float("nan")
    agreement_px: float = float("nan")
    uncertainty_ratio: float = float("nan")
    n_independent: int = 0

    @property
    def share(self) -> float:
        """Inliers over keypoints tried, 0-1."""
        return self.n_inliers / max(1, self.n_points)

    @property
    def precision(self) -> float:
        """Inliers over tie points, 0-1."""
        return self.n_inliers / max(1, self.n_tie_points)

    def figures(self, px: float = 1.0) -> dict[str, float | None]:
        """The numbers that the verdict is made of; None for what is not known.

        Args:
            px: Length of a fixed px in the unit that distances are wanted in.
        """
        known = {
            "n_points": self.n_points,
            "n_inliers": self.n_inliers,
            "n_independent": self.n_independent,
            "share": self.share,
            "precision": self.precision,
            "over_chance": self.over_chance,
            "coverage": self.coverage,
            "occupied": self.occupied,
            "mean_score": self.mean_score,
            "score_margin": self.score_margin,
            "control_acceptance": self.control_acceptance,
            "check_ratio": self.check_ratio,
            "agreeing": self.agreeing,
            "agreement_px": px * self.agreement_px,
            "uncertainty_ratio": self.uncertainty_ratio,
        }
        return {name: round(value, 4) if np.isfinite(value) else None for name, value in known.items()}


def gather_evidence(
    matrix: Matrix,
    matches: Matches,
    residual: NDArray[np.float64],
    *,
    fit: AnyFit,
    threshold: float,
    radius: float,
    overlap: Mask,
    moving_shape: tuple[int, int],
    window_half: int = 0,
    uncertainty_px: float = float("nan"),
    overlap_factor: float = 1.0,
) -> Evidence:
    """Weighs a transform against the tie points of a search that could have contradicted it.

    Args:
        matrix: ``(3, 3)`` moving -> fixed.
        matches: What the search gave, ``N`` tie points among it.
        residual: ``(N + V,)`` residuals of ``matches.all_points`` under the transform, fixed px. The unscored ones tell
            how well it fits, and nothing of whether it is right.
        fit: Least-squares fit of the model that ``matrix`` was fitted as; the check error is this model's.
        threshold: Largest residual of an inlier.
        radius: Half the side of the square that was searched for each tie point.
        overlap: ``(H, W)`` where both images hold data, on the fixed image's pixels.
        moving_shape: ``(H, W)`` of the moving image.
        window_half: Half the side of the window that is correlated for a tie point, fixed px; 0: tie points that were
            set one by one.
        uncertainty_px: Mean standard error of where the transform puts a point of the overlap; NaN if not known.
        overlap_factor: Fixed px per px of ``overlap``.
    """
    points, controls = matches.tie_points, matches.controls
    inlier = residual[: len(points)] <= threshold
    n, fixed = int(inlier.sum()), points.fixed[inlier]
    chance = min(1.0, np.pi * threshold**2 / (2 * radius + 1) ** 2)
    explained = matches.all_points.at(residual <= threshold)
    check = held_out_rmse(explained.moving, explained.fixed, fit=fit) if n >= MIN_TO_HOLD_OUT else float("nan")
    agreeing, agreement_px = _agreement(None if points.agreement_px is None else points.agreement_px[inlier])
    return Evidence(
        n_points=matches.n_fixed,
        n_tie_points=len(points),
        n_inliers=n,
        over_chance=n / max(1, len(points)) / chance,
        coverage=_hull_area(fixed) / (max(1, int(overlap.sum())) * overlap_factor**2),
        rmse_px=float(np.sqrt(np.mean(residual[residual <= threshold] ** 2))) if n else float("nan"),
        check_rmse_px=check,
        mean_score=float(points.score[inlier].mean()) if n else 0.0,
        implausible=implausibility(matrix, moving_shape),
        check_ratio=check / threshold,
        occupied=_occupied(fixed, overlap, overlap_factor),
        score_margin=controls.margin if controls else float("nan"),
        control_acceptance=controls.acceptance if controls else float("nan"),
        agreeing=agreeing,
        agreement_px=agreement_px,
        uncertainty_ratio=uncertainty_px / threshold,
        n_independent=_n_independent(fixed, window_half),
    )


def _n_independent(points: NDArray[np.float64], apart: float) -> int:
    """How many of the points remain where each is dropped that lies nearer (chessboard) to one before it."""
    left, n = points, 0
    while len(left):
        left = left[np.abs(left - left[0]).max(axis=1) >= max(apart, 1)]
        n += 1
    return n


def _agreement(distance: NDArray[np.float64] | None) -> tuple[float, float]:
    """Share of points found back where they started, and the median distance of those found back; NaN for unknown."""
    if distance is None or not len(distance):
        return float("nan"), float("nan")
    known = distance[np.isfinite(distance)]
    return float(np.mean(distance <= AGREEMENT_PX)), float(np.median(known)) if len(known) else float("nan")


def _hull_area(points: NDArray[np.float64]) -> float:
    if len(points) < 3:
        return 0.0
    return float(cv2.contourArea(cv2.convexHull(points.astype(np.float32))))


def _occupied(points: NDArray[np.float64], overlap: Mask, factor: float) -> float:
    """Share of the blocks of the overlap's bounding box that hold points; blocks with little overlap do not count."""
    if not overlap.any():
        return 0.0
    left, top, width, height = cv2.boundingRect(overlap.astype(np.uint8))
    within = overlap[top : top + height, left : left + width].astype(np.float32)
    counts = cv2.resize(within, (_GRID, _GRID), interpolation=cv2.INTER_AREA) >= _MIN_BLOCK
    edges = [(start * factor - 0.5, (start + side) * factor - 0.5) for start, side in ((top, height), (left, width))]
    held, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=_GRID, range=edges)
    return float((held[counts] > 0).mean()) if counts.any() else 0.0

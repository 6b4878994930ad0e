"""Evidence: figures that distinguish tie points of a right transform from tie points that agree by chance."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from rrl_register.estimation.cross_validation import cross_validation_rmse
from rrl_register.geometry.arrays import Flags, Floats, Mask, Matrix, Points
from rrl_register.geometry.displacement import AnyFit
from rrl_register.geometry.tie_points import AGREEMENT_PX, Matches
from rrl_register.geometry.transforms import Georeferences, implausibility

MIN_TO_CROSS_VALIDATE = 10
"""Inliers from which cross-validation is worth trying."""
BLOCKS = 5
"""Blocks along each axis that the overlap is cut into."""
_MIN_OVERLAP = 0.25
"""Share of a block that has to overlap for it to count."""
_NAN = float("nan")
_FIGURES = (
    *("n_points", "n_inliers", "n_independent", "share", "precision", "over_chance", "coverage", "occupied"),
    *("mean_score", "score_margin", "control_acceptance", "check_ratio", "agreeing", "agreement_px"),
    "uncertainty_ratio",
)


@dataclass(frozen=True)
class Evidence:
    """Evidence for a transform. Figures that could not be measured are NaN.

    Attributes:
        n_points: Keypoints of the last search.
        n_tie_points: Keypoints with a place that the network accepted.
        n_inliers: Tie points within the threshold of the transform.
        over_chance: Share of inliers over the share that would fall within the threshold if tie points were spread
            over their search area at random.
        coverage: Area of the inliers' convex hull over the area that both images cover, 0-1.
        rmse_px: Root mean square of the inliers' residuals, fixed px.
        check_rmse_px: Cross-validation RMSE, fixed px; NaN if there are too few inliers.
        mean_score: Mean score of the inliers by the network.
        implausible: Reason why no two images of one place are related by such a transform, or None.
        check_ratio: ``check_rmse_px`` over the inlier threshold.
        occupied: Share of the blocks of the overlap, five along each axis, that hold inliers, 0-1.
        score_margin: Mean difference in log-odds between candidates and control points.
        control_acceptance: Share of the control points, which are wrong, that the network accepts.
        agreeing: Share of the inliers that pass the forward-backward check of 1 px, 0-1.
        agreement_px: Median forward-backward error of the inliers whose backward search found a place, fixed px.
        uncertainty_ratio: Mean standard error of the transform over the overlap, over the inlier threshold.
        n_independent: Inliers left if no two may share half of their correlation windows or more: where one structure
            fits by chance, as one street grid does another, all points near it agree.
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
    check_ratio: float = _NAN
    occupied: float = _NAN
    score_margin: float = _NAN
    control_acceptance: float = _NAN
    agreeing: float = _NAN
    agreement_px: float = _NAN
    uncertainty_ratio: float = _NAN
    n_independent: int = 0

    @property
    def share(self) -> float:
        """Inliers over keypoints, 0-1."""
        return self.n_inliers / max(1, self.n_points)

    @property
    def precision(self) -> float:
        """Inliers over tie points, 0-1."""
        return self.n_inliers / max(1, self.n_tie_points)

    def figures(self, px: float = 1.0) -> dict[str, float | None]:
        """Return the figures that the acceptance is based on; None for those that are not known.

        Args:
            px: Length of a fixed px in the unit of the distances to be returned.
        """
        known = {name: getattr(self, name) * (px if name == "agreement_px" else 1) for name in _FIGURES}
        return {name: round(value, 4) if np.isfinite(value) else None for name, value in known.items()}


def gather_evidence(
    matrix: Matrix,
    matches: Matches,
    residual: Floats,
    *,
    fit: AnyFit,
    threshold: float,
    radius: float,
    overlap: Mask,
    moving_shape: tuple[int, int],
    window_half: int = 0,
    uncertainty_px: float = _NAN,
    overlap_factor: float = 1.0,
    after: Georeferences | None = None,
) -> Evidence:
    """Measure the evidence for a transform in the tie points of a search that could have contradicted it.

    Args:
        matrix: ``(3, 3)`` moving -> fixed.
        matches: The result of the search, with ``N`` accepted tie points and ``V`` unscored ones.
        residual: ``(N + V,)`` residuals of ``matches.all_points``, fixed px; the unscored ones show the fit alone.
        fit: Least-squares fit of the model that ``matrix`` was fitted as, for the cross-validation.
        threshold: Largest residual of an inlier.
        radius: Half the side of the square that was searched for each tie point.
        overlap: ``(H, W)`` where both images hold data, on the fixed image's pixels.
        moving_shape: ``(H, W)`` of the moving image.
        window_half: Half the side of the window that is correlated for a tie point, fixed px; 0: tie points that were
            set one by one.
        uncertainty_px: Mean standard error of the transform over the overlap; NaN if not known.
        overlap_factor: Fixed px per px of ``overlap``.
        after: Georeferences of both images; None: at least one has none.
    """
    points, controls = matches.tie_points, matches.controls
    inlier = residual[: len(points)] <= threshold
    n, fixed = int(inlier.sum()), points.fixed[inlier]
    chance = min(1.0, np.pi * threshold**2 / (2 * radius + 1) ** 2)
    explained = matches.all_points.at(residual <= threshold)
    check = cross_validation_rmse(explained.moving, explained.fixed, fit) if n >= MIN_TO_CROSS_VALIDATE else _NAN
    agreement = points.agreement_px[inlier] if points.agreement_px is not None and n else None
    found = np.empty(0) if agreement is None else agreement[np.isfinite(agreement)]
    hull_area = float(cv2.contourArea(cv2.convexHull(fixed.astype(np.float32)))) if n >= 3 else 0.0
    return Evidence(
        n_points=matches.n_fixed,
        n_tie_points=len(points),
        n_inliers=n,
        over_chance=n / max(1, len(points)) / chance,
        coverage=hull_area / (max(1, int(overlap.sum())) * overlap_factor**2),
        rmse_px=float(np.sqrt(np.mean(residual[residual <= threshold] ** 2))) if n else _NAN,
        check_rmse_px=check,
        mean_score=float(points.score[inlier].mean()) if n else 0.0,
        implausible=implausibility(matrix, moving_shape, after),
        check_ratio=check / threshold,
        occupied=_occupied(fixed, overlap, overlap_factor),
        score_margin=controls.margin if controls else _NAN,
        control_acceptance=controls.acceptance if controls else _NAN,
        agreeing=_NAN if agreement is None else float(np.mean(agreement <= AGREEMENT_PX)),
        agreement_px=float(np.median(found)) if len(found) else _NAN,
        uncertainty_ratio=uncertainty_px / threshold,
        n_independent=_n_independent(fixed, window_half),
    )


def _n_independent(points: Points, apart: float) -> int:
    """Return the number of points left if each is dropped that lies nearer (chessboard) to one before it."""
    left, n = points, 0
    while len(left):
        left = left[np.abs(left - left[0]).max(axis=1) >= max(apart, 1)]
        n += 1
    return n


def _occupied(points: Points, overlap: Mask, factor: float) -> float:
    """Return the share of the overlap's blocks, except those of little overlap, that hold points."""
    (left, top, width, height), counts = overlap_blocks(overlap)
    if not counts.any():
        return 0.0
    edges = [(start * factor - 0.5, (start + side) * factor - 0.5) for start, side in ((top, height), (left, width))]
    held, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=BLOCKS, range=edges)
    return float((held[counts] > 0).mean())


def overlap_blocks(overlap: Mask) -> tuple[tuple[int, int, int, int], Flags]:
    """Cut the overlap's bounding box into 5 x 5 blocks; return it (left, top, width, height) and those that count."""
    left, top, width, height = cv2.boundingRect(overlap.astype(np.uint8))
    if not (width and height):
        return (left, top, width, height), np.zeros((BLOCKS, BLOCKS), bool)
    within = overlap[top : top + height, left : left + width].astype(np.float32)
    share = np.asarray(cv2.resize(within, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA))
    return (left, top, width, height), share >= _MIN_OVERLAP

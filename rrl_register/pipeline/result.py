"""Build the result of a registration out of an estimate, and time its stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from rrl_register.config import EstimateConfig
from rrl_register.estimation.cross_validation import in_file_px, matrix_covariance
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.tie_points import TiePoints, no_tie_points
from rrl_register.matching.estimate import Estimate
from rrl_register.matching.image_pair import ImagePair
from rrl_register.matching.strategy import Counts

Watch = Callable[[str], None]


class StageClock:
    """Adds up the seconds of named stages.

    Args:
        watch: Called with the name of each stage as it begins.
    """

    def __init__(self, watch: Watch | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._watch = watch
        self._within = 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a block; the seconds of a stage within a stage count for the inner one alone."""
        if self._watch:
            self._watch(name)
        outer, self._within = self._within, 0.0
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed - self._within
            self._within = outer + elapsed


class ScoredBy(NamedTuple):
    """The network that scored tie points.

    Attributes:
        device: Where it ran.
        weights: Name of its weights.
        support_px: Ground under a patch, px at matching resolution.
    """

    device: str
    weights: str
    support_px: int


def build_registration(
    pair: ImagePair,
    estimate: Estimate | None,
    refusal: str | None,
    config: EstimateConfig,
    *,
    counts: Counts,
    confidence: float | None,
    seconds: dict[str, float],
    network: ScoredBy | None = None,
    tie_points: TiePoints | None = None,
) -> Registration:
    """Build a result, in pixels of the files.

    Args:
        pair: The images.
        estimate: The best transform, accepted or not; None if there is none.
        refusal: Reason for which it is not accepted; None if it is.
        config: Settings of the estimation.
        counts: Keypoints tried and pairs scored.
        confidence: Probability that the transform is right; None if nothing tested it.
        seconds: Time by stage.
        network: What scored the tie points; None if nothing did.
        tie_points: The estimate's tie points in pixels of the files, if they are known; None: compute them.
    """
    frames, evidence = (estimate.frames, estimate.evidence) if estimate else (pair.frames, None)
    accepted = estimate if refusal is None else None
    transform = frames.to_files(accepted.transform) if accepted else None
    covariance = None
    # The matrix's errors are tied to those of a displacement, if there is one.
    if accepted and accepted.transform.displacement is None:
        covariance = matrix_covariance([frames.to_files(fit) for fit in accepted.replicates])
    if tie_points is None:
        tie_points = frames.tie_points_to_files(estimate.matches.all_points) if estimate else no_tie_points()
    inlier = estimate.residual <= config.threshold if estimate else np.zeros(len(tie_points), bool)
    device, weights, support_px = network or (None, None, None)
    return Registration(
        status="ok" if refusal is None else "failed",
        reason=refusal or "",
        model=estimate.model.value if estimate else None,
        matrix=transform.matrix if transform else None,
        n_keypoints_fixed=counts.n_fixed,
        n_keypoints_moving=counts.n_moving,
        n_candidates=counts.n_candidates,
        n_tie_points=len(tie_points),
        n_inliers=int(inlier.sum()),
        rmse_px=frames.in_file_px(evidence.rmse_px if evidence else None),
        check_rmse_px=frames.in_file_px(evidence.check_rmse_px if evidence else None),
        confidence=confidence,
        evidence=evidence.figures(frames.fixed.factor) if evidence else {},
        seconds=seconds,
        device=device,
        weights=weights,
        fixed_kind=pair.fixed.kind.value,
        moving_kind=pair.moving.kind.value,
        support_px=support_px,
        fixed_grid=pair.fixed.grid,
        moving_grid=pair.moving.grid,
        tie_points=tie_points,
        rejected=frames.tie_points_to_files(estimate.matches.rejected) if estimate else no_tie_points(),
        inlier=inlier,
        displacement=transform.displacement if transform else None,
        uncertainty_px=in_file_px(estimate.uncertainty, frames.fixed.factor) if estimate else None,
        covariance=covariance,
    )

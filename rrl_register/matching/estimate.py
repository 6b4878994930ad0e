"""From tie points to an estimate: the transform, what speaks for it, and how far off it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import EstimateConfig
from rrl_register.estimation.acceptance import confidence, refusal
from rrl_register.estimation.displaced_models import DisplacedModel
from rrl_register.estimation.evidence import Evidence, gather_evidence
from rrl_register.estimation.model_selection import Candidate, ModelFit, choose_model
from rrl_register.estimation.ransac import Model, biweight
from rrl_register.estimation.uncertainty import Uncertainty, replicates, uncertainty
from rrl_register.geometry.arrays import Mask, Matrix
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.pixel_frame import Frames
from rrl_register.geometry.tie_points import Matches, TiePoints
from rrl_register.geometry.transforms import rescale_matrix
from rrl_register.matching.descriptor_matching import MatchingContext

PROVEN_INLIERS = (10, 15)
PROVEN_SHARE = 0.3
PROVEN_PRECISION = 0.5
"""Inliers, at least and at most, their share of the keypoints that the network was asked about, and of the tie points,
at which a glance is enough: a wrong start reaches a third of either."""


@dataclass(frozen=True)
class Estimate:
    """A transform with the search that speaks for it.

    All lengths are in the pixels that the tie points were measured in: those of the scene, or smaller ones.

    Attributes:
        scene: The pair, at the resolution that the search began at.
        model: What was fitted, on top of the pair's prior.
        transform: Moving px -> fixed px.
        matches: The last pass.
        residual: ``(N,)`` of all its tie points, fixed px.
        evidence: What the pass says of the transform.
        replicates: The same model fitted without each block of the scene; empty where that cannot be done.
        uncertainty: How far off the transform may put a point, fixed px; None where it is not known.
        step: Pixels of the estimate along one of the scene.
    """

    scene: MatchingContext
    model: Model | DisplacedModel
    transform: Transform
    matches: Matches
    residual: NDArray[np.float64]
    evidence: Evidence
    replicates: tuple[Transform, ...]
    uncertainty: Uncertainty | None
    step: float = 1.0

    @property
    def matrix(self) -> Matrix:
        """``(3, 3)`` matrix of the transform."""
        return self.transform.matrix

    @property
    def frames(self) -> Frames:
        """Where the estimate's pixels lie in the files."""
        return self.scene.pair.frames.finer(self.step)

    @property
    def confidence(self) -> float:
        """Probability that the transform is right."""
        return confidence(self.evidence)

    def accepted(self, config: EstimateConfig) -> bool:
        """Whether the evidence is enough for the verdict."""
        return refusal(self.evidence, config.min_inliers, config.threshold) is None

    @property
    def proven(self) -> bool:
        """Whether no other start needs to be tried."""
        evidence = self.evidence
        needed = np.clip(PROVEN_SHARE * evidence.n_points, *PROVEN_INLIERS)
        enough = evidence.n_inliers >= needed and evidence.precision >= PROVEN_PRECISION
        return bool(enough and not evidence.implausible)


def estimate_from(
    scene: MatchingContext,
    matches: Matches,
    config: EstimateConfig,
    models: Sequence[Candidate],
    radius: int,
    step: float = 1.0,
) -> Estimate | None:
    """Fits the tie points of a pass and gathers what speaks for the fit.

    Args:
        scene: The pair.
        matches: What the pass gave.
        config: Of the estimation.
        models: Candidates, from stiff to flexible.
        radius: How far along x and y the pass searched, px of the tie points.
        step: Pixels that the tie points are measured in along one pixel of the scene.

    Returns:
        The estimate; None if the points determine none of the models.
    """
    points = matches.fitted
    prior = rescale_matrix(scene.pair.prior, 1 / step, 1 / step)
    fit = choose_model(points.moving, points.fixed, config.threshold, models, points.score, prior, config.seed)
    if fit is None:
        return None
    tied = matches.all_points
    residual = fit.transform.residuals(tied.moving, tied.fixed)
    overlap = _overlap(scene, rescale_matrix(fit.matrix, step, step))
    fits = _replicates(fit, points, config.threshold)
    spread = uncertainty(fit.transform, fits, overlap, step)
    height, width = scene.pair.moving.shape
    evidence = gather_evidence(
        fit.matrix,
        matches,
        residual,
        fit=fit.fit,
        threshold=config.threshold,
        radius=radius,
        overlap=overlap,
        moving_shape=(round(height * step), round(width * step)),
        window_half=scene.correlation_half,
        uncertainty_px=spread.mean if spread else float("nan"),
        overlap_factor=step,
    )
    return Estimate(scene, fit.model, fit.transform, matches, residual, evidence, fits, spread, step)


def _overlap(scene: MatchingContext, matrix: Matrix) -> Mask:
    """Where both images hold data, on the fixed image's pixels."""
    return scene.pair.covered(matrix) & scene.pair.fixed_valid


def _replicates(fit: ModelFit, fitted: TiePoints, threshold: float) -> tuple[Transform, ...]:
    """The fit without each block of the scene, on its inliers among the points that it was made on."""
    residual = fit.transform.residuals(fitted.moving, fitted.fixed)
    weights = fitted.score * biweight(residual, threshold)
    kept = fit.inliers
    return replicates(fitted.moving[kept], fitted.fixed[kept], weights[kept], fit.fit)

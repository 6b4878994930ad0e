"""From tie points to an estimate: the transform, the evidence for it, and its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import EstimateConfig
from rrl_register.estimation import acceptance
from rrl_register.estimation.cross_validation import Uncertainty, replicates, uncertainty
from rrl_register.estimation.evidence import Evidence, gather_evidence
from rrl_register.estimation.model_selection import Candidate, choose_model
from rrl_register.estimation.robust_fits import DisplacedModel, Model, biweight
from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.tie_points import Matches
from rrl_register.geometry.transforms import rescale_matrix
from rrl_register.geometry.window import Frames
from rrl_register.matching.image_pair import ImagePair
from rrl_register.matching.search_config import SEARCH, Certainty


@dataclass(frozen=True)
class Estimate:
    """A transform with the evidence for it.

    All lengths are in the pixels in which the tie points were measured: those of the pair, or smaller ones.

    Attributes:
        pair: The images, at the resolution at which the search began.
        model: Model that was fitted, on top of the pair's prior.
        transform: Moving px -> fixed px.
        matches: The tie points and rejected candidates that it was fitted to and tested on.
        residual: ``(N,)`` residuals of all tie points, fixed px.
        evidence: Figures for and against the transform.
        replicates: The model fitted without each block of the scene; empty if that is impossible.
        uncertainty: Standard error of the transform, fixed px; None if unknown.
        step: Pixels of the estimate along one pixel of the pair.
    """

    pair: ImagePair
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
        """Positions of the estimate's pixels in the files."""
        return self.pair.frames.finer(self.step)

    @property
    def confidence(self) -> float:
        """Probability that the transform is right, 0-1."""
        return acceptance.confidence(self.evidence)

    @property
    def certainty(self) -> Certainty:
        """Certainty of the estimate during the search."""
        evidence = self.evidence
        needed = np.clip(SEARCH.supported_share * evidence.n_points, *SEARCH.supported_inliers)
        enough = evidence.n_inliers >= needed and evidence.precision >= SEARCH.supported_precision
        if not enough or evidence.implausible:
            return Certainty.WEAK
        if self.confidence < SEARCH.confident:
            return Certainty.SUPPORTED
        return Certainty.CERTAIN if self.confidence >= SEARCH.certain else Certainty.CONFIDENT

    def refusal(self, config: EstimateConfig) -> str | None:
        """Return the reason for which the evidence is too weak to accept the transform; None if it is accepted."""
        return acceptance.refusal(self.evidence, config.min_inliers, config.threshold)


def estimate_transform(
    pair: ImagePair,
    matches: Matches,
    config: EstimateConfig,
    models: Sequence[Candidate],
    radius: float,
    window_half: int = 0,
    step: float = 1.0,
) -> Estimate | None:
    """Fit a transform to tie points, and gather the evidence for it.

    Args:
        pair: The images.
        matches: The tie points, px of the pair, or px ``step`` times smaller.
        config: Settings of the estimation.
        models: Candidate models, from simple to flexible.
        radius: Radius along x and y that was searched for each tie point, px of the tie points.
        window_half: Half the side of the window that was correlated for each, px of the pair; 0: no window.
        step: Pixels of the tie points along one pixel of the pair.

    Returns:
        The estimate; None if the points determine none of the models.
    """
    fitted, tied = matches.fitted, matches.all_points
    prior = rescale_matrix(pair.prior, 1 / step, 1 / step)
    fit = choose_model(fitted.moving, fitted.fixed, config.threshold, models, fitted.score, prior, config.seed)
    if fit is None:
        return None
    weights = fitted.score * biweight(fit.transform.residuals(fitted.moving, fitted.fixed), config.threshold)
    kept = fit.inliers
    fits = replicates(fitted.moving[kept], fitted.fixed[kept], weights[kept], fit.fit)
    overlap = pair.overlap(rescale_matrix(fit.matrix, step, step))
    spread = uncertainty(fit.transform, fits, overlap, step)
    residual = fit.transform.residuals(tied.moving, tied.fixed)
    height, width = pair.moving.shape
    evidence = gather_evidence(
        fit.matrix,
        matches,
        residual,
        fit=fit.fit,
        threshold=config.threshold,
        radius=radius,
        overlap=overlap,
        moving_shape=(round(height * step), round(width * step)),
        window_half=window_half,
        uncertainty_px=spread.mean if spread else math.nan,
        overlap_factor=step,
        after=pair.georeferences,
    )
    return Estimate(pair, fit.model, fit.transform, matches, residual, evidence, fits, spread, step)

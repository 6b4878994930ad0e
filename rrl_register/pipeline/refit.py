"""Fitting again: a transform out of points that a person has edited or set, without matching."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import EstimateConfig, ModelChoice, RegisterConfig
from rrl_register.errors import InputError
from rrl_register.estimation.evidence import Evidence, gather_evidence
from rrl_register.estimation.model_selection import ModelFit, candidates, choose_model
from rrl_register.estimation.ransac import biweight
from rrl_register.estimation.uncertainty import Uncertainty, in_file_px, matrix_covariance, replicates, uncertainty
from rrl_register.exchange.initial_points import reduced_points
from rrl_register.exchange.registration import Registration
from rrl_register.exchange.table import PointTable
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.tie_points import Matches, TiePoints
from rrl_register.matching.image_pair import ImagePair
from rrl_register.matching.read_pair import read_pair
from rrl_register.parallel import one_blas_thread
from rrl_register.pipeline.timing import StageClock

logger = logging.getLogger(__name__)

LEAST_AGREEING = 0.5
"""Share of the points that has to agree with the transform: of fewer, the others could make another one."""


@dataclass(frozen=True)
class Refitted:
    """A fit to given points, in the pixels of the reduced images.

    Attributes:
        fit: The transform and its model.
        residual: ``(N,)`` of the points, fixed px.
        evidence: What they say of it; what only a search can tell is NaN.
        replicates: The same model without each block of the scene.
        uncertainty: How far off it may put a point; None where it is not known.
    """

    fit: ModelFit
    residual: NDArray[np.float64]
    evidence: Evidence
    replicates: tuple[Transform, ...]
    uncertainty: Uncertainty | None


def refit(points: PointTable, fixed: Path, moving: Path, config: RegisterConfig | None = None) -> Registration:
    """Fits a transform to the enabled points, robustly, and judges it by these points alone.

    No image content is compared, so that there is no confidence: who has chosen the points vouches for them.

    Args:
        points: What ``exchange.formats.read_points`` gave.
        fixed: The fixed image.
        moving: The moving image.
        config: Settings; None: the defaults.

    Returns:
        The result; its ``status`` is ``failed`` where the points do not determine the model, or contradict each other.

    Raises:
        InputError: An image cannot be used, no point is enabled, or a point lies outside its image.
    """
    config, clock = config or RegisterConfig(), StageClock()
    with clock("read"):
        pair = read_pair(Path(fixed), Path(moving), config.read)
    given = points.enabled
    if not len(given):
        raise InputError(f"none of {len(points)} points is enabled; needed some to fit; switch points on")
    with clock("estimate"), one_blas_thread():
        found = _fitted(reduced_points(given, pair), pair, config.estimate)
    return _result(found, given, pair, config.estimate, clock.seconds)


def _fitted(points: TiePoints, pair: ImagePair, config: EstimateConfig) -> Refitted | None:
    known = points.score[np.isfinite(points.score)]
    trust = np.nan_to_num(points.score, nan=float(known.mean()) if len(known) else 1.0)
    models = candidates(None if config.model is ModelChoice.AUTO else config.model.value)
    fit = choose_model(points.moving, points.fixed, config.threshold, models, trust, pair.prior, config.seed)
    if fit is None:
        return None
    residual = fit.transform.residuals(points.moving, points.fixed)
    kept, weights = fit.inliers, trust * biweight(residual, config.threshold)
    fits = replicates(points.moving[kept], points.fixed[kept], weights[kept], fit.fit)
    overlap = pair.covered(fit.matrix) & pair.fixed_valid
    spread = uncertainty(fit.transform, fits, overlap)
    evidence = gather_evidence(
        fit.matrix,
        Matches(points, len(points), len(points), 0),
        residual,
        fit=fit.fit,
        threshold=config.threshold,
        radius=config.threshold,
        overlap=overlap,
        moving_shape=pair.moving.shape,
        uncertainty_px=spread.mean if spread else math.nan,
    )
    logger.info("refit: %s: %s", fit.model, evidence)
    return Refitted(fit, residual, replace(evidence, over_chance=math.nan), fits, spread)


def refusal(evidence: Evidence, max_check_rmse_px: float) -> str | None:
    """Why points do not carry the transform fitted to them, in one line with what to try; None if they do.

    Args:
        evidence: What the points say.
        max_check_rmse_px: What the check error may be, where there are enough points to know it.
    """
    if evidence.implausible:
        return f"{evidence.implausible}: check the points, or try a stiffer --model"
    if evidence.precision <= LEAST_AGREEING:
        return (
            f"{evidence.n_inliers} of {evidence.n_tie_points} points agree on a transform, more than half are needed: "
            "switch off those that are wrong, or try another --model"
        )
    if evidence.check_rmse_px > max_check_rmse_px:
        return (
            f"points kept out of the fit miss it by {evidence.check_rmse_px:.1f} px, at most {max_check_rmse_px:g} px "
            "is needed: add points, or try a stiffer --model"
        )
    return None


def _result(
    found: Refitted | None, given: TiePoints, pair: ImagePair, config: EstimateConfig, seconds: dict[str, float]
) -> Registration:
    evidence = found.evidence if found else None
    reason = refusal(evidence, config.threshold) if evidence else _undetermined(len(given), config.model)
    transform = pair.frames.to_files(found.fit.transform) if found and reason is None else None
    inlier = found.residual <= config.threshold if found else np.zeros(len(given), bool)
    return Registration(
        status="ok" if reason is None else "failed",
        reason=reason or "",
        model=found.fit.model.value if found else None,
        matrix=transform.matrix if transform else None,
        n_keypoints_fixed=0,
        n_keypoints_moving=0,
        n_candidates=0,
        n_tie_points=len(given),
        n_inliers=int(inlier.sum()),
        rmse_px=pair.frames.in_file_px(evidence.rmse_px if evidence else None),
        check_rmse_px=pair.frames.in_file_px(evidence.check_rmse_px if evidence else None),
        confidence=None,
        evidence=evidence.figures(pair.fixed_factor) if evidence else {},
        seconds=seconds,
        device=None,
        weights=None,
        fixed_kind=pair.fixed_kind.value,
        moving_kind=pair.moving_kind.value,
        support_px=None,
        fixed_grid=pair.fixed_grid,
        moving_grid=pair.moving_grid,
        tie_points=given,
        inlier=inlier,
        displacement=transform.displacement if transform else None,
        uncertainty_px=in_file_px(found.uncertainty, pair.fixed_factor) if found else None,
        covariance=_covariance(found, pair) if transform else None,
    )


def _covariance(found: Refitted | None, pair: ImagePair) -> NDArray[np.float64] | None:
    if found is None or found.fit.transform.displacement:
        return None
    return matrix_covariance([pair.frames.to_files(fit) for fit in found.replicates])


def _undetermined(n: int, model: ModelChoice) -> str:
    what = "no transform" if model is ModelChoice.AUTO else f"no transform of the kind {model}"
    return f"{n} enabled points determine {what}: add points off the line of the others, or try a stiffer --model"

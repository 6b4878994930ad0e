"""Points of a person: fit a transform to them without matching (``refit``), or start a search from them."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

from rrl_register.config import ModelChoice, RegisterConfig
from rrl_register.errors import InputError
from rrl_register.estimation.evidence import Evidence
from rrl_register.estimation.model_selection import candidates
from rrl_register.exchange.registration import Registration
from rrl_register.exchange.table import PointTable
from rrl_register.geometry.tie_points import Matches
from rrl_register.matching.estimate import estimate_transform
from rrl_register.matching.read_pair import read_pair
from rrl_register.matching.strategy import Counts
from rrl_register.parallel import one_blas_thread
from rrl_register.pipeline.register import StageClock, build_registration, reduced_points
from rrl_register.raster.reader import as_measurements

logger = logging.getLogger(__name__)

LEAST_AGREEING = 0.5
"""Least share of the points that must agree with the transform; with fewer, the others could support another one."""


def refit(points: PointTable, fixed: Path, moving: Path, config: RegisterConfig | None = None) -> Registration:
    """Fit a transform to the enabled points, robustly, and test it by these points alone.

    No image content is compared, so the result has no confidence.

    Args:
        points: Points read by ``exchange.formats.read_points``.
        fixed: The fixed (reference) image.
        moving: The moving (target) image.
        config: Settings; None: the defaults.

    Returns:
        The result; its ``status`` is ``failed`` if the points do not determine the model, or contradict each other.

    Raises:
        InputError: An image cannot be used, no point is enabled, or a point lies outside its image.
    """
    config, clock = config or RegisterConfig(), StageClock()
    with clock("read"), as_measurements(fixed, moving, wanted=config.read.no_alpha):
        pair = read_pair(Path(fixed), Path(moving), config.read)
    given = points.enabled
    if not len(given):
        raise InputError(f"none of {len(points)} points is enabled; needed some to fit; switch points on")
    with clock("estimate"), one_blas_thread():
        reduced, settings = reduced_points(given, pair), config.estimate
        models = candidates(None if settings.model is ModelChoice.AUTO else settings.model.value)
        matches = Matches(reduced, len(reduced), len(reduced), 0)
        estimate = estimate_transform(pair, matches, settings, models, settings.threshold)
    if estimate is None:
        kind = "" if settings.model is ModelChoice.AUTO else f"{settings.model} "
        reason: str | None = (
            f"{len(given)} enabled points determine no {kind}transform: add points off the line of the others, or try "
            "a simpler --model"
        )
    else:
        # The points were chosen, so there is no search area in which they could agree by chance.
        estimate = replace(estimate, evidence=replace(estimate.evidence, over_chance=math.nan))
        logger.info("refit: %s: %s", estimate.model, estimate.evidence)
        reason = refusal(estimate.evidence, settings.threshold)
    counts, seconds = Counts(), clock.seconds
    return build_registration(
        pair, estimate, reason, settings, counts=counts, confidence=None, seconds=seconds, tie_points=given
    )


def refusal(evidence: Evidence, max_check_rmse_px: float) -> str | None:
    """Return the reason for which points do not support their transform, with what to try; None if they do.

    Args:
        evidence: Figures of the fit.
        max_check_rmse_px: Largest cross-validation RMSE, if there are enough points to compute it.
    """
    if evidence.implausible:
        return f"{evidence.implausible}: check the points, or try a simpler --model"
    if evidence.precision <= LEAST_AGREEING:
        return (
            f"{evidence.n_inliers} of {evidence.n_tie_points} points agree on a transform, more than half are needed: "
            "disable the wrong ones, or try another --model"
        )
    if evidence.check_rmse_px > max_check_rmse_px:
        return (
            f"the cross-validation RMSE is {evidence.check_rmse_px:.1f} px, at most {max_check_rmse_px:g} px is "
            "needed: add points, or try a simpler --model"
        )
    return None

"""Points of a person: fit a transform to them without matching (``refit``), or start a search from them."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

from rrl_register.config import ModelChoice, RegisterConfig
from rrl_register.errors import InputError
from rrl_register.estimation.evidence import Evidence
from rrl_register.estimation.manual_start import initial_transform, require_inside
from rrl_register.estimation.model_selection import candidates
from rrl_register.exchange.formats import read_points
from rrl_register.exchange.registration import Registration
from rrl_register.exchange.table import Grids, PointTable
from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.tie_points import Matches, TiePoints
from rrl_register.matching.estimate import estimate_transform
from rrl_register.matching.image_pair import ImagePair
from rrl_register.matching.read_pair import read_pair
from rrl_register.matching.strategy import Counts
from rrl_register.parallel import one_blas_thread
from rrl_register.pipeline.result import StageClock, build_registration
from rrl_register.raster.reader import as_measurements


def start_from_points(path: Path, pair: ImagePair) -> Matrix:
    """Fit an initial transform ``(3, 3)``, reduced moving px -> reduced fixed px, to the enabled points of a file.

    Raises:
        InputError: The file cannot be read, or its points determine no transform; see ``initial_transform``.
    """
    given = read_points(path, Grids(pair.fixed.grid, pair.moving.grid)).enabled
    try:
        points = reduced_points(given, pair)
        shapes = pair.moving.shape, pair.fixed.shape
        return initial_transform(points.moving, points.fixed, *shapes, pair.georeferences)
    except InputError as error:
        raise InputError(f"Cannot start from the points of {path}: {error}") from error


def reduced_points(points: TiePoints, pair: ImagePair) -> TiePoints:
    """Convert points of the files to pixels of the reduced images.

    Raises:
        InputError: One lies outside its image.
    """
    require_inside("fixed", points.fixed, pair.fixed.grid.shape)
    require_inside("moving", points.moving, pair.moving.grid.shape)
    frames = pair.frames
    return TiePoints(frames.fixed.from_file(points.fixed), frames.moving.from_file(points.moving), points.score)


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

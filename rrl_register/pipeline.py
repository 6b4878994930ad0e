"""``register``: the corridor through all stages."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrl_register.clock import StageClock, Watch
from rrl_register.config import Kind, ReadConfig, RegisterConfig
from rrl_register.errors import UsageError
from rrl_register.estimation.covariance import in_file_px, matrix_covariance
from rrl_register.estimation.verdict import refusal, refusal_without_transform
from rrl_register.exchange.start import start_from_points
from rrl_register.images import ImageLike, as_path
from rrl_register.matching.passes import Scene
from rrl_register.matching.scoring import Scorer, spectra
from rrl_register.matching.search import Counts, Estimate, Search
from rrl_register.matching.tie_points import TiePoints, no_tie_points
from rrl_register.patches import default_support
from rrl_register.registration import Registration
from rrl_register.working import WorkingPair, read_pair

__all__ = ["Registration", "register"]

GEOREFERENCED_MAX_SHIFT_PX = 100.0


def register(
    fixed: ImageLike,
    moving: ImageLike,
    config: RegisterConfig | None = None,
    *,
    scorer: Scorer | None = None,
    watch: Watch | None = None,
) -> Registration:
    """Registers the moving image onto the fixed one.

    Args:
        fixed: The reference image: a file, an array (H, W) or (B, H, W), or an ``ImageArray``, which is an array with
            its georeference and mask.
        moving: The image to bring onto it, likewise.
        config: Settings; None: the defaults.
        scorer: A network that is loaded already, to be used for many pairs.
        watch: Told the name of each stage as it begins: load, read, prepare, coarse, keypoints, guided, estimate.

    Returns:
        The result; its ``status`` is ``failed`` where the images could not be registered.

    Raises:
        InputError: If an image cannot be read or used, or the georeferences share no ground.
        UsageError: If the request contradicts itself.
    """
    config = config or RegisterConfig()
    with as_path(fixed, "the fixed array") as fixed_path, as_path(moving, "the moving array") as moving_path:
        return _result(search(fixed_path, moving_path, config, scorer, watch), config)


@dataclass(frozen=True)
class Searched:
    """A pair after the search, before the verdict.

    Attributes:
        scene: The pair.
        scorer: The network.
        estimate: The best transform found, right or wrong; None if there is none.
        counts: Points looked at and pairs scored.
        seconds: By stage.
    """

    scene: Scene
    scorer: Scorer
    estimate: Estimate | None
    counts: Counts
    seconds: dict[str, float]


def search(
    fixed: Path, moving: Path, config: RegisterConfig, scorer: Scorer | None = None, watch: Watch | None = None
) -> Searched:
    """Does all of ``register`` but judge: for those who study the evidence.

    Raises:
        InputError, UsageError: As ``register``.
    """
    clock, counts = StageClock(watch), Counts()
    with clock("load"):
        scorer = scorer or Scorer(config.match.weights, config.match.device)
    first = _prepared(fixed, moving, config, scorer, clock, counts)
    estimate = first.run()
    if not (estimate and estimate.proven) and _may_be_sar(first.scene.pair, config.read):
        as_sar = replace(config, read=replace(config.read, moving_kind=Kind.SAR))
        estimate = _prepared(fixed, moving, as_sar, scorer, clock, counts).run(thorough=False) or estimate
    return Searched(first.scene, scorer, estimate, counts, clock.seconds)


def _prepared(
    fixed: Path, moving: Path, config: RegisterConfig, scorer: Scorer, clock: StageClock, counts: Counts
) -> Search:
    """The search for a pair, about to begin."""
    with clock("read"):
        pair = read_pair(fixed, moving, config.read)
        max_shift = max_shift_px(config.match.max_shift, pair)
        initial = start_from_points(config.match.init_points, pair) if config.match.init_points else None
    with clock("prepare"):
        support = config.match.support or default_support(pair.fixed_kind, pair.moving_kind, pair.fixed.shape)
        scene = Scene.of(pair, support, spectra(pair.fixed_kind, pair.moving_kind), scorer, config.match)
    return Search(scene, config.estimate, max_shift, clock, counts, initial)


def _may_be_sar(pair: WorkingPair, config: ReadConfig) -> bool:
    """Whether the moving image was taken for infrared for want of evidence: resampling takes speckle's marks away."""
    return config.moving_kind is Kind.AUTO and (pair.fixed_kind, pair.moving_kind) == (Kind.OPTICAL, Kind.IR)


def max_shift_px(text: str | None, pair: WorkingPair) -> float:
    """How far the prior may be off, working px.

    Args:
        text: ``80px`` (pixels of the fixed file), ``500m``, or None: 100 px with georeferences, else half of the
            longer side.
        pair: The images.

    Raises:
        UsageError: If the text is no length, or metres are asked of a pair without georeferences.
    """
    if text is None:
        return GEOREFERENCED_MAX_SHIFT_PX if pair.georeferenced else max(pair.fixed.shape) / 2
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*(px|m)?\s*", text)
    if match is None or not math.isfinite(float(match[1])) or float(match[1]) <= 0:
        raise UsageError(f"--max-shift {text!r} is no length: a number with px or m is needed, such as 80px or 500m")
    length = float(match[1])
    if match[2] == "m":
        size = pair.fixed_grid.metres_per_pixel if pair.georeferenced else None
        if size is None:
            raise UsageError(f"--max-shift {text} needs georeferences on both images: give it in px")
        length /= size
    return length / pair.fixed_factor


def _result(searched: Searched, config: RegisterConfig) -> Registration:
    estimate, counts = searched.estimate, searched.counts
    scene = estimate.scene if estimate else searched.scene
    pair = scene.pair
    settings = config.estimate
    if estimate:
        reason = refusal(estimate.evidence, settings.min_inliers, settings.threshold)
    else:
        reason = refusal_without_transform(counts.n_candidates, counts.n_tie_points)
    transform = pair.to_files(estimate.transform) if estimate and reason is None else None
    evidence = estimate.evidence if estimate else None
    points, inlier = _points_in_files(estimate, pair, settings.threshold)
    return Registration(
        status="ok" if reason is None else "failed",
        reason=reason or "",
        model=estimate.model.value if estimate else None,
        matrix=transform.matrix if transform else None,
        n_keypoints_fixed=counts.n_fixed,
        n_keypoints_moving=counts.n_moving,
        n_candidates=counts.n_candidates,
        n_tie_points=len(points),
        n_inliers=int(inlier.sum()),
        rmse_px=pair.in_file_px(evidence.rmse_px if evidence else None),
        check_rmse_px=pair.in_file_px(evidence.check_rmse_px if evidence else None),
        confidence=round(estimate.confidence, 4) if estimate else 0.0,
        evidence=evidence.figures(pair.fixed_factor) if evidence else {},
        seconds=searched.seconds,
        device=str(searched.scorer.device),
        weights=searched.scorer.name,
        fixed_kind=pair.fixed_kind.value,
        moving_kind=pair.moving_kind.value,
        support_px=scene.support,
        fixed_grid=pair.fixed_grid,
        moving_grid=pair.moving_grid,
        tie_points=points,
        rejected=pair.tie_points_to_files(estimate.matches.rejected) if estimate else no_tie_points(),
        inlier=inlier,
        displacement=transform.displacement if transform else None,
        uncertainty_px=in_file_px(estimate.uncertainty, pair.fixed_factor) if estimate else None,
        covariance=_covariance(estimate, pair) if transform else None,
    )


def _covariance(estimate: Estimate | None, pair: WorkingPair) -> NDArray[np.float64] | None:
    """Of the matrix in px of the files; None where a displacement goes with it, whose errors are bound to its own."""
    if estimate is None or estimate.transform.displacement:
        return None
    return matrix_covariance([pair.to_files(fit) for fit in estimate.replicates])


def _points_in_files(
    estimate: Estimate | None, pair: WorkingPair, threshold: float
) -> tuple[TiePoints, NDArray[np.bool_]]:
    if estimate is None:
        return no_tie_points(), np.empty(0, bool)
    return pair.tie_points_to_files(estimate.matches.tie_points), estimate.residual <= threshold

"""``register``: the corridor through all stages."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import Kind, MatchConfig, ReadConfig, RegisterConfig
from rrl_register.errors import UsageError
from rrl_register.estimation.acceptance import refusal, refusal_without_transform
from rrl_register.estimation.uncertainty import in_file_px, matrix_covariance
from rrl_register.exchange.initial_points import start_from_points
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.tie_points import TiePoints, no_tie_points
from rrl_register.matching.descriptor_matching import MatchingContext
from rrl_register.matching.estimate import Estimate
from rrl_register.matching.image_pair import ImagePair
from rrl_register.matching.read_pair import REACH_PX, PairFiles
from rrl_register.matching.strategy import Counts, Search
from rrl_register.nn.encoder_choice import spectra
from rrl_register.nn.inference import PatchScorer
from rrl_register.nn.inference.lazy import LazyScorer
from rrl_register.nn.patches import default_support
from rrl_register.pipeline.timing import StageClock, Watch
from rrl_register.raster.image_array import ImageLike, as_path
from rrl_register.raster.memory import bounded_block_cache, working_side

if TYPE_CHECKING:
    from rrl_register.nn.inference import LoadedScorer

__all__ = ["Registration", "register"]


def register(
    fixed: ImageLike,
    moving: ImageLike,
    config: RegisterConfig | None = None,
    *,
    scorer: LoadedScorer | None = None,
    watch: Watch | None = None,
) -> Registration:
    """Registers the moving image onto the fixed one.

    Args:
        fixed: The reference image: a file, an array (H, W) or (B, H, W), or an ``ImageArray``, which is an array with
            its georeference and mask.
        moving: The image to bring onto it, likewise.
        config: Settings; None: the defaults.
        scorer: A network that is loaded already, to be used for many pairs.
        watch: Told the name of each stage as it begins: load, read, prepare, coarse, keypoints, guided, windows,
            estimate.

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
        device, weights: Where the network ran, and its name.
        estimate: The best transform found, right or wrong; None if there is none.
        counts: Points looked at and pairs scored.
        seconds: By stage.
    """

    scene: MatchingContext
    device: str
    weights: str
    estimate: Estimate | None
    counts: Counts
    seconds: dict[str, float]


def search(
    fixed: Path, moving: Path, config: RegisterConfig, scorer: LoadedScorer | None = None, watch: Watch | None = None
) -> Searched:
    """Does all of ``register`` but judge: for those who study the evidence.

    Raises:
        InputError, UsageError: As ``register``.
    """
    clock, counts = StageClock(watch), Counts()
    network = scorer or LazyScorer(config.match.weights, config.match.device, clock)
    with bounded_block_cache(config.resources.max_memory):
        first = _prepared(fixed, moving, config, network, clock, counts)
        estimate = first.run()
        if not (estimate and estimate.accepted(config.estimate)) and _may_be_sar(first.scene.pair, config.read):
            as_sar = replace(config, read=replace(config.read, moving_kind=Kind.SAR))
            estimate = _prepared(fixed, moving, as_sar, network, clock, counts).run(thorough=False) or estimate
    loaded = network.loaded if isinstance(network, LazyScorer) else network
    return Searched(first.scene, str(loaded.device), loaded.name, estimate, counts, clock.seconds)


def _prepared(
    fixed: Path, moving: Path, config: RegisterConfig, scorer: PatchScorer, clock: StageClock, counts: Counts
) -> Search:
    """The search for a pair, about to begin."""
    with clock("read"):
        files = PairFiles.of(fixed, moving, config.read)
        pair, max_shift = read_overview(files, config)
        initial = start_from_points(config.match.init_points, pair) if config.match.init_points else None
    with clock("prepare"):
        support = config.match.support or default_support(pair.fixed_kind, pair.moving_kind, pair.fixed.shape)
        scene = MatchingContext.of(pair, support, spectra(pair.fixed_kind, pair.moving_kind), scorer, config.match)
    return Search(scene, config.estimate, max_shift, clock, counts, initial, files.window)


def read_overview(files: PairFiles, config: RegisterConfig) -> tuple[ImagePair, float]:
    """Reads both images for matching, within the memory that there is.

    Returns:
        The images, and how far the prior may be off, working px.

    Raises:
        InputError, UsageError: As ``register``.
    """
    side = working_side(config.resources.max_memory, files.n_bands, config.read.max_side)
    reach = reach_px(config.match.max_shift, files)
    pair = files.overview(side, math.inf if _lies_otherwise(config.match) else reach)
    return pair, max_shift_px(reach, pair)


def _lies_otherwise(config: MatchConfig) -> bool:
    """Whether more is known of how the moving image lies than its georeference says, which then may be far off."""
    return config.init_points is not None or not {config.rotation, config.scale} <= {"auto", "none"}


def _may_be_sar(pair: ImagePair, config: ReadConfig) -> bool:
    """Whether the moving image was taken for infrared for want of evidence: resampling takes speckle's marks away."""
    return config.moving_kind is Kind.AUTO and (pair.fixed_kind, pair.moving_kind) == (Kind.OPTICAL, Kind.IR)


def reach_px(text: str | None, files: PairFiles) -> float | None:
    """How far the prior may be off, px of the fixed file; None: as far as is usual.

    Args:
        text: ``80px`` (pixels of the fixed file), ``500m``, or None.
        files: The images.

    Raises:
        UsageError: If the text is no length, or metres are asked of a pair without georeferences.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*(px|m)?\s*", text)
    if match is None or not math.isfinite(float(match[1])) or float(match[1]) <= 0:
        raise UsageError(f"--max-shift {text!r} is no length: a number with px or m is needed, such as 80px or 500m")
    length = float(match[1])
    if match[2] == "m":
        size = files.fixed.grid.metres_per_pixel if files.georeferenced else None
        if size is None:
            raise UsageError(f"--max-shift {text} needs georeferences on both images: give it in px")
        length /= size
    return length


def max_shift_px(reach: float | None, pair: ImagePair) -> float:
    """How far the prior may be off, working px.

    Args:
        reach: The same in px of the fixed file, where it was given; None: 100 working px and what is known of the error
            of the georeferences, without them half of the longer side.
        pair: The images.
    """
    if reach is not None:
        return reach / pair.fixed_factor
    if not pair.georeferenced:
        return float(max(pair.fixed.shape)) / 2
    return REACH_PX + pair.georeference_error / pair.fixed_factor


def _result(searched: Searched, config: RegisterConfig) -> Registration:
    estimate, counts = searched.estimate, searched.counts
    scene = estimate.scene if estimate else searched.scene
    pair, frames = scene.pair, estimate.frames if estimate else scene.pair.frames
    settings = config.estimate
    if estimate:
        reason = refusal(estimate.evidence, settings.min_inliers, settings.threshold)
    else:
        reason = refusal_without_transform(counts.n_candidates, counts.n_tie_points)
    transform = frames.to_files(estimate.transform) if estimate and reason is None else None
    evidence = estimate.evidence if estimate else None
    points, inlier = _points_in_files(estimate, settings.threshold)
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
        rmse_px=frames.in_file_px(evidence.rmse_px if evidence else None),
        check_rmse_px=frames.in_file_px(evidence.check_rmse_px if evidence else None),
        confidence=round(estimate.confidence, 4) if estimate else 0.0,
        evidence=evidence.figures(frames.fixed.factor) if evidence else {},
        seconds=searched.seconds,
        device=searched.device,
        weights=searched.weights,
        fixed_kind=pair.fixed_kind.value,
        moving_kind=pair.moving_kind.value,
        support_px=scene.support,
        fixed_grid=pair.fixed_grid,
        moving_grid=pair.moving_grid,
        tie_points=points,
        rejected=frames.tie_points_to_files(estimate.matches.rejected) if estimate else no_tie_points(),
        inlier=inlier,
        displacement=transform.displacement if transform else None,
        uncertainty_px=in_file_px(estimate.uncertainty, frames.fixed.factor) if estimate else None,
        covariance=_covariance(estimate) if transform else None,
    )


def _covariance(estimate: Estimate | None) -> NDArray[np.float64] | None:
    """Of the matrix in px of the files; None where a displacement goes with it, whose errors are bound to its own."""
    if estimate is None or estimate.transform.displacement:
        return None
    return matrix_covariance([estimate.frames.to_files(fit) for fit in estimate.replicates])


def _points_in_files(estimate: Estimate | None, threshold: float) -> tuple[TiePoints, NDArray[np.bool_]]:
    if estimate is None:
        return no_tie_points(), np.empty(0, bool)
    return estimate.frames.tie_points_to_files(estimate.matches.all_points), estimate.residual <= threshold

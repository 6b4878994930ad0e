"""``register``: read both images, search for the transform, and build the result."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rrl_register.config import EstimateConfig, Kind, RegisterConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.estimation.acceptance import refusal_without_transform
from rrl_register.estimation.cross_validation import in_file_px, matrix_covariance
from rrl_register.estimation.manual_start import initial_transform, require_inside
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.tie_points import TiePoints, no_tie_points
from rrl_register.matching.estimate import Estimate
from rrl_register.matching.image_pair import ImagePair, MatchingContext
from rrl_register.matching.read_pair import REACH_PX, PairFiles
from rrl_register.matching.strategy import Counts, Search
from rrl_register.nn.inference.load import LazyScorer, LoadedScorer, PatchScorer
from rrl_register.nn.patches import default_support, spectra
from rrl_register.pipeline.similarity import measure_similarity, preload_metrics
from rrl_register.raster.memory import bounded_block_cache, working_side
from rrl_register.raster.reader import as_measurements
from rrl_register.raster.sources import ImageLike, as_path

Watch = Callable[[str], None]


def register(
    fixed: ImageLike,
    moving: ImageLike,
    config: RegisterConfig | None = None,
    *,
    scorer: LoadedScorer | None = None,
    watch: Watch | None = None,
    similarity: bool = False,
) -> Registration:
    """Register the moving image onto the fixed one.

    Args:
        fixed: The fixed (reference) image: a file, an array (H, W) or (B, H, W), or an ``ImageArray``, which is an
            array with its georeference and mask.
        moving: The moving (target) image, in the same forms.
        config: Settings; None: the defaults.
        scorer: A network that is loaded already, to use it for many pairs.
        watch: Called with the name of each stage as it begins: load, read, prepare, coarse, keypoints, guided, windows,
            estimate.
        similarity: Whether to measure the similarity of both images before and after, which takes 0.3 s more at first.

    Returns:
        The result; its ``status`` is ``failed`` if the images could not be registered.

    Raises:
        InputError: An image cannot be read or used, or the georeferences share no ground.
        UsageError: The settings contradict each other.
    """
    config = config or RegisterConfig()
    if similarity:
        preload_metrics()
    with (
        as_path(fixed, "the fixed array") as fixed_path,
        as_path(moving, "the moving array") as moving_path,
        as_measurements(fixed_path, moving_path, wanted=config.read.no_alpha),
    ):
        found = search(fixed_path, moving_path, config, scorer, watch)
    estimate, counts = found.estimate, found.counts
    if estimate:
        refusal = estimate.refusal(config.estimate)
    else:
        refusal = refusal_without_transform(counts.n_candidates, counts.n_tie_points)
    pair = estimate.pair if estimate else found.context.pair
    result = build_registration(
        pair,
        estimate,
        refusal,
        config.estimate,
        counts=counts,
        confidence=round(estimate.confidence, 4) if estimate else 0.0,
        seconds=found.seconds,
        network=ScoredBy(found.device, found.weights, found.context.support),
    )
    if similarity and result.transform:
        return replace(result, similarity=measure_similarity(pair, result.transform))
    return result


@dataclass(frozen=True)
class SearchResult:
    """A pair after the search, before the verdict.

    Attributes:
        context: The pair as it was prepared first.
        device, weights: Where the network ran, and the name of its weights.
        estimate: The best transform, right or wrong; None if there is none.
        counts: Keypoints tried and pairs scored.
        seconds: Time by stage.
    """

    context: MatchingContext
    device: str
    weights: str
    estimate: Estimate | None
    counts: Counts
    seconds: dict[str, float]


def search(
    fixed: Path, moving: Path, config: RegisterConfig, scorer: LoadedScorer | None = None, watch: Watch | None = None
) -> SearchResult:
    """Search for the transform without a verdict, for studies of the evidence; arguments and errors as ``register``."""
    clock, counts = StageClock(watch), Counts()
    network = scorer or LazyScorer(config.match.weights, config.match.device, clock)
    with bounded_block_cache(config.resources.max_memory):
        first = _prepare(fixed, moving, config, network, clock, counts)
        pair, estimate = first.context.pair, first.run()
        accepted = estimate is not None and estimate.refusal(config.estimate) is None
        # Resampling removes the marks of speckle, so a SAR image may have been taken for an infrared one.
        guessed_ir = config.read.moving_kind is Kind.AUTO and pair.moving.kind is Kind.IR
        if not accepted and guessed_ir and pair.fixed.kind is Kind.OPTICAL:
            as_sar = replace(config, read=replace(config.read, moving_kind=Kind.SAR))
            estimate = _prepare(fixed, moving, as_sar, network, clock, counts).run(thorough=False) or estimate
    loaded = network.loaded if isinstance(network, LazyScorer) else network
    return SearchResult(first.context, str(loaded.device), loaded.name, estimate, counts, clock.seconds)


def _prepare(
    fixed: Path, moving: Path, config: RegisterConfig, scorer: PatchScorer, clock: StageClock, counts: Counts
) -> Search:
    """Read a pair and prepare its search."""
    with clock("read"):
        files = PairFiles.of(fixed, moving, config.read)
        pair, max_shift = read_overview(files, config)
        initial = start_from_points(config.match.init_points, pair) if config.match.init_points else None
    with clock("prepare"):
        kinds = pair.fixed.kind, pair.moving.kind
        support = config.match.support or default_support(*kinds, pair.fixed.shape)
        context = MatchingContext.of(pair, support, spectra(*kinds), scorer, config.match)
    return Search(context, config.estimate, max_shift, clock, counts, initial, files.window)


def read_overview(files: PairFiles, config: RegisterConfig) -> tuple[ImagePair, float]:
    """Read both images for matching, within the memory that is allowed.

    Returns:
        The images, and the largest error of the prior, reduced px.

    Raises:
        InputError, UsageError: As ``register``.
    """
    match = config.match
    side = working_side(config.resources.max_memory, files.n_bands, config.read.max_side)
    reach = reach_px(match.max_shift, files)
    # What the user states of the moving image's position may contradict its georeference by any distance.
    contradicted = match.init_points is not None or not {match.rotation, match.scale} <= {"auto", "none"}
    pair = files.overview(side, math.inf if contradicted else reach)
    return pair, max_shift_px(reach, pair)


def reach_px(text: str | None, files: PairFiles) -> float | None:
    """Convert a stated largest error of the prior to px of the fixed file.

    Args:
        text: ``80px`` (pixels of the fixed file), ``500m``, or None.
        files: The images.

    Returns:
        The length; None for None.

    Raises:
        UsageError: The text is not a length, or it is in metres and a georeference is missing.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*(px|m)?\s*", text)
    if match is None or not math.isfinite(float(match[1])) or float(match[1]) <= 0:
        raise UsageError(f"--max-shift {text!r} is not a length: give a number with px or m, such as 80px or 500m")
    length = float(match[1])
    if match[2] == "m":
        size = files.fixed.grid.metres_per_pixel if files.georeferenced else None
        if size is None:
            raise UsageError(f"--max-shift {text} needs georeferences on both images: give it in px")
        length /= size
    return length


def max_shift_px(reach: float | None, pair: ImagePair) -> float:
    """Return the largest error of the prior, reduced px.

    Args:
        reach: The same in px of the fixed file, if it is stated; None: 100 reduced px and the known error of the
            georeferences, or half of the longer side without georeferences.
        pair: The images.
    """
    if reach is not None:
        return reach / pair.fixed.factor
    if not pair.georeferenced:
        return float(max(pair.fixed.shape)) / 2
    return REACH_PX + pair.georeference_error / pair.fixed.factor


def start_from_points(path: Path, pair: ImagePair) -> Matrix:
    """Fit an initial transform ``(3, 3)``, reduced moving px -> reduced fixed px, to the enabled points of a file.

    Raises:
        InputError: The file cannot be read, or its points determine no transform; see ``initial_transform``.
    """
    # Few registrations start from points.
    from rrl_register.exchange.formats import read_points
    from rrl_register.exchange.table import Grids

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

"""``register``: read both images, search for the transform, and build the result."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from rrl_register.config import Kind, RegisterConfig
from rrl_register.errors import UsageError
from rrl_register.estimation.acceptance import refusal_without_transform
from rrl_register.exchange.registration import Registration
from rrl_register.matching.estimate import Estimate
from rrl_register.matching.image_pair import ImagePair, MatchingContext
from rrl_register.matching.read_pair import REACH_PX, PairFiles
from rrl_register.matching.strategy import Counts, Search
from rrl_register.nn.inference.load import LazyScorer, LoadedScorer, PatchScorer
from rrl_register.nn.patches import default_support, spectra
from rrl_register.pipeline.result import ScoredBy, StageClock, Watch, build_registration
from rrl_register.pipeline.similarity import measure_similarity, preload_metrics
from rrl_register.raster.image_array import ImageLike, as_path
from rrl_register.raster.memory import bounded_block_cache, working_side
from rrl_register.raster.reader import as_measurements


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
        initial = None
        if config.match.init_points:
            from rrl_register.pipeline.refit import start_from_points

            initial = start_from_points(config.match.init_points, pair)
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

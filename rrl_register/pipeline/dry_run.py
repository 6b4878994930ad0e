"""Dry run: how the images would be matched, the search, and its time; nothing is matched."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.config import Effort, Kind, MatchConfig, RegisterConfig
from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.transforms import corners_of, decompose, project
from rrl_register.matching.guided_matching import KEYPOINTS_PER_CONTROL
from rrl_register.matching.initial_transforms import search_grids
from rrl_register.matching.read_pair import PairFiles
from rrl_register.matching.search_config import SEARCH
from rrl_register.nn.inference.load import LoadedScorer, load_scorer
from rrl_register.nn.patches import PATCH_SIZE, default_support
from rrl_register.pipeline.register import read_overview
from rrl_register.raster.grid import Grid
from rrl_register.raster.radiometry import Guess, guess_kind, pair_kinds
from rrl_register.raster.reader import RasterInfo, live_bands, open_info, read_bands

PAIRS_PER_KEYPOINT = 1.35
"""Pairs scored per keypoint by a thorough search that a quick trial settles: 539 for 400 in four real pairs."""
_SAMPLE = SEARCH.refinement.sample or 0
SAMPLED_PAIRS = _SAMPLE + math.ceil(_SAMPLE / KEYPOINTS_PER_CONTROL)
"""Pairs scored if a sample settles the search, with controls."""
NETWORK_SHARE = {Effort.FAST: 0.2, Effort.NORMAL: 0.2, Effort.THOROUGH: 0.8}
"""The network's share of the time then, for scenes of half a megapixel to one."""
_PROBE_PAIRS = 32
_UNFOUNDED = "one grey band, taken for the optical one of the two"


@dataclass(frozen=True)
class ImagePlan:
    """One image as it is, and as it would be matched.

    Attributes:
        info: Description of the file.
        bands: Bands to match on, 1-based.
        without_content: Further bands that would be matched on if they had content, 1-based.
        kind: What the image shows; never ``auto``.
        why: Reason for the kind.
        reduction: File px per px of the matched image.
        shape: Rows and columns of the matched image.
        valid_share: Share of its pixels that hold data.
    """

    info: RasterInfo
    bands: tuple[int, ...]
    without_content: tuple[int, ...]
    kind: Kind
    why: str
    reduction: float
    shape: tuple[int, int]
    valid_share: float

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON's types."""
        info = self.info
        metres = info.grid.metres_per_pixel
        return {
            "path": str(info.path),
            "grid": info.grid.to_dict(),
            "metres_per_pixel": None if metres is None else round(metres, 4),
            "bands": info.count,
            "dtype": info.dtype,
            "nodata": info.nodata if info.nodata is None or math.isfinite(info.nodata) else str(info.nodata),
            "alpha_band": info.alpha_band,
            "alpha_tag_ignored": list(info.untagged),
            "valid_share": round(self.valid_share, 4),
            "matched_bands": list(self.bands),
            "bands_without_content": list(self.without_content),
            "kind": self.kind.value,
            "why": self.why,
            "reduction": round(self.reduction, 4),
            "matched_size": list(self.shape[::-1]),
        }


@dataclass(frozen=True)
class Overlap:
    """Ground that both images show according to their georeferences.

    Attributes:
        fixed_share: Share of the fixed image.
        moving_share: Share of the moving image.
        width_m, height_m: Size of that part of the fixed image, metres.
    """

    fixed_share: float
    moving_share: float
    width_m: float
    height_m: float


@dataclass(frozen=True)
class Plan:
    """The registration of two images, as ``register`` would make it.

    Attributes:
        fixed, moving: The images.
        ratio: Width of a moving pixel, fixed px.
        overlap: Common ground; None if a georeference is missing.
        max_shift_px: Largest error of the prior, px of the fixed file.
        rotations_deg: Least and largest rotation of the search, on top of the georeferences; clockwise.
        scales: Least and largest scale of the search, on top of the georeferences or the sizes.
        support_px: Ground under a patch, px of the matched images.
        n_keypoints: Largest number of keypoints in each image.
        model: Model to fit, or ``auto``.
        device, weights: Where the network runs, and the name of its weights.
        seconds: Expected time if the first initial transforms are good; a refusal takes several times as long.
    """

    fixed: ImagePlan
    moving: ImagePlan
    ratio: float
    overlap: Overlap | None
    max_shift_px: float
    rotations_deg: tuple[float, float]
    scales: tuple[float, float]
    support_px: int
    n_keypoints: int
    model: str
    device: str
    weights: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON's types."""
        return {
            "fixed": self.fixed.to_json(),
            "moving": self.moving.to_json(),
            "ratio": round(self.ratio, 4),
            "overlap": self.overlap and {name: round(value, 4) for name, value in vars(self.overlap).items()},
            "max_shift_px": round(self.max_shift_px, 1),
            "rotations_deg": list(self.rotations_deg),
            "scales": [round(scale, 4) for scale in self.scales],
            "support_px": self.support_px,
            "n_keypoints": self.n_keypoints,
            "model": self.model,
            "device": self.device,
            "weights": self.weights,
            "about_seconds": round(self.seconds, 1),
        }


def plan_registration(fixed: Path, moving: Path, config: RegisterConfig, scorer: LoadedScorer | None = None) -> Plan:
    """Plan a registration.

    Reads the images as for matching, and lets the network score a few empty patches to measure its speed.

    Args:
        fixed: The fixed (reference) image.
        moving: The moving (target) image.
        config: Settings.
        scorer: A network that is loaded already.

    Raises:
        InputError, UsageError: As ``register``.
    """
    guesses = (
        guess_kind(open_info(fixed), config.read.fixed_bands, config.read.fixed_kind)[0],
        guess_kind(open_info(moving), config.read.moving_bands, config.read.moving_kind)[0],
    )
    kinds = pair_kinds(*guesses)
    files = PairFiles.of(fixed, moving, replace(config.read, fixed_kind=kinds[0], moving_kind=kinds[1]))
    pair, max_shift = read_overview(files, config)
    scorer = scorer or load_scorer(config.match.weights, config.match.device)
    grids = search_grids(config.match.rotation, config.match.scale, pair.georeferenced)
    rotations = [rotation for grid in grids for rotation in grid.rotations]
    scales = [scale for grid in grids for scale in grid.scales]
    prior = files.prior
    chosen = config.read.fixed_bands, config.read.moving_bands
    sides = zip((fixed, moving), chosen, guesses, (pair.fixed, pair.moving), strict=True)
    plans = [_image_plan(path, bands, guess, it.kind, it.factor, it.valid) for path, bands, guess, it in sides]
    return Plan(
        fixed=plans[0],
        moving=plans[1],
        ratio=decompose(prior, pair.moving.grid.shape).scale,
        overlap=_overlap(prior, pair.fixed.grid, pair.moving.grid) if pair.georeferenced else None,
        max_shift_px=max_shift * pair.fixed.factor,
        rotations_deg=(min(rotations), max(rotations)),
        scales=(min(scales), max(scales)),
        support_px=config.match.support or default_support(*kinds, pair.fixed.shape),
        n_keypoints=config.match.n_keypoints,
        model=config.estimate.model.value,
        device=str(scorer.device),
        weights=scorer.name,
        seconds=expected_pairs(config.match) / pairs_per_second(scorer) / NETWORK_SHARE[config.match.effort],
    )


def plan_image(path: Path, config: RegisterConfig) -> ImagePlan:
    """Plan how one image would be matched, as the fixed one of a pair of its own resolution.

    Raises:
        InputError: The file cannot be read or used.
        UsageError: A band does not exist.
    """
    bands = config.read.fixed_bands
    guess, _ = guess_kind(open_info(path), bands, config.read.fixed_kind)
    read = read_bands(path, bands, max_side=config.read.max_side)
    return _image_plan(path, bands, guess, guess.kind, read.factor, read.valid)


def expected_pairs(config: MatchConfig) -> float:
    """Return the number of pairs that the network scores if the first initial transform is right."""
    return PAIRS_PER_KEYPOINT * config.n_keypoints if config.effort is Effort.THOROUGH else SAMPLED_PAIRS


def pairs_per_second(scorer: LoadedScorer) -> float:
    """Measure how many pairs of patches the network scores per second on this machine."""
    patches = np.zeros((_PROBE_PAIRS, 1, PATCH_SIZE, PATCH_SIZE), np.float32)
    index = np.arange(_PROBE_PAIRS)
    scorer.score(patches, patches, index[:1], index[:1])  # what is set up at the first use
    start = time.perf_counter()
    scorer.score(patches, patches, index, index)
    return _PROBE_PAIRS / (time.perf_counter() - start)


def _image_plan(
    path: Path, bands: tuple[int, ...], guess: Guess, kind: Kind, factor: float, valid: NDArray[np.bool_]
) -> ImagePlan:
    info = open_info(path)
    why = guess.reason if guess.kind is kind else _UNFOUNDED
    shape = valid.shape[0], valid.shape[1]
    chosen = bands or info.data_bands
    live = live_bands(path, chosen) or chosen
    dead = tuple(band for band in chosen if band not in live)
    return ImagePlan(info, live, dead, kind, why, factor, shape, float(valid.mean()))


def _overlap(prior: Matrix, fixed: Grid, moving: Grid) -> Overlap:
    """Intersect the fixed image with the outline of the moving one on it."""
    outlines = corners_of(fixed.shape).astype(np.float32), project(prior, corners_of(moving.shape)).astype(np.float32)
    area, common = cv2.intersectConvexConvex(*outlines)
    size = np.zeros(2) if common is None else np.ptp(common.reshape(-1, 2), axis=0)
    width, height = size * (fixed.metres_per_pixel or 0.0)
    fixed_share, moving_share = (area / cv2.contourArea(outline) for outline in outlines)
    return Overlap(fixed_share, moving_share, float(width), float(height))

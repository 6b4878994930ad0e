"""The last search for large scenes: in windows at full resolution, around the estimate of the reduced scene.

A scene that had to be reduced is registered to a fraction of its reduced pixels, and each of those is many of its own.
Windows spread over the overlap are read at full resolution and matched around that estimate; all their tie points
together make the final fit. If a scene was reduced by more than four, windows at resolutions between come first, so
that no search has to reach too far. The number of windows and of keypoints does not depend on the size of the scene,
and neither does the time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from rrl_register.config import EstimateConfig
from rrl_register.estimation.model_selection import Candidate
from rrl_register.geometry.arrays import Image, Mask, Points
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.homography import fit_homography
from rrl_register.geometry.tie_points import Matches
from rrl_register.geometry.transforms import compose, rescale_matrix, translation
from rrl_register.geometry.window import Frames, Rectangle
from rrl_register.matching.estimate import Estimate, estimate_transform
from rrl_register.matching.features.keypoints import corner_response
from rrl_register.matching.guided_matching import locate
from rrl_register.matching.image_pair import SAME_RESOLUTION, ImagePair, MatchingContext
from rrl_register.matching.search_config import StageTimer
from rrl_register.parallel import one_blas_thread

logger = logging.getLogger(__name__)

N_WINDOWS = 25
"""Largest number of windows; one in each of the blocks in which the evidence counts inliers."""
WINDOW = 512
"""Side of a window, px: correlation windows and the search around them have to lie within it."""
MAX_STEP = 4.0
"""Largest ratio of one resolution to the one before: an estimate good to 1 px is then good to 4."""
RADII = (8, 20)
"""Least and largest search radius, px."""
ERRORS = 3.0
"""Search radius, in standard errors of the estimate."""
UNKNOWN_ERROR = 2.0
"""Error assumed of an estimate whose tie points are too few to measure it, px."""
BETWEEN_SHARE = 0.4
"""Share of the keypoints at resolutions between: they only have to lead on."""
BEYOND = 8
"""Width of the moving image that is read around the place of a fixed window, px."""

WindowReader = Callable[[Frames, Rectangle, Rectangle], ImagePair | None]
"""Reads windows of both files, px of the frames, as ``PairFiles.window`` does; None if one of them is empty."""


@dataclass(frozen=True)
class FullResolutionSearch:
    """The search in windows.

    Attributes:
        context: The pair at the resolution of the first estimate.
        read: Reads the windows.
        config: Settings of the estimation.
        models: Candidate models of the fit, from simple to flexible.
        timer: Times a named stage.
    """

    context: MatchingContext
    read: WindowReader
    config: EstimateConfig
    models: Sequence[Candidate]
    timer: StageTimer

    def refined(self, estimate: Estimate) -> Iterator[Estimate]:
        """Yield estimates at higher and higher resolution, up to the files' own, as long as each is accepted.

        Args:
            estimate: Estimate of the whole scene; one that is not accepted leads to no other.
        """
        pair = self.context.pair
        steps = resolutions(min(pair.fixed.factor, pair.moving.factor))
        for step in steps:
            if estimate.refusal(self.config) is not None:
                return
            share = 1.0 if step == steps[-1] else BETWEEN_SHARE
            finer = self._at(estimate, step, round(share * self.context.config.n_keypoints))
            if finer is None:
                return
            yield finer
            estimate = finer

    def _at(self, estimate: Estimate, step: float, n_points: int) -> Estimate | None:
        """Estimate the transform anew in pixels ``step`` times smaller than the pair's."""
        pair, ratio = self.context.pair, step / estimate.step
        radius, displacement = search_radius(estimate, ratio), estimate.transform.displacement
        finer_matrix = rescale_matrix(estimate.matrix, 1 / ratio, 1 / ratio)
        start = Transform(finer_matrix, displacement and displacement.reduced(1 / ratio))
        with self.timer("windows"):
            windows = choose_windows(estimate, step)
            each = math.ceil(n_points / max(1, len(windows)))
            found = [self._matches(start, window, step, radius, each) for window in windows]
            matches = Matches.joined([matches for matches in found if matches])
        with self.timer("estimate"), one_blas_thread():
            half = self.context.correlation_half
            finer = estimate_transform(pair, matches, self.config, self.models, radius, half, step)
        result = finer and (finer.model, finer.evidence)
        logger.info("%d windows of 1/%.3g px, radius %d: %s", len(windows), step, radius, result)
        return finer

    def _matches(self, start: Transform, window: Rectangle, step: float, radius: int, n_points: int) -> Matches | None:
        """Match one window; tie points are in px of the frames. None if one of the images has no data there."""
        pair = self.context.pair
        around = window.corners + BEYOND * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        height, width = (math.floor(side * step) for side in pair.moving.shape)
        moving = Rectangle.around(start.backward(around), (height, width))
        part = moving and self.read(pair.frames.finer(step), window, moving)
        if not (moving and part):
            return None
        context = self.context.with_pair(part)
        to_window, from_part = translation(-window.left, -window.top), translation(moving.left, moving.top)
        local = start.matrix
        if start.displacement:  # the homography that comes nearest to it within the window
            places: Points = np.concatenate([window.corners, window.corners.mean(axis=0, keepdims=True)])
            local = fit_homography(start.backward(places), places)
        matrix = compose(to_window, local, from_part)
        located = locate(context, matrix, radius, n_points, 1, margin=context.correlation_half + radius)
        return located.score().moved((window.left, window.top), (moving.left, moving.top))


def resolutions(factor: float) -> tuple[float, ...]:
    """Return the resolutions of the searches, as ratios of the scene's pixels to theirs; the files' own comes last.

    Args:
        factor: File px per px of the reduced scene; if it is small, there is nothing to gain.
    """
    if factor < SAME_RESOLUTION:
        return ()
    n = math.ceil(math.log(factor) / math.log(MAX_STEP) - 1e-9)
    return (*(factor ** (i / n) for i in range(1, n)), factor)


def search_radius(estimate: Estimate, ratio: float) -> int:
    """Return the radius of the next search, in pixels ``ratio`` times smaller than the estimate's."""
    spread = estimate.uncertainty.max if estimate.uncertainty else math.nan
    errors = [error for error in (estimate.evidence.check_rmse_px, spread) if math.isfinite(error)]
    error = math.hypot(*errors) if errors else UNKNOWN_ERROR
    return int(np.clip(math.ceil(ERRORS * error * ratio), *RADII))


def choose_windows(estimate: Estimate, step: float) -> list[Rectangle]:
    """Choose windows of the fixed image, one in each block of the overlap, at the most structure in both images.

    Args:
        estimate: Estimate that defines the overlap.
        step: Pixels of the windows along one of the pair.

    Returns:
        At most ``N_WINDOWS``, from top to bottom, as files are read best, px.
    """
    pair = estimate.pair
    placed, valid = pair.placed(rescale_matrix(estimate.matrix, estimate.step, estimate.step))
    both = valid & pair.fixed.valid
    texture = np.sqrt(corner_response(pair.fixed.values, pair.fixed.valid) * corner_response(placed, valid)) * both
    height, width = (math.floor(side * step) for side in both.shape)
    side = min(WINDOW, height, width)
    windows = []
    for left, top in _richest(texture, both, side / step):
        x, y = min(round(left * step), width - side), min(round(top * step), height - side)
        windows.append(Rectangle(x, y, side, side))
    return sorted(windows, key=lambda window: (window.top, window.left))


def _richest(texture: Image, both: Mask, side: float) -> list[tuple[int, int]]:
    """Return the left and top edges of the squares with the most texture, one in each block of the overlap."""
    left, top, width, height = cv2.boundingRect(both.astype(np.uint8))
    columns = min(round(math.sqrt(N_WINDOWS * width / height)), math.ceil(width / side)) if both.any() else 0
    rows = min(N_WINDOWS // max(1, columns), math.ceil(height / side))
    whole = max(1, round(side))
    total = cv2.boxFilter(texture, cv2.CV_32F, (whole, whole), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    found = []
    for y0, y1 in _starts(top, height, rows, whole):
        for x0, x1 in _starts(left, width, columns, whole):
            block = total[y0:y1, x0:x1]
            row, column = np.unravel_index(int(block.argmax()), block.shape)
            if block[row, column] > 0:
                found.append((x0 + int(column), y0 + int(row)))
    return found


def _starts(start: int, length: int, n: int, side: int) -> list[tuple[int, int]]:
    """Return where windows may begin along one axis, in each of ``n`` equal blocks; ends excluded."""
    edges = np.linspace(start, start + length, n + 1).round().astype(int)
    return [(int(low), max(int(low), int(high) - side) + 1) for low, high in pairwise(edges)]

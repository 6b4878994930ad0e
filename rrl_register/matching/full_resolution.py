"""The last search for large scenes: in windows at full resolution, around what the whole scene, reduced, has shown.

A scene that had to be reduced is registered to a fraction of its reduced pixels, which are many of its own. Windows
spread over the overlap are read at full resolution and searched around that estimate; all their tie points together
make the final fit. Where a scene was reduced by more than four, windows of resolutions between come first, so that no
search has to reach too far. The number of windows and of keypoints does not depend on the size of the scene, and
neither does the time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.config import EstimateConfig
from rrl_register.estimation.model_selection import Candidate
from rrl_register.geometry.arrays import Image, Mask, Matrix
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.homography import fit_homography
from rrl_register.geometry.pixel_frame import Frames
from rrl_register.geometry.tie_points import Matches
from rrl_register.geometry.transforms import compose, rescale_matrix, translation
from rrl_register.geometry.window import Rectangle
from rrl_register.matching.descriptor_matching import MatchingContext
from rrl_register.matching.estimate import Estimate, estimate_from
from rrl_register.matching.features.keypoints import corner_response
from rrl_register.matching.guided_matching import guided_pass
from rrl_register.matching.image_pair import SAME_RESOLUTION, ImagePair
from rrl_register.parallel import one_blas_thread

logger = logging.getLogger(__name__)

Stage = Callable[[str], AbstractContextManager[None]]
"""Times a named stage."""

N_WINDOWS = 25
"""At most; one in each of the blocks in which the evidence looks for inliers."""
WINDOW = 512
"""Side of a window, px: correlation windows and the search around them have to lie within it."""
MAX_STEP = 4.0
"""How much finer each resolution is than the one before, at most: an estimate good to 1 px is then good to 4."""
RADII = (8, 20)
"""Least and largest search radius, px."""
ERRORS = 3.0
"""Standard errors of the estimate within which the right place is looked for."""
UNKNOWN_ERROR = 2.0
"""Error of an estimate whose tie points are too few to tell it, px."""
BETWEEN_SHARE = 0.4
"""Of the keypoints, for resolutions between: they only have to lead on."""
BEYOND = 8
"""Px around the place of a fixed window that are read of the moving image."""


class WindowReader(Protocol):
    """Reads windows of both files; ``PairFiles.window`` does."""

    def __call__(self, frames: Frames, fixed: Rectangle, moving: Rectangle) -> ImagePair | None:
        """Gives the parts of both images, in px of the frames, as a pair; None where one of them is empty."""


@dataclass(frozen=True)
class WindowSearch:
    """The search in windows.

    Attributes:
        read: Reads them.
        config: Of the estimation.
        models: Candidates of the fit, from stiff to flexible.
        stage: Times a named stage.
    """

    read: WindowReader
    config: EstimateConfig
    models: Sequence[Candidate]
    stage: Stage

    def refined(self, estimate: Estimate) -> Iterator[Estimate]:
        """Estimates of higher and higher resolution, up to the files' own, as long as each is accepted.

        Args:
            estimate: Of the whole scene, accepted or not; one that is not leads to no other.
        """
        pair = estimate.scene.pair
        steps = resolutions(min(pair.fixed_factor, pair.moving_factor))
        for step in steps:
            if not estimate.accepted(self.config):
                return
            share = 1.0 if step == steps[-1] else BETWEEN_SHARE
            finer = self._at(estimate, step, round(share * estimate.scene.config.n_keypoints))
            if finer is None:
                return
            yield finer
            estimate = finer

    def _at(self, estimate: Estimate, step: float, n_points: int) -> Estimate | None:
        """The estimate made anew in pixels ``step`` times smaller than the scene's."""
        ratio = step / estimate.step
        start, radius = _finer(estimate.transform, ratio), search_radius(estimate, ratio)
        with self.stage("windows"):
            windows = choose_windows(estimate, step)
            each = math.ceil(n_points / max(1, len(windows)))
            frames = estimate.scene.pair.frames.finer(step)
            found = [self._tied(estimate.scene, frames, start, window, step, radius, each) for window in windows]
            matches = Matches.joined([matches for matches in found if matches])
        with self.stage("estimate"), one_blas_thread():
            finer = estimate_from(estimate.scene, matches, self.config, self.models, radius, step)
        logger.info(
            "%d windows of 1/%.3g px, radius %d: %s",
            len(windows),
            step,
            radius,
            finer and (finer.model, finer.evidence),
        )
        return finer

    def _tied(
        self,
        scene: MatchingContext,
        frames: Frames,
        start: Transform,
        window: Rectangle,
        step: float,
        radius: int,
        n_points: int,
    ) -> Matches | None:
        """Tie points of one window, in px of the frames; None where one of the images has nothing there."""
        around = window.corners + BEYOND * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        shape = tuple(math.floor(side * step) for side in scene.pair.moving.shape)
        moving = Rectangle.around(start.backward(around), (shape[0], shape[1]))
        pair = moving and self.read(frames, window, moving)
        if not (moving and pair):
            return None
        part = scene.showing(pair)
        local = compose(
            translation(-window.left, -window.top), _around(start, window), translation(moving.left, moving.top)
        )
        matches = guided_pass(part, local, radius, n_points, n_peaks=1, margin=part.correlation_half + radius)
        return matches.moved((window.left, window.top), (moving.left, moving.top))


def resolutions(factor: float) -> tuple[float, ...]:
    """How much smaller than the scene's pixels those of each search are, the files' own coming last.

    Args:
        factor: By how much the scene was reduced; by little, there is nothing to gain.
    """
    if factor < SAME_RESOLUTION:
        return ()
    n = math.ceil(math.log(factor) / math.log(MAX_STEP) - 1e-9)
    return (*(factor ** (i / n) for i in range(1, n)), factor)


def search_radius(estimate: Estimate, ratio: float) -> int:
    """How far the next search has to look, px that are ``ratio`` times smaller than the estimate's."""
    spread = estimate.uncertainty.max if estimate.uncertainty else math.nan
    errors = [error for error in (estimate.evidence.check_rmse_px, spread) if math.isfinite(error)]
    error = math.hypot(*errors) if errors else UNKNOWN_ERROR
    return int(np.clip(math.ceil(ERRORS * error * ratio), *RADII))


def choose_windows(estimate: Estimate, step: float) -> list[Rectangle]:
    """Windows of the fixed image, one in each block of the overlap, where both images have most structure.

    Args:
        estimate: Tells the overlap.
        step: Pixels of the windows along one of the scene.

    Returns:
        At most ``N_WINDOWS``, from top to bottom as files are read best, px.
    """
    pair = estimate.scene.pair
    placed, valid = pair.placed(rescale_matrix(estimate.matrix, estimate.step, estimate.step))
    both = valid & pair.fixed_valid
    texture = np.sqrt(corner_response(pair.fixed, pair.fixed_valid) * corner_response(placed, valid)) * both
    height, width = (math.floor(side * step) for side in both.shape)
    side = min(WINDOW, height, width)
    windows = []
    for left, top in _richest(texture, both, side / step):
        x, y = min(round(left * step), width - side), min(round(top * step), height - side)
        windows.append(Rectangle(x, y, side, side))
    return sorted(windows, key=lambda window: (window.top, window.left))


def _richest(texture: Image, both: Mask, side: float) -> list[tuple[int, int]]:
    """Left and top edge of the squares with the most texture, one in each block of the overlap."""
    left, top, width, height = cv2.boundingRect(both.astype(np.uint8))
    columns = min(round(math.sqrt(N_WINDOWS * width / height)), math.ceil(width / side)) if both.any() else 0
    rows = min(N_WINDOWS // max(1, columns), math.ceil(height / side))
    whole = max(1, round(side))
    total = cv2.boxFilter(texture, cv2.CV_32F, (whole, whole), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    found = []
    for y0, y1 in _spans(top, height, rows, whole):
        for x0, x1 in _spans(left, width, columns, whole):
            block = total[y0:y1, x0:x1]
            row, column = np.unravel_index(int(block.argmax()), block.shape)
            if block[row, column] > 0:
                found.append((x0 + int(column), y0 + int(row)))
    return found


def _spans(start: int, length: int, n: int, side: int) -> list[tuple[int, int]]:
    """Where windows may begin along one axis, in each of ``n`` equal blocks; ends excluded."""
    edges = np.linspace(start, start + length, n + 1).round().astype(int)
    return [(int(low), max(int(low), int(high) - side) + 1) for low, high in pairwise(edges)]


def _finer(transform: Transform, ratio: float) -> Transform:
    """A transform in pixels ``ratio`` times smaller."""
    displacement = transform.displacement
    return Transform(
        rescale_matrix(transform.matrix, 1 / ratio, 1 / ratio), displacement and displacement.reduced(1 / ratio)
    )


def _around(transform: Transform, window: Rectangle) -> Matrix:
    """The homography that does within a window of the fixed image what a transform does there."""
    if transform.displacement is None:
        return transform.matrix
    places: NDArray[np.float64] = np.concatenate([window.corners, window.corners.mean(axis=0, keepdims=True)])
    return fit_homography(transform.backward(places), places)

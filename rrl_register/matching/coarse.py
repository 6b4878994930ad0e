"""Coarse search: rotation, scale and shift of a whole scene, found without a starting point.

Every rotation, scale and shift of a grid is tried by the correlation of orientation features (``matching.scan``). The
best are then improved by local search, judged and ranked. All of it happens on reduced images, which also drowns what
differs between spectra most: texture and speckle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rrl_register.estimation.ransac import Model, robust_fit
from rrl_register.geometry.arrays import Image, Mask, Matrix, Points
from rrl_register.geometry.transforms import corners_of, decompose, implausibility, invert, project
from rrl_register.matching.coarse_features import ReducedPair, Template
from rrl_register.matching.coarse_scan import Peak, scan
from rrl_register.matching.features.keypoints import spread_grid
from rrl_register.matching.local_correlation import Structure, peaks_between
from rrl_register.parallel import parallel_map

REFINE_SIDE = 288
"""Longest side of the images on which the best hypotheses are refined, px."""

_SPARE = 1
"""Guesses refined beyond the number asked for: refinement may merge some or change their order."""
_APART = 0.15
"""Mean corner distance of two guesses worth refining, as a share of the longer side: nearer ones end in one place."""
_DISTINCT = 0.06
"""Mean corner distance from which two refined hypotheses are two, as a share of the longer side."""

_POINT_STEP = 28
_POINT_HALF = 20
_SCREENING = ((10, Model.SIMILARITY),)
_REFINEMENTS = ((10, Model.SIMILARITY), (5, Model.AFFINE))
"""Search radius (reduced px) and model of each round of refinement."""
_MOST_RADIUS = max(radius for radius, _ in (*_SCREENING, *_REFINEMENTS))
T = TypeVar("T")
_REFINE_THRESHOLD = 2.0
_REFINE_MIN_INLIERS = 8


@dataclass(frozen=True)
class Hypothesis:
    """A guess at the transform.

    Attributes:
        matrix: (3, 3) transform moving -> fixed.
        score: correlation per root of the overlap, in (robust) standard deviations of its values at all other shifts.
        correlation: normalised correlation of the orientation features in the overlap, -1..1.
        rotation_deg: rotation at the centre of the moving image.
        scale: fixed pixels per moving pixel at the centre of the moving image.
    """

    matrix: Matrix
    score: float
    correlation: float
    rotation_deg: float
    scale: float


@dataclass(frozen=True)
class SearchGrid:
    """What is scanned, and how finely.

    Attributes:
        rotations: of the moving image, degrees.
        scales: fixed pixels per moving pixel.
        side: longest side of the smaller image while it is scanned, px. Half a step of rotation or scale moves the
            rim by 2.5 px, which the features bear.
        screened: peaks that are improved on somewhat larger images first, because peaks of a coarse scan are not yet
            in the right order; 0: none.
    """

    rotations: tuple[float, ...]
    scales: tuple[float, ...]
    side: int = 192
    screened: int = 0

    def times(self, scale: float) -> SearchGrid:
        """The same grid for a moving image whose pixels have not been scaled yet."""
        return replace(self, scales=tuple(scale * each for each in self.scales))


def rotation_grid(limit_deg: float, step_deg: float = 3.0) -> tuple[float, ...]:
    """Rotations within +-``limit_deg`` and 0 among them, at most ``step_deg`` apart; the whole turn from 180 on."""
    n = int(np.ceil(min(limit_deg, 180.0) / step_deg))
    if limit_deg >= 180:
        return tuple(180.0 * i / n for i in range(-n, n))
    return tuple(limit_deg * i / n for i in range(-n, n + 1)) if n else (0.0,)


def scale_grid(low: float, high: float, step: float = 1.06) -> tuple[float, ...]:
    """Scales from ``low`` to ``high`` in equal ratios of at most ``step``."""
    n = int(np.ceil(np.log(high / low) / np.log(step) - 1e-9))
    return tuple(low * (high / low) ** (i / n) for i in range(n + 1)) if n else (low,)


SCREEN_SIDE = 192
_WIDE_SIDE = 128
_WIDE_SCREENED = 60
_UPRIGHT_DEG, _UPRIGHT_SCALES = 20.0, (0.8, 1.25)
"""Images taken side by side."""
_PRIOR_DEG, _PRIOR_SCALES = 4.0, (0.95, 1.05)
"""Errors of georeferences, and what ``none`` still allows."""
_ANY_SCALE = (0.5, 2.0)
_GIVEN_DEG, _GIVEN_SCALE = 10.0, 1.15
"""How far off a rotation or a scale that is given may be."""

UPRIGHT = SearchGrid(rotation_grid(_UPRIGHT_DEG), scale_grid(*_UPRIGHT_SCALES))


def wide_grid(scales: tuple[float, float] = _ANY_SCALE) -> SearchGrid:
    """The whole turn and scales from the first to the second, scanned coarsely; the best peaks are screened."""
    return SearchGrid(rotation_grid(180, 5.0), scale_grid(*scales, 1.1), _WIDE_SIDE, _WIDE_SCREENED)


def search_grids(rotation: str, scale: str, georeferenced: bool) -> tuple[SearchGrid, ...]:
    """What to search, in turn, until a transform is proven.

    Args:
        rotation: ``auto``, ``none`` or degrees, on top of what georeferences say.
        scale: ``auto``, ``none`` or fixed pixels per moving pixel, on top of what georeferences, or else sizes, say.
        georeferenced: whether both images have georeferences.
    """
    scales = _scale_range(scale, georeferenced)
    if rotation == "auto" and not georeferenced:
        low, high = max(scales[0], _UPRIGHT_SCALES[0]), min(scales[1], _UPRIGHT_SCALES[1])
        if low >= high:
            return (wide_grid(scales),)
        fine = scale_grid(low, high)
        grids = SearchGrid(rotation_grid(_UPRIGHT_DEG), fine), SearchGrid(rotation_grid(180), fine)
        return grids if (low, high) == scales else (*grids, wide_grid(scales))
    given = rotation not in ("auto", "none")
    middle, limit = (float(rotation), _GIVEN_DEG) if given else (0.0, _PRIOR_DEG)
    return (SearchGrid(tuple(middle + turn for turn in rotation_grid(limit)), scale_grid(*scales)),)


def _scale_range(scale: str, georeferenced: bool) -> tuple[float, float]:
    if scale == "none" or (scale == "auto" and georeferenced):
        return _PRIOR_SCALES
    if scale == "auto":
        return _ANY_SCALE
    return float(scale) / _GIVEN_SCALE, float(scale) * _GIVEN_SCALE


def coarse_hypotheses(
    fixed: Image,
    fixed_valid: Mask,
    moving: Image,
    moving_valid: Mask,
    *,
    grid: SearchGrid = UPRIGHT,
    max_shift: float | None = None,
    n: int = 3,
) -> list[Hypothesis]:
    """Search rotation, scale and shift of the moving image exhaustively; refine, judge and rank the best.

    Hypotheses are counted from the identity: what is known of the transform is to be applied to the image before.

    Args:
        fixed: (H, W) float32 in [0, 1].
        fixed_valid: (H, W) bool.
        moving: (h, w) float32 in [0, 1].
        moving_valid: (h, w) bool.
        grid: rotations about the moving image's centre and scales to try.
        max_shift: largest distance of the moving image's centre from the fixed one's, fixed pixels; None: a third of
            the longer side.
        n: hypotheses at most.

    Returns:
        Distinct hypotheses, best first; empty when an image has no valid pixel. To have one is no verdict.
    """
    if not (fixed_valid.any() and moving_valid.any()):
        return []
    longest = max(*fixed.shape, *moving.shape)
    reach = longest / 3 if max_shift is None else max_shift
    images = (fixed, fixed_valid, moving, moving_valid)
    ranked = scan(*images, grid.rotations, grid.scales, reach, grid.side)
    if grid.screened:
        guesses = _distinct(ranked, moving.shape, _DISTINCT, grid.screened)
        workbench = Workbench(images, SCREEN_SIDE, reach)
        ranked = _side_by_side(workbench, guesses, lambda guess: workbench.refined(guess, _SCREENING))
    workbench = Workbench(images, REFINE_SIDE, reach)
    guesses = _distinct(ranked, moving.shape, _APART, n + _SPARE)
    judged = _side_by_side(workbench, guesses, lambda guess: workbench.judged(workbench.refined(guess, _REFINEMENTS)))
    kept = _distinct([Peak(each.score, each.matrix, each.scale) for each in judged], moving.shape, _DISTINCT, n)
    return [hypothesis for guess in kept for hypothesis in judged if hypothesis.matrix is guess.matrix]


def _side_by_side(workbench: Workbench, guesses: Sequence[Peak], work: Callable[[Peak], T]) -> list[T]:
    """What comes of each guess, several at a time."""
    # Guesses of one scale share what is prepared for it, which is done before they would all begin with it.
    parallel_map(workbench.prepare, {guess.scale for guess in guesses})
    return parallel_map(work, guesses)


def _distinct(ranked: Sequence[Peak], shape: tuple[int, ...], share: float, n: int) -> list[Peak]:
    """The first transforms by falling height, without those whose image corners lie near a higher one's.

    Args:
        ranked: what to choose from.
        shape: (H, W) of the moving image.
        share: mean distance of the corners that is near, as a share of the moving image's longer side.
        n: transforms at most.
    """
    kept: list[Peak] = []
    placed = np.empty((0, 4, 2))
    for guess in sorted(ranked, key=lambda each: -each.height):
        corners = project(guess.matrix, corners_of(shape))
        distance = np.hypot(*np.moveaxis(placed - corners, -1, 0)).mean(axis=1)
        if (distance > share * max(shape) * guess.scale).all():
            kept.append(guess)
            placed = np.concatenate([placed, corners[None]])
        if len(kept) == n:
            break
    return kept


@dataclass(frozen=True)
class _Prepared:
    """A pair reduced for one scale, with what every local search on it needs."""

    pair: ReducedPair
    template: Template
    structure: Structure
    points: Points

    @classmethod
    def of(cls, pair: ReducedPair, max_shift: float) -> _Prepared:
        """Prepares a pair, in several threads."""
        fixed = pair.fixed, pair.fixed_valid
        parts: list[Callable[[], Any]] = [
            lambda: Template.of(pair, max_shift),
            lambda: Structure.of(*fixed, _POINT_HALF, _MOST_RADIUS),
            lambda: spread_grid(*fixed, _POINT_STEP),
        ]
        return cls(pair, *parallel_map(lambda make: make(), parts))


class Workbench:
    """Improves and judges transforms on reduced images.

    Args:
        images: Fixed image and mask, moving image and mask.
        side: Longest side of the smaller one after reduction, px.
        max_shift: Fixed pixels that a transform is compared with itself over.
    """

    def __init__(self, images: tuple[Image, Mask, Image, Mask], side: int, max_shift: float) -> None:
        self._images, self._side, self._max_shift = images, side, max_shift
        self._by_scale: dict[float, _Prepared] = {}

    def refined(self, guess: Peak, rounds: Sequence[tuple[int, Model]]) -> Peak:
        """The guess after local search, or as it was where that does not improve the correlation; ranked by it."""
        reduced = self._prepared(guess.scale)
        pair, template = reduced.pair, reduced.template
        start = pair.to_reduced(guess.matrix)
        found = _refine(reduced, start, rounds)
        before, after = (
            height for height, _ in parallel_map(lambda matrix: template.match(pair, matrix), (start, found))
        )
        if after > before:
            return Peak(after, pair.to_full(found), guess.scale)
        return Peak(before, guess.matrix, guess.scale)

    def judged(self, guess: Peak) -> Hypothesis:
        """Compares a transform with the same one at all other shifts."""
        pair, template = self._prepared(guess.scale).pair, self._prepared(guess.scale).template
        reduced = pair.to_reduced(guess.matrix)
        measures: tuple[Callable[..., Any], ...] = template.match, template.surface
        (height, correlation), surface = parallel_map(lambda measure: measure(pair, reduced), measures)
        lag = np.arange(-template.reach, template.reach + 1)
        others = surface[np.hypot(lag[:, None], lag) <= template.reach + 0.5]
        middle = float(np.median(others))
        spread = 1.4826 * float(np.median(np.abs(others - middle))) + 1e-9
        parts = decompose(guess.matrix, self._images[2].shape)
        return Hypothesis(guess.matrix, (height - middle) / spread, correlation, parts.rotation_deg, parts.scale)

    def prepare(self, scale: float) -> None:
        """Makes what guesses of a scale need, which else is made for the first of them."""
        self._prepared(scale)

    def _prepared(self, scale: float) -> _Prepared:
        if scale not in self._by_scale:
            pair = ReducedPair.of(*self._images, self._side, scale)
            self._by_scale[scale] = _Prepared.of(pair, self._max_shift)
        return self._by_scale[scale]


def _refine(reduced: _Prepared, matrix: Matrix, rounds: Sequence[tuple[int, Model]]) -> Matrix:
    """Improve a reduced transform by local search and robust fits, as long as enough points agree on one."""
    pair = reduced.pair
    for radius, model in rounds:
        image, valid = pair.warped(matrix, pair.fixed.shape)
        points = reduced.points[_on(valid, reduced.points)]
        structure = Structure.of(image, valid, _POINT_HALF, _MOST_RADIUS)
        peaks = peaks_between(reduced.structure, structure, points, radius, 1)
        good = peaks.valid[:, 0]
        moving = project(invert(matrix), peaks.positions[good, 0])
        fit = robust_fit(moving, points[good], _REFINE_THRESHOLD, model, peaks.correlation[good, 0])
        if fit is None or fit.inliers.sum() < _REFINE_MIN_INLIERS or implausibility(fit.matrix, pair.moving.shape):
            break
        matrix = fit.matrix
    return matrix


def _on(valid: Mask, points: Points) -> NDArray[np.bool_]:
    """Which points (N, 2) lie on valid pixels."""
    columns, rows = np.rint(points).astype(np.int64).T
    return np.asarray(valid[rows, columns])

"""Coarse search: rotation, scale and shift of a whole scene, found without a starting point.

The moving image is turned and scaled by every hypothesis of a grid; all shifts of a hypothesis are tried at once by an
FFT correlation of orientation features. The best ones are then refined by local search. Both happen on reduced images,
which also drowns what differs between spectra most: texture and speckle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rrl_register.estimation.ransac import Model, robust_fit
from rrl_register.estimation.transforms import (
    Matrix,
    Points,
    centre_of,
    corners_of,
    decompose,
    invert,
    is_sane,
    project,
    similarity,
    translation,
)
from rrl_register.keypoints import spread_grid
from rrl_register.matching.correlation import ReducedPair, Template
from rrl_register.matching.refine import local_peaks
from rrl_register.structure import Image, Mask, oriented_gradients

SCAN_SIDE = 192
"""Longest side of the images that are scanned, px."""
REFINE_SIDE = 288
"""Longest side of the images on which the best hypotheses are refined, px."""
ROTATION_STEP_DEG = 3.0
"""Step between rotations: half of it moves the rim of a scanned image by 2.5 px, which the features bear."""
SCALE_STEP = 1.06
"""Ratio of neighbouring scales, chosen likewise."""

_PEAKS_PER_MAP = 2
_PEAK_RADIUS = 6
"""Shifts this near to a peak (chessboard) belong to it, scanned px."""
_SPARE = 1
"""Guesses refined beyond the number asked for: refinement may merge some or change their order."""
_APART = 0.15
"""Mean corner distance of two guesses worth refining, as a share of the longer side: nearer ones end in one place."""
_DISTINCT = 0.06
"""Mean corner distance from which two refined hypotheses are two, as a share of the longer side."""

_ORIENTATIONS = 6
_POINT_STEP = 28
_POINT_HALF = 20
_REFINEMENTS = ((10, Model.SIMILARITY), (5, Model.AFFINE))
"""Search radius (refined px) and model of each round of refinement."""
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


def rotation_grid(limit_deg: float, step_deg: float = ROTATION_STEP_DEG) -> tuple[float, ...]:
    """Rotations within +-``limit_deg`` and 0 among them, at most ``step_deg`` apart; the whole turn from 180 on."""
    n = int(np.ceil(min(limit_deg, 180.0) / step_deg))
    if limit_deg >= 180:
        return tuple(180.0 * i / n for i in range(-n, n))
    return tuple(limit_deg * i / n for i in range(-n, n + 1)) if n else (0.0,)


def scale_grid(low: float, high: float, step: float = SCALE_STEP) -> tuple[float, ...]:
    """Scales from ``low`` to ``high`` in equal ratios of at most ``step``."""
    n = int(np.ceil(np.log(high / low) / np.log(step) - 1e-9))
    return tuple(low * (high / low) ** (i / n) for i in range(n + 1)) if n else (low,)


UNREFERENCED_ROTATIONS = rotation_grid(20)
UNREFERENCED_SCALES = scale_grid(0.8, 1.25)
GEOREFERENCED_ROTATIONS = rotation_grid(4)
GEOREFERENCED_SCALES = scale_grid(0.95, 1.05)


def coarse_hypotheses(
    fixed: Image,
    fixed_valid: Mask,
    moving: Image,
    moving_valid: Mask,
    *,
    rotations: Sequence[float] = UNREFERENCED_ROTATIONS,
    scales: Sequence[float] = UNREFERENCED_SCALES,
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
        rotations: rotations about the moving image's centre to try, degrees.
        scales: scales to try, fixed pixels per moving pixel.
        max_shift: largest shift of the moving image's centre, fixed pixels; None: a third of the longer side.
        n: hypotheses at most.

    Returns:
        Distinct hypotheses, best first; empty when an image has no valid pixel. To have one is no verdict.
    """
    longest = max(*fixed.shape, *moving.shape)
    reach = longest / 3 if max_shift is None else max_shift
    pair = ReducedPair.of(fixed, fixed_valid, moving, moving_valid, SCAN_SIDE)
    if not (pair.fixed_valid.any() and pair.moving_valid.any()):
        return []
    peaks = _scan(pair, Template.of(pair, reach), rotations, scales)
    peaks = [(height, pair.to_full(matrix)) for height, matrix in peaks]
    guesses = _distinct(peaks, moving.shape, _APART * longest)[: n + _SPARE]
    detail = ReducedPair.of(fixed, fixed_valid, moving, moving_valid, REFINE_SIDE)
    template = Template.of(detail, reach)
    judged = [_judged(detail, template, matrix) for matrix in _refined(detail, template, guesses)]
    ranked = _distinct([(each.score, each.matrix) for each in judged], moving.shape, _DISTINCT * longest)[:n]
    return [hypothesis for matrix in ranked for hypothesis in judged if hypothesis.matrix is matrix]


def _scan(
    pair: ReducedPair, template: Template, rotations: Sequence[float], scales: Sequence[float]
) -> list[tuple[float, Matrix]]:
    """Peaks (height, reduced transform) of the correlation over all hypotheses."""
    reach = template.reach
    within = _within(reach)
    peaks: list[tuple[float, Matrix]] = []
    for rotation in rotations:
        for scale in scales:
            turn = similarity(scale, rotation, centre=centre_of(pair.moving.shape))
            surface = np.where(within, template.surface(pair, turn), 0)
            peaks += [(height, translation(reach - x, reach - y) @ turn) for height, x, y in _highest(surface)]
    return peaks


def _within(reach: int) -> Mask:
    """Which of the shifts -reach..reach along y and x are no longer than ``reach``."""
    lag = np.arange(-reach, reach + 1)
    return np.asarray(np.hypot(lag[:, None], lag) <= reach + 0.5)


def _highest(surface: Image) -> list[tuple[float, int, int]]:
    """The first peaks (height, x, y) of a map, whose surroundings are struck out as they are taken."""
    peaks = []
    for _ in range(_PEAKS_PER_MAP):
        y, x = (int(i) for i in np.unravel_index(np.argmax(surface), surface.shape))
        if not surface[y, x] > 0:
            break
        peaks.append((float(surface[y, x]), x, y))
        surface[max(0, y - _PEAK_RADIUS) : y + _PEAK_RADIUS + 1, max(0, x - _PEAK_RADIUS) : x + _PEAK_RADIUS + 1] = 0
    return peaks


def _distinct(ranked: list[tuple[float, Matrix]], shape: tuple[int, ...], far: float) -> list[Matrix]:
    """Transforms by falling height, without those whose image corners lie within ``far`` of a higher one's."""
    kept: list[tuple[Matrix, Points]] = []
    for _, matrix in sorted(ranked, key=lambda pair: -pair[0]):
        corners = project(matrix, corners_of(shape))
        if all(np.hypot(*(corners - other).T).mean() > far for _, other in kept):
            kept.append((matrix, corners))
    return [matrix for matrix, _ in kept]


def _refined(pair: ReducedPair, template: Template, guesses: Sequence[Matrix]) -> list[Matrix]:
    """Each guess after local search, or as it was where that does not improve the correlation."""
    fixed = oriented_gradients(pair.fixed, pair.fixed_valid, _ORIENTATIONS)
    points = spread_grid(pair.fixed, pair.fixed_valid, _POINT_STEP)
    best = []
    for guess in guesses:
        start = pair.to_reduced(guess)
        found = _refine(pair, fixed, points, start)
        better = template.match(pair, found)[0] > template.match(pair, start)[0]
        best.append(pair.to_full(found) if better else guess)
    return best


def _refine(pair: ReducedPair, fixed: Image, points: Points, matrix: Matrix) -> Matrix:
    """Improve a reduced transform by local search and robust fits, as long as enough points agree on one."""
    for radius, model in _REFINEMENTS:
        image, valid = pair.warped(matrix, pair.fixed.shape)
        peaks = local_peaks(fixed, oriented_gradients(image, valid, _ORIENTATIONS), points, _POINT_HALF, radius, 1)
        good = peaks.valid[:, 0]
        moving = project(invert(matrix), peaks.positions[good, 0])
        fit = robust_fit(moving, points[good], _REFINE_THRESHOLD, model, peaks.correlation[good, 0])
        if fit is None or fit.inliers.sum() < _REFINE_MIN_INLIERS or is_sane(fit.matrix, pair.moving.shape):
            break
        matrix = fit.matrix
    return matrix


def _judged(pair: ReducedPair, template: Template, matrix: Matrix) -> Hypothesis:
    """Compare a transform with the same one at all other shifts."""
    reduced = pair.to_reduced(matrix)
    height, correlation = template.match(pair, reduced)
    others = template.surface(pair, reduced)[_within(template.reach)]
    middle = float(np.median(others))
    spread = 1.4826 * float(np.median(np.abs(others - middle))) + 1e-9
    parts = decompose(matrix, pair.moving.shape)
    return Hypothesis(matrix, (height - middle) / spread, correlation, parts.rotation_deg, parts.scale)

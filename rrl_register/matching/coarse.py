"""Coarse search: rotation, scale and shift of a whole scene, found without a starting point.

The moving image is turned and scaled by every hypothesis of a grid; all shifts of a hypothesis are tried at once by an
FFT correlation of orientation features. The best ones are then refined by local search. Both happen on reduced images,
which also drowns what differs between spectra most: texture and speckle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from rrl_register.estimation.ransac import Model, robust_fit
from rrl_register.estimation.transforms import (
    Matrix,
    Points,
    centre_of,
    compose,
    corners_of,
    decompose,
    invert,
    is_sane,
    project,
    similarity,
    translation,
)
from rrl_register.keypoints import spread_grid
from rrl_register.matching.refine import local_peaks
from rrl_register.structure import Image, Mask, orientation_harmonics, oriented_gradients

SCAN_SIDE = 192
"""Longest side of the images that are scanned, px."""
REFINE_SIDE = 288
"""Longest side of the images on which the best hypotheses are refined, px."""
ROTATION_STEP_DEG = 3.0
"""Step between rotations: half of it moves the rim of a scanned image by 2.5 px, which the features bear."""
SCALE_STEP = 1.06
"""Ratio of neighbouring scales, chosen likewise."""

_MIN_OVERLAP = 0.3
"""Share of the smaller valid area; a smaller overlap is scored as if it had this size, for tiny ones fit by chance."""
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
    scene = _Scene.of(fixed, fixed_valid, moving, moving_valid, SCAN_SIDE)
    if not (scene.fixed_valid.any() and scene.moving_valid.any()):
        return []
    peaks = _scan(scene, _Template.of(scene, reach), rotations, scales)
    peaks = [(height, scene.to_full(matrix)) for height, matrix in peaks]
    guesses = _distinct(peaks, moving.shape, _APART * longest)[: n + _SPARE]
    detail = _Scene.of(fixed, fixed_valid, moving, moving_valid, REFINE_SIDE)
    template = _Template.of(detail, reach)
    judged = [_judged(detail, template, matrix) for matrix in _refined(detail, template, guesses)]
    ranked = _distinct([(each.score, each.matrix) for each in judged], moving.shape, _DISTINCT * longest)[:n]
    return [hypothesis for matrix in ranked for hypothesis in judged if hypothesis.matrix is matrix]


@dataclass(frozen=True)
class _Scene:
    """Both images, reduced, and the transforms from their reduced pixels to their own."""

    fixed: Image
    fixed_valid: Mask
    fixed_scale: Matrix
    moving: Image
    moving_valid: Mask
    moving_scale: Matrix

    @classmethod
    def of(cls, fixed: Image, fixed_valid: Mask, moving: Image, moving_valid: Mask, side: int) -> _Scene:
        """Reduce both images by one factor, so that the longest of their sides becomes ``side``; never enlarge them."""
        factor = max(1.0, max(*fixed.shape, *moving.shape) / side)
        return cls(*_reduced(fixed, fixed_valid, factor), *_reduced(moving, moving_valid, factor))

    @property
    def factor(self) -> float:
        """Fixed pixels per reduced pixel."""
        return float(np.sqrt(self.fixed_scale[0, 0] * self.fixed_scale[1, 1]))

    def to_full(self, matrix: Matrix) -> Matrix:
        """A transform between the reduced images as one between the images."""
        return compose(self.fixed_scale, matrix, invert(self.moving_scale))

    def to_reduced(self, matrix: Matrix) -> Matrix:
        """A transform between the images as one between the reduced images."""
        return compose(invert(self.fixed_scale), matrix, self.moving_scale)

    def warped(self, matrix: Matrix, shape: tuple[int, ...]) -> tuple[Image, Mask]:
        """The reduced moving image under a transform on a canvas of ``shape``, and which of its pixels are valid."""
        size = (shape[1], shape[0])
        image = cv2.warpPerspective(self.moving, matrix, size, flags=cv2.INTER_LINEAR)
        valid = cv2.warpPerspective(self.moving_valid.astype(np.float32), matrix, size, flags=cv2.INTER_LINEAR)
        return np.asarray(image, np.float32), np.asarray(valid > 0.9)


def _reduced(image: Image, valid: Mask, factor: float) -> tuple[Image, Mask, Matrix]:
    """Image and mask averaged over ``factor`` pixels, invalid ones left out, and the transform back to their pixels."""
    height, width = (max(1, round(side / factor)) for side in image.shape)
    weight = cv2.resize(valid.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    total = cv2.resize(np.where(valid, image, 0).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    x, y = image.shape[1] / width, image.shape[0] / height
    back = np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]])
    return np.asarray(total / np.maximum(weight, 1e-3), np.float32), np.asarray(weight > 0.5), back


def _features(image: Image, valid: Mask) -> Image:
    """Orientation harmonics (C, H, W) less their mean, lest two scenes correlate that merely share a main direction."""
    harmonics = orientation_harmonics(image, valid)
    mean = harmonics.sum(axis=(1, 2)) / max(int(valid.sum()), 1)
    return np.asarray((harmonics - mean[:, None, None]) * valid, np.float32)


@dataclass(frozen=True)
class _Template:
    """What the reduced fixed image contributes to every correlation.

    Attributes:
        features: (C, H, W) orientation features.
        features_spectrum: conjugate spectrum of the features.
        valid_spectrum: conjugate spectrum of the mask.
        reach: largest shift along x and y, reduced px.
        least_overlap: pixels that a smaller overlap is scored as.
    """

    features: Image
    features_spectrum: NDArray[np.complex64]
    valid_spectrum: NDArray[np.complex64]
    reach: int
    least_overlap: float

    @classmethod
    def of(cls, scene: _Scene, max_shift: float) -> _Template:
        """Transform the features at the canvas's size, so that no shift wraps around."""
        reach = max(1, int(np.ceil(max_shift / scene.factor)))
        size = [scipy.fft.next_fast_len(side + 2 * reach, real=True) for side in scene.fixed.shape]
        features = _features(scene.fixed, scene.fixed_valid)
        return cls(
            features=features,
            features_spectrum=scipy.fft.rfft2(features, size).conj(),
            valid_spectrum=scipy.fft.rfft2(scene.fixed_valid.astype(np.float32), size).conj(),
            reach=reach,
            least_overlap=_MIN_OVERLAP * float(min(scene.fixed_valid.sum(), scene.moving_valid.sum())) + 1.0,
        )

    @property
    def canvas(self) -> tuple[int, int]:
        """(H, W) of the canvas that the moving image is drawn on: the fixed image and the reach around it."""
        return self.features.shape[1] + 2 * self.reach, self.features.shape[2] + 2 * self.reach

    def surface(self, scene: _Scene, matrix: Matrix) -> Image:
        """Correlation per root of the overlap for all shifts around a reduced transform.

        Element (reach + dy, reach + dx) belongs to the transform followed by a shift of the moving image by (-dx, -dy).
        """
        image, valid = scene.warped(translation(self.reach, self.reach) @ matrix, self.canvas)
        size = [scipy.fft.next_fast_len(side, real=True) for side in self.canvas]
        lags = 2 * self.reach + 1
        spectrum = np.einsum("cij,cij->ij", scipy.fft.rfft2(_features(image, valid), size), self.features_spectrum)
        product = scipy.fft.irfft2(spectrum, size)[:lags, :lags]
        overlap_spectrum = scipy.fft.rfft2(valid.astype(np.float32), size) * self.valid_spectrum
        overlap = scipy.fft.irfft2(overlap_spectrum, size)[:lags, :lags]
        return np.asarray(product / np.sqrt(np.maximum(overlap, self.least_overlap)), np.float32)

    def match(self, scene: _Scene, matrix: Matrix) -> tuple[float, float]:
        """Correlation under a reduced transform: per root of the overlap, as in ``surface``, and normalised, -1..1."""
        image, valid = scene.warped(matrix, scene.fixed.shape)
        features = _features(image, valid)
        product = float(np.vdot(self.features, features))
        overlap = float((valid & scene.fixed_valid).sum())
        energy = float((self.features**2 * valid).sum()) * float((features**2 * scene.fixed_valid).sum())
        height = product / float(np.sqrt(max(overlap, self.least_overlap)))
        return height, product / float(np.sqrt(energy)) if energy > 0 else 0.0


def _scan(
    scene: _Scene, template: _Template, rotations: Sequence[float], scales: Sequence[float]
) -> list[tuple[float, Matrix]]:
    """Peaks (height, reduced transform) of the correlation over all hypotheses."""
    reach = template.reach
    within = _within(reach)
    peaks: list[tuple[float, Matrix]] = []
    for rotation in rotations:
        for scale in scales:
            turn = similarity(scale, rotation, centre=centre_of(scene.moving.shape))
            surface = np.where(within, template.surface(scene, turn), 0)
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


def _refined(scene: _Scene, template: _Template, guesses: Sequence[Matrix]) -> list[Matrix]:
    """Each guess after local search, or as it was where that does not improve the correlation."""
    fixed = oriented_gradients(scene.fixed, scene.fixed_valid, _ORIENTATIONS)
    points = spread_grid(scene.fixed, scene.fixed_valid, _POINT_STEP)
    best = []
    for guess in guesses:
        start = scene.to_reduced(guess)
        found = _refine(scene, fixed, points, start)
        better = found is not None and template.match(scene, found)[0] > template.match(scene, start)[0]
        best.append(scene.to_full(found) if found is not None and better else guess)
    return best


def _refine(scene: _Scene, fixed: Image, points: Points, matrix: Matrix) -> Matrix | None:
    """Improve a reduced transform by local search and robust fits, each round with less room and a freer model."""
    for radius, model in _REFINEMENTS:
        image, valid = scene.warped(matrix, scene.fixed.shape)
        peaks = local_peaks(fixed, oriented_gradients(image, valid, _ORIENTATIONS), points, _POINT_HALF, radius, 1)
        good = peaks.valid[:, 0]
        moving = project(invert(matrix), peaks.positions[good, 0])
        fit = robust_fit(moving, points[good], _REFINE_THRESHOLD, model, peaks.correlation[good, 0])
        if fit is None or fit.inliers.sum() < _REFINE_MIN_INLIERS or is_sane(fit.matrix, scene.moving.shape):
            return None
        matrix = fit.matrix
    return matrix


def _judged(scene: _Scene, template: _Template, matrix: Matrix) -> Hypothesis:
    """Compare a transform with the same one at all other shifts."""
    reduced = scene.to_reduced(matrix)
    height, correlation = template.match(scene, reduced)
    others = template.surface(scene, reduced)[_within(template.reach)]
    middle = float(np.median(others))
    spread = 1.4826 * float(np.median(np.abs(others - middle))) + 1e-9
    parts = decompose(matrix, scene.moving.shape)
    return Hypothesis(matrix, (height - middle) / spread, correlation, parts.rotation_deg, parts.scale)

"""Coarse search: rotation, scale and shift of a whole scene, without a starting point.

Correlation of orientation features tries every rotation, scale and shift of a grid (``coarse_scan``). Local search then
refines the best ones, and a comparison with all other shifts ranks them. All of it runs on reduced images, which also
suppresses what differs most between spectra: texture and speckle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rrl_register.estimation.robust_fits import Model, robust_fit
from rrl_register.geometry.arrays import Image, Mask, Matrix, Points
from rrl_register.geometry.transforms import corners_of, decompose, implausibility, invert, project, translation
from rrl_register.matching.coarse_scan import Peak, ReducedPair, SearchGrid, centred_harmonics, scan
from rrl_register.matching.features import fft
from rrl_register.matching.features.keypoints import spread_grid
from rrl_register.matching.features.oriented_gradients import Series
from rrl_register.matching.local_correlation import Structure, peaks_between
from rrl_register.parallel import parallel_map

REFINE_SIDE = 288
"""Longest side of the images on which the best hypotheses are refined, px."""
SCREEN_SIDE = 192
"""The same for peaks that are screened."""

_SPARE = 1
"""Hypotheses refined beyond the number requested: refinement may merge some or change their order."""
_APART = 0.15
"""Least mean corner distance of two hypotheses to refine, as a share of the longer side: nearer ones converge."""
_DISTINCT = 0.06
"""Least mean corner distance of two distinct refined hypotheses, as a share of the longer side."""
_POINT_STEP = 28
_POINT_HALF = 20
_SCREENING = ((10, Model.SIMILARITY),)
_REFINEMENTS = ((10, Model.SIMILARITY), (5, Model.AFFINE))
"""Search radius (reduced px) and model of each round of refinement."""
_MAX_RADIUS = max(radius for radius, _ in (*_SCREENING, *_REFINEMENTS))
_REFINE_THRESHOLD = 2.0
_REFINE_MIN_INLIERS = 8


@dataclass(frozen=True)
class Hypothesis:
    """A transform that the coarse search found.

    Attributes:
        matrix: ``(3, 3)`` moving px -> fixed px.
        score: Correlation per root of the overlap, in (robust) standard deviations of its values at all other shifts.
        correlation: Normalised correlation of the orientation features in the overlap, -1..1.
        rotation_deg: Rotation at the centre of the moving image, degrees.
        scale: Fixed pixels per moving pixel at the centre of the moving image.
    """

    matrix: Matrix
    score: float
    correlation: float
    rotation_deg: float
    scale: float


def coarse_hypotheses(
    fixed: Image,
    fixed_valid: Mask,
    moving: Image,
    moving_valid: Mask,
    *,
    grid: SearchGrid,
    max_shift: float | None = None,
    n: int = 3,
) -> list[Hypothesis]:
    """Search rotation, scale and shift of the moving image exhaustively; refine and rank the best.

    Hypotheses are relative to the identity: apply what is known of the transform to the image before.

    Args:
        fixed: ``(H, W)`` float32 in [0, 1].
        fixed_valid: ``(H, W)`` bool.
        moving: ``(h, w)`` float32 in [0, 1].
        moving_valid: ``(h, w)`` bool.
        grid: Rotations about the moving image's centre, and scales.
        max_shift: Largest distance of the moving image's centre from the fixed one's, fixed px; None: a third of the
            longer side.
        n: Largest number of hypotheses.

    Returns:
        Distinct hypotheses, best first; empty if an image has no valid pixel. A hypothesis is not a verdict.
    """
    if not (fixed_valid.any() and moving_valid.any()):
        return []
    reach = max(*fixed.shape, *moving.shape) / 3 if max_shift is None else max_shift
    images = (fixed, fixed_valid, moving, moving_valid)
    peaks = scan(*images, grid, reach)
    if grid.screened:
        peaks = _distinct(peaks, moving.shape, _DISTINCT, grid.screened)
        peaks = parallel_map(HypothesisRefiner(images, SCREEN_SIDE, reach, _SCREENING, peaks).refine, peaks)
    peaks = _distinct(peaks, moving.shape, _APART, n + _SPARE)
    ranked = parallel_map(HypothesisRefiner(images, REFINE_SIDE, reach, _REFINEMENTS, peaks).refine_and_rank, peaks)
    kept = _distinct([Peak(each.score, each.matrix, each.scale) for each in ranked], moving.shape, _DISTINCT, n)
    return [hypothesis for peak in kept for hypothesis in ranked if hypothesis.matrix is peak.matrix]


def _distinct(peaks: Sequence[Peak], shape: tuple[int, ...], share: float, n: int) -> list[Peak]:
    """Select the ``n`` highest peaks, without those whose image corners lie near a higher one's.

    ``share`` is the mean distance of the corners that is near, over the longer side of the moving image's ``shape``.
    """
    kept: list[Peak] = []
    placed = np.empty((0, 4, 2))
    for peak in sorted(peaks, key=lambda each: -each.height):
        corners = project(peak.matrix, corners_of(shape))
        distance = np.hypot(*np.moveaxis(placed - corners, -1, 0)).mean(axis=1)
        if (distance > share * max(shape) * peak.scale).all():
            kept.append(peak)
            placed = np.concatenate([placed, corners[None]])
        if len(kept) == n:
            break
    return kept


@dataclass(frozen=True)
class Template:
    """The reduced fixed image's part in every correlation.

    Attributes:
        features: ``(J, H, W)`` orientation harmonics, centred.
        valid: ``(H, W)`` bool.
        reach: Largest shift along x and y, reduced px.
        least_overlap: Number of pixels as which a smaller overlap is scored.
    """

    features: Series
    valid: Mask
    reach: int
    least_overlap: float

    @classmethod
    def of(cls, pair: ReducedPair, max_shift: float) -> Template:
        """Prepare a pair; ``max_shift`` is in fixed px."""
        reach = max(1, int(np.ceil(max_shift / pair.factor)))
        return cls(centred_harmonics(pair.fixed, pair.fixed_valid), pair.fixed_valid, reach, pair.least_overlap)

    @property
    def canvas(self) -> tuple[int, int]:
        """(H, W) of the canvas on which the moving image is drawn: the fixed image and the reach around it."""
        return self.features.shape[1] + 2 * self.reach, self.features.shape[2] + 2 * self.reach

    def surface(self, pair: ReducedPair, matrix: Matrix) -> Image:
        """Return the correlation per root of the overlap for all shifts around a reduced transform.

        Element (reach + dy, reach + dx) belongs to the transform followed by a shift of the moving image by (-dx, -dy).
        """
        image, valid = pair.warped(translation(self.reach, self.reach) @ matrix, self.canvas)
        product = self._correlate(centred_harmonics(image, valid), self.features)
        overlap = self._correlate(valid[None], self.valid[None])
        return np.asarray(product / np.sqrt(np.maximum(overlap, self.least_overlap)), np.float32)

    def match(self, pair: ReducedPair, matrix: Matrix) -> tuple[float, float]:
        """Return the correlation under a reduced transform: per root of the overlap, and normalised to -1..1."""
        image, valid = pair.warped(matrix, pair.fixed.shape)
        features = centred_harmonics(image, valid)
        product = float(np.vdot(self.features, features).real)
        overlap = float((valid & pair.fixed_valid).sum())
        energy = _energy(self.features, valid) * _energy(features, pair.fixed_valid)
        height = product / float(np.sqrt(max(overlap, self.least_overlap)))
        return height, product / float(np.sqrt(energy)) if energy > 0 else 0.0

    def _correlate(self, moving: Series | Mask, fixed: Series | Mask) -> Image:
        """Sum the correlations of planes of a canvas ``(C, ...)`` with ``(C, H, W)``, at all shifts within reach."""
        size = [fft.fast_side(side) for side in self.canvas]  # no shift wraps around
        spectra, conjugate = np.zeros((2, len(fixed), *size), np.complex64)
        spectra[:, : moving.shape[1], : moving.shape[2]] = moving
        conjugate[:, : fixed.shape[1], : fixed.shape[2]] = fixed.conj()
        fft.transform(spectra, out=spectra)
        spectra *= fft.conjugate_spectra(conjugate, out=conjugate)
        lags = 2 * self.reach + 1
        return np.asarray(fft.transform_back(spectra.sum(axis=0))[:lags, :lags].real)


def _energy(features: Series, where: Mask) -> float:
    """Sum the squares of features ``(J, H, W)`` in a part of the image."""
    inside = features * where
    return float(np.vdot(inside, inside).real)


@dataclass(frozen=True)
class _Prepared:
    """A pair reduced for one scale, with everything that local searches on it share."""

    pair: ReducedPair
    template: Template
    structure: Structure
    points: Points


class HypothesisRefiner:
    """Refines and ranks transforms on reduced images.

    Args:
        images: Fixed image and mask, moving image and mask.
        side: Longest side of the smaller one after reduction, px.
        max_shift: Range of the shifts with which a transform is compared, fixed px.
        rounds: Search radius (reduced px) and model of each round of refinement.
        peaks: Transforms that will be refined; those of one scale share what is prepared for it.
    """

    def __init__(
        self,
        images: tuple[Image, Mask, Image, Mask],
        side: int,
        max_shift: float,
        rounds: Sequence[tuple[int, Model]],
        peaks: Sequence[Peak],
    ) -> None:
        self._moving_shape, self._rounds = images[2].shape, rounds
        self._by_scale: dict[float, _Prepared] = {}
        for scale in {peak.scale for peak in peaks}:
            pair = ReducedPair.of(*images, side, scale)
            structure = Structure.of(pair.fixed, pair.fixed_valid, _POINT_HALF, _MAX_RADIUS)
            points = spread_grid(pair.fixed, pair.fixed_valid, _POINT_STEP)
            self._by_scale[scale] = _Prepared(pair, Template.of(pair, max_shift), structure, points)

    def refine(self, peak: Peak) -> Peak:
        """Refine a transform by local searches and robust fits, as long as enough points agree on one.

        Returns:
            The refined transform, or the given one if that correlates better, ranked by the correlation.
        """
        prepared = self._by_scale[peak.scale]
        pair, template = prepared.pair, prepared.template
        start = matrix = pair.to_reduced(peak.matrix)
        for radius, model in self._rounds:
            image, valid = pair.warped(matrix, pair.fixed.shape)
            columns, rows = np.rint(prepared.points).astype(np.int64).T
            points = prepared.points[valid[rows, columns]]
            structure = Structure.of(image, valid, _POINT_HALF, _MAX_RADIUS)
            peaks = peaks_between(prepared.structure, structure, points, radius, 1)
            good = peaks.valid[:, 0]
            moving = project(invert(matrix), peaks.positions[good, 0])
            fit = robust_fit(moving, points[good], _REFINE_THRESHOLD, model, peaks.correlation[good, 0])
            if fit is None or fit.inliers.sum() < _REFINE_MIN_INLIERS or implausibility(fit.matrix, pair.moving.shape):
                break
            matrix = fit.matrix
        before, after = template.match(pair, start)[0], template.match(pair, matrix)[0]
        return Peak(after, pair.to_full(matrix), peak.scale) if after > before else peak._replace(height=before)

    def refine_and_rank(self, peak: Peak) -> Hypothesis:
        """Refine a transform, and compare it with the same one at all other shifts."""
        refined = self.refine(peak)
        prepared = self._by_scale[peak.scale]
        pair, template = prepared.pair, prepared.template
        reduced = pair.to_reduced(refined.matrix)
        height, correlation = template.match(pair, reduced)
        surface = template.surface(pair, reduced)
        lag = np.arange(-template.reach, template.reach + 1)
        others = surface[np.hypot(lag[:, None], lag) <= template.reach + 0.5]
        middle = float(np.median(others))
        spread = 1.4826 * float(np.median(np.abs(others - middle))) + 1e-9
        parts = decompose(refined.matrix, self._moving_shape)
        return Hypothesis(refined.matrix, (height - middle) / spread, correlation, parts.rotation_deg, parts.scale)

"""From a first guess to the transform: proposals are tried in turn until one is proven."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import EstimateConfig, ModelChoice
from rrl_register.estimation.covariance import Uncertainty, replicates, uncertainty
from rrl_register.estimation.displaced import DisplacedModel
from rrl_register.estimation.displacement import Transform
from rrl_register.estimation.ransac import Model, RobustFit, biweight, robust_fit
from rrl_register.estimation.selection import Candidate, ModelFit, candidates, choose_model
from rrl_register.estimation.transforms import Matrix, compose, corners_of, is_sane, project
from rrl_register.estimation.verdict import Evidence, confidence, gather_evidence
from rrl_register.matching.coarse import (
    GEOREFERENCED_ROTATIONS,
    GEOREFERENCED_SCALES,
    UNREFERENCED_ROTATIONS,
    UNREFERENCED_SCALES,
    coarse_hypotheses,
    rotation_grid,
)
from rrl_register.matching.passes import Scene, guided_pass, keypoint_pass
from rrl_register.matching.tie_points import Matches

logger = logging.getLogger(__name__)

Stage = Callable[[str], AbstractContextManager[None]]

N_NEAR = 2
"""Coarse hypotheses near the prior that are tried; a true one is hardly ever the third."""
N_TURNED = 2
COARSE_ERROR = 0.05
"""Share of the longer side that a coarse hypothesis may be off."""
KEYPOINT_THRESHOLD = 5.0
"""Keypoints of two spectra sit beside each other by some px."""
KEYPOINT_MIN_INLIERS = 10
KEYPOINT_MIN_OVER_CHANCE = 3.0
WIDE_RADIUS = 20
NARROW_RADIUS = 12
TRIAL_SHARE = 0.4
"""Of the keypoints asked for; enough to tell a right proposal from a wrong one."""
DECISIVE_CONFIDENCE = 0.9
SETTLED = 6.0
"""A fit that moves the corners by less, px, had all its tie points well within the search radius."""


@dataclass(frozen=True)
class Estimate:
    """A transform with the search that speaks for it.

    Attributes:
        model: What was fitted, on top of the pair's prior.
        transform: Reduced moving px -> reduced fixed px.
        matches: The last pass.
        residual: ``(N,)`` of its tie points, reduced fixed px.
        evidence: What the pass says of the transform.
        replicates: The same model fitted without each block of the scene; empty where that cannot be done.
        uncertainty: How far off the transform may put a point, reduced fixed px; None where it is not known.
    """

    model: Model | DisplacedModel
    transform: Transform
    matches: Matches
    residual: NDArray[np.float64]
    evidence: Evidence
    replicates: tuple[Transform, ...]
    uncertainty: Uncertainty | None

    @property
    def matrix(self) -> Matrix:
        """``(3, 3)`` matrix of the transform."""
        return self.transform.matrix

    @property
    def confidence(self) -> float:
        """Probability that the transform is right."""
        return confidence(self.evidence)


@dataclass
class Counts:
    """Points looked at and pairs scored so far."""

    n_fixed: int = 0
    n_moving: int = 0
    n_candidates: int = 0

    def add(self, matches: Matches) -> Matches:
        """Counts a pass in."""
        self.n_fixed += matches.n_fixed
        self.n_moving += matches.n_moving
        self.n_candidates += matches.n_candidates
        return matches


@dataclass(frozen=True)
class Search:
    """The search for one pair.

    Attributes:
        scene: The pair.
        config: Of the estimation.
        max_shift: How far the prior may be off, reduced fixed px.
        stage: Times a named stage.
        counts: Filled on the way.
    """

    scene: Scene
    config: EstimateConfig
    max_shift: float
    stage: Stage
    counts: Counts

    def run(self) -> Estimate | None:
        """The best estimate, refined; None if no proposal led to one."""
        best: Estimate | None = None
        for matrix, radius in self._proposals():
            estimate = self._try(matrix, radius)
            if estimate and (best is None or estimate.confidence > best.confidence):
                best = estimate
            if best and best.confidence > DECISIVE_CONFIDENCE:
                break
        return best and self._refine(best)

    def _proposals(self) -> Iterator[tuple[Matrix, float]]:
        """Where to start from and how far that may be off.

        First what the coarse search finds near the prior; without georeferences then what it finds at any rotation;
        at last the prior itself.
        """
        pair = self.scene.pair
        error = COARSE_ERROR * max(pair.fixed.shape)
        if pair.georeferenced:
            near = (GEOREFERENCED_ROTATIONS, GEOREFERENCED_SCALES)
        else:
            near = (UNREFERENCED_ROTATIONS, UNREFERENCED_SCALES)
        for matrix in self._coarse(*near, N_NEAR):
            yield matrix, error
        if not pair.georeferenced:
            for matrix in self._coarse(rotation_grid(180), UNREFERENCED_SCALES, N_TURNED):
                yield matrix, error
        yield pair.prior, self.max_shift

    def _coarse(self, rotations: Sequence[float], scales: Sequence[float], n: int) -> list[Matrix]:
        """What the coarse search finds, best first."""
        pair = self.scene.pair
        with self.stage("coarse"):
            placed, valid = pair.placed(pair.prior)
            found = coarse_hypotheses(
                pair.fixed,
                pair.fixed_valid,
                placed,
                valid,
                rotations=rotations,
                scales=scales,
                max_shift=self.max_shift,
                n=n,
            )
        for hypothesis in found:
            logger.info("proposal: %s", hypothesis)
        return [compose(hypothesis.matrix, pair.prior) for hypothesis in found]

    def _try(self, matrix: Matrix, radius: float) -> Estimate | None:
        """Keypoints first; around what they say, or else around the proposal itself, the guided search."""
        with self.stage("keypoints"):
            matches = self.counts.add(keypoint_pass(self.scene, matrix, radius))
        points = matches.tie_points
        fit = robust_fit(points.moving, points.fixed, KEYPOINT_THRESHOLD, Model.AFFINE, points.score, self.config.seed)
        proven = fit is not None and self._outdoes_chance(fit, radius)
        logger.info(
            "keypoints: %d candidates, %d tie points, %s inliers",
            matches.n_candidates,
            len(points),
            fit and int(fit.inliers.sum()),
        )
        start = fit.matrix if fit and proven else matrix
        n_points = round(TRIAL_SHARE * self.scene.config.n_keypoints)
        return self._guided(start, NARROW_RADIUS if proven else WIDE_RADIUS, n_points, (Model.AFFINE,))

    def _outdoes_chance(self, fit: RobustFit, radius: float) -> bool:
        n = int(fit.inliers.sum())
        chance = min(1.0, (KEYPOINT_THRESHOLD / radius) ** 2)
        sane = is_sane(fit.matrix, self.scene.pair.moving.shape) is None
        return sane and n >= KEYPOINT_MIN_INLIERS and n >= KEYPOINT_MIN_OVER_CHANCE * chance * len(fit.inliers)

    def _refine(self, estimate: Estimate) -> Estimate | None:
        """A search with more points, for the model asked for; a second one if that moved the image.

        None if the points determine no such model: what the trial fitted is not what was asked for.
        """
        start, refined = estimate.matrix, None
        for _ in range(2):
            better = self._guided(start, NARROW_RADIUS, self.scene.config.n_keypoints, self._models(), n_peaks=1)
            if better is None:
                break
            moved = self._moved(start, better.matrix)
            start, refined = better.matrix, better
            if moved < SETTLED:
                break
        return refined

    def _models(self) -> tuple[Candidate, ...]:
        """The candidates for the last fit, from stiff to flexible."""
        asked = self.config.model
        return candidates(None if asked is ModelChoice.AUTO else asked.value)

    def _moved(self, before: Matrix, after: Matrix) -> float:
        """Mean distance between where two transforms put the corners of the moving image, px."""
        corners = corners_of(self.scene.pair.moving.shape)
        return float(np.linalg.norm(project(before, corners) - project(after, corners), axis=1).mean())

    def _guided(
        self, matrix: Matrix, radius: int, n_points: int, models: tuple[Candidate, ...], n_peaks: int = 2
    ) -> Estimate | None:
        with self.stage("guided"):
            matches = self.counts.add(guided_pass(self.scene, matrix, radius, n_points, n_peaks))
        with self.stage("estimate"):
            points, config = matches.tie_points, self.config
            fit = choose_model(
                points.moving,
                points.fixed,
                config.threshold,
                models,
                points.score,
                self.scene.pair.prior,
                config.seed,
            )
            if fit is None:
                return None
            estimate = self._estimate(fit, matches, radius)
        logger.info("guided: %d of %d, %s: %s", matches.n_fixed, n_points, fit.model, estimate.evidence)
        return estimate

    def _estimate(self, fit: ModelFit, matches: Matches, radius: int) -> Estimate:
        points, pair, threshold = matches.tie_points, self.scene.pair, self.config.threshold
        residual = fit.transform.residuals(points.moving, points.fixed)
        overlap = pair.placed(fit.matrix)[1] & pair.fixed_valid
        evidence = gather_evidence(
            fit.matrix,
            points.fixed,
            points.moving,
            points.score,
            residual,
            fit=fit.fit,
            n_points=matches.n_fixed,
            threshold=threshold,
            radius=radius,
            overlap_px=float(overlap.sum()),
            moving_shape=pair.moving.shape,
        )
        weights = (points.score * biweight(residual, threshold))[fit.inliers]
        fits = replicates(points.moving[fit.inliers], points.fixed[fit.inliers], weights, fit.fit)
        spread = uncertainty(fit.transform, fits, overlap)
        return Estimate(fit.model, fit.transform, matches, residual, evidence, fits, spread)

"""The search: coarse to fine, from initial transforms to an estimate that the evidence supports.

| stage | around | ends the search if |
|---|---|---|
| direct | the first initial transform | the estimate is ``CERTAIN`` |
| quick trial | each initial transform | it is ``SUPPORTED`` and its refinement is accepted |
| full trial | the best of the quick trials, then the prior | it is ``SUPPORTED`` |
| refinement | a promising estimate, twice if it moved | always; at full resolution at the end |

``search_config.SEARCH`` holds the numbers of each stage: radius, keypoints, how many of them the network scores.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rrl_register.config import Effort, EstimateConfig, ModelChoice
from rrl_register.estimation.model_selection import Candidate, candidates
from rrl_register.estimation.robust_fits import Model, robust_fit
from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.tie_points import Matches
from rrl_register.geometry.transforms import corners_of, implausibility, project
from rrl_register.matching.descriptor_matching import match_descriptors
from rrl_register.matching.estimate import Estimate, estimate_transform
from rrl_register.matching.guided_matching import locate
from rrl_register.matching.image_pair import SAME_RESOLUTION, MatchingContext
from rrl_register.matching.initial_transforms import InitialTransform, initial_transforms
from rrl_register.matching.search_config import SEARCH, Certainty, Stage, StageTimer
from rrl_register.parallel import one_blas_thread

if TYPE_CHECKING:
    from rrl_register.matching.full_resolution import WindowReader

logger = logging.getLogger(__name__)

TRIAL_MODELS = (Model.AFFINE, Model.HOMOGRAPHY)
Trial = tuple[Estimate | None, InitialTransform]


@dataclass
class Counts:
    """Keypoints tried, pairs scored and tie points found so far, in all stages together."""

    n_fixed: int = 0
    n_moving: int = 0
    n_candidates: int = 0
    n_tie_points: int = 0

    def add(self, matches: Matches) -> None:
        """Count the result of a stage."""
        self.n_fixed += matches.n_fixed + matches.n_unscored
        self.n_moving += matches.n_moving
        self.n_candidates += matches.n_candidates
        self.n_tie_points += len(matches.all_points)


@dataclass(frozen=True)
class Search:
    """The search for the transform of one pair.

    Attributes:
        context: The pair.
        config: Settings of the estimation.
        max_shift: Largest error of the prior, reduced fixed px.
        timer: Times a named stage.
        counts: Filled by the search.
        initial: ``(3, 3)`` initial transform that the user gives, reduced moving px -> reduced fixed px; None: the
            coarse search finds some.
        read_window: Reads windows of the files, for scenes that had to be reduced; None: they are not read.
    """

    context: MatchingContext
    config: EstimateConfig
    max_shift: float
    timer: StageTimer
    counts: Counts
    initial: Matrix | None = None
    read_window: WindowReader | None = None

    def run(self, thorough: bool = True) -> Estimate | None:
        """Search until an estimate is accepted, or all initial transforms are tried.

        If the refinement of a promising initial transform is refused, as happens where street grids look alike, the
        next one is tried.

        Args:
            thorough: Whether full trials follow if no quick trial settles the pair; without them there is no estimate
                then. With effort ``fast`` there are none either, and the most confident estimate is returned.

        Returns:
            The estimate, accepted or not; None if no initial transform led to one.
        """
        trials: list[Trial] = []
        refused: Estimate | None = None
        starts = initial_transforms(self.context, self.max_shift, self.initial, self.timer)
        for number, initial in enumerate(starts):
            if number == 0 and (estimate := self._direct(initial)):
                return estimate
            trial = self._match(initial.context, initial.matrix, SEARCH.quick_trial)
            if trial is None or trial.certainty < Certainty.SUPPORTED:
                trials.append((trial, initial))
                continue
            refined = self._refine(initial.context, trial)
            if refined and refined.refusal(self.config) is None:
                return refined
            refused = _more_confident(refused, refined)
        if not thorough:
            return None
        trials.sort(key=lambda trial: -trial[0].confidence if trial[0] else 0.0)
        if self.context.config.effort is Effort.FAST:
            return refused or (trials[0][0] if trials else None)
        found = self._full_trials(trials[: SEARCH.n_full_trials])
        return found if found and found.refusal(self.config) is None else _more_confident(refused, found)

    def _direct(self, initial: InitialTransform) -> Estimate | None:
        """Match for the final fit around the first initial transform; None if the result is not certain."""
        if self.context.config.effort is Effort.THOROUGH:
            return None
        context = initial.context
        estimate = self._match(context, initial.matrix, SEARCH.direct)
        if estimate is None or estimate.certainty < Certainty.CERTAIN:
            return None
        if _movement(context, initial.matrix, estimate.matrix) >= SEARCH.converged:
            return self._refine(context, estimate)
        return self._at_full_resolution(context, estimate)

    def _full_trials(self, trials: Sequence[Trial]) -> Estimate | None:
        """Try initial transforms, then the prior, and refine the most confident estimate if there is any hope."""
        best, context = trials[0][0] if trials else None, trials[0][1].context if trials else self.context
        prior = InitialTransform.of(self.context, self.context.pair.prior, self.max_shift)
        for initial in [*(initial for _, initial in trials), prior]:
            trial = self._full_trial(initial)
            if trial and _more_confident(best, trial) is trial:
                best, context = trial, initial.context
            if best and best.certainty >= Certainty.SUPPORTED:
                break
        return self._refine(context, best) if best and best.confidence > SEARCH.minimum_confidence else best

    def _full_trial(self, initial: InitialTransform) -> Estimate | None:
        """Match descriptors, then match guided by their consensus, or by the initial transform if there is none."""
        context, radius = initial.context, initial.radius
        with self.timer("keypoints"):
            matches = match_descriptors(context, initial.matrix, radius)
            self.counts.add(matches)
        points = matches.tie_points
        threshold = SEARCH.descriptor_threshold
        fit = robust_fit(points.moving, points.fixed, threshold, Model.AFFINE, points.score, self.config.seed)
        n = int(fit.inliers.sum()) if fit else 0
        logger.info("descriptors: %d candidates, %d tie points, %d inliers", matches.n_candidates, len(points), n)
        by_chance = min(1.0, (threshold / radius) ** 2) * len(points)
        enough = max(SEARCH.descriptor_min_inliers, SEARCH.descriptor_min_over_chance * by_chance)
        pair = context.pair
        if fit and n >= enough and implausibility(fit.matrix, pair.moving.shape, pair.georeferences) is None:
            return self._match(context, fit.matrix, SEARCH.guided_trial)
        return self._match(context, initial.matrix, SEARCH.full_trial)

    def _refine(self, context: MatchingContext, estimate: Estimate) -> Estimate | None:
        """Match with more keypoints for the requested model; a second time if that moved the image.

        Returns None if the points do not determine the model: the model of the trial is not the one requested.
        """
        start, refined = estimate.matrix, None
        for _ in range(2):
            better = self._match(context, start, SEARCH.refinement)
            if better is None:
                break
            movement = _movement(context, start, better.matrix)
            start, refined = better.matrix, better
            if movement < SEARCH.converged:
                break
        return refined and self._at_full_resolution(context, refined)

    def _at_full_resolution(self, context: MatchingContext, estimate: Estimate) -> Estimate:
        """Return the accepted estimate of the highest resolution; the given one if none is accepted."""
        reduction = min(context.pair.fixed.factor, context.pair.moving.factor)
        if self.read_window is None or reduction < SAME_RESOLUTION:
            return estimate
        # Only scenes that had to be reduced need it.
        from rrl_register.matching.full_resolution import FullResolutionSearch

        search = FullResolutionSearch(context, self.read_window, self.config, self._final_models(), self.timer)
        for finer in search.refined(estimate):
            self.counts.add(finer.matches)
            estimate = finer if finer.refusal(self.config) is None else estimate
        return estimate

    def _final_models(self) -> tuple[Candidate, ...]:
        requested = self.config.model
        return candidates(None if requested is ModelChoice.AUTO else requested.value)

    def _match(self, context: MatchingContext, matrix: Matrix, stage: Stage) -> Estimate | None:
        """Match guided by a matrix with the settings of a stage, and estimate the transform."""
        effort = self.context.config.effort
        n_points = stage.n_keypoints(context.config.n_keypoints, effort)
        with self.timer("guided"):
            located = locate(context, matrix, stage.radius, n_points, stage.n_peaks)
            sampled = stage.sample is not None and effort is not Effort.THOROUGH
            matches = located.score_sample(stage.sample) if stage.sample and sampled else located.score()
        models = self._final_models() if stage.final else TRIAL_MODELS
        while True:
            with self.timer("estimate"), one_blas_thread():
                half = context.correlation_half
                estimate = estimate_transform(context.pair, matches, self.config, models, stage.radius, half)
            logger.info("guided: %d scored, %s", matches.n_fixed, estimate and (estimate.model, estimate.evidence))
            converged = stage.sample_only or (estimate is not None and estimate.certainty >= stage.enough)
            if converged or not matches.n_unscored:
                break
            with self.timer("guided"):
                matches = located.score_rest(matches)
        self.counts.add(matches)
        return estimate


def _more_confident(first: Estimate | None, second: Estimate | None) -> Estimate | None:
    if first is None or second is None:
        return first or second
    return second if second.confidence > first.confidence else first


def _movement(context: MatchingContext, before: Matrix, after: Matrix) -> float:
    """Return the mean distance between the moving image's corners under two transforms, px."""
    corners = corners_of(context.pair.moving.shape)
    return float(np.linalg.norm(project(before, corners) - project(after, corners), axis=1).mean())

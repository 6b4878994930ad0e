"""From a first guess to the transform: proposals are tried in turn until one is proven."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rrl_register.config import Effort, EstimateConfig, ModelChoice
from rrl_register.estimation.model_selection import Candidate, candidates
from rrl_register.estimation.ransac import Model, RobustFit, robust_fit
from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.tie_points import Matches
from rrl_register.geometry.transforms import corners_of, implausibility, project
from rrl_register.matching.descriptor_matching import MatchingContext, keypoint_pass
from rrl_register.matching.estimate import Estimate, estimate_from
from rrl_register.matching.full_resolution import Stage, WindowReader, WindowSearch
from rrl_register.matching.guided_matching import locate
from rrl_register.matching.initial_transforms import Proposal, given_proposal, prior_proposal, proposals
from rrl_register.parallel import one_blas_thread

logger = logging.getLogger(__name__)

N_TRIED = 1
"""Proposals that are tried in full where no glance was enough, beside the prior."""
KEYPOINT_THRESHOLD = 5.0
"""Keypoints of two spectra sit beside each other by some px."""
KEYPOINT_MIN_INLIERS = 10
KEYPOINT_MIN_OVER_CHANCE = 3.0
WIDE_RADIUS = 20
NARROW_RADIUS = 12
GLANCE_SHARE = 0.16
TRIAL_SHARE = 0.4
"""Of the keypoints asked for; enough to tell a right proposal from a wrong one, at a glance in most cases."""
GLANCE_SAMPLE = 32
LAST_SAMPLE = 48
"""Keypoints of a glance and of the last search that the network is asked about first. Their number hardly matters to
the error, for those unscored for are fitted as well."""
CERTAIN, SURE = 0.998, 0.95
"""Confidence from which the network is not asked about the other keypoints of the last search: where nothing came
before it, and where a glance has led to it, whose word then counts as well."""
SURE_SHARE = 0.6
FAST_SHARE = 0.4
"""Of the keypoints, those of a last search that nothing came before, and of any where haste is asked for."""
TRIAL_MODELS = (Model.AFFINE, Model.HOMOGRAPHY)
HOPELESS_CONFIDENCE = 0.1
"""More points do not save an estimate as unsure as this; its evidence says why."""
SETTLED = 6.0
"""A fit that moves the corners by less, px, had all its tie points well within the search radius."""


@dataclass
class Counts:
    """Points looked at, pairs scored and tie points accepted so far, in all passes together."""

    n_fixed: int = 0
    n_moving: int = 0
    n_candidates: int = 0
    n_tie_points: int = 0

    def add(self, matches: Matches) -> Matches:
        """Counts a pass in."""
        self.n_fixed += matches.n_fixed + matches.n_unscored
        self.n_moving += matches.n_moving
        self.n_candidates += matches.n_candidates
        self.n_tie_points += len(matches.all_points)
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
        initial: ``(3, 3)`` where to start, reduced moving px -> reduced fixed px; None: where the coarse search says.
        read_window: Reads windows of the files, for scenes that had to be reduced; None: they are not looked at again.
    """

    scene: MatchingContext
    config: EstimateConfig
    max_shift: float
    stage: Stage
    counts: Counts
    initial: Matrix | None = None
    read_window: WindowReader | None = None

    @property
    def effort(self) -> Effort:
        """How much is done before an answer is taken."""
        return self.scene.config.effort

    def run(self, thorough: bool = True) -> Estimate | None:
        """The best estimate, refined; None if no proposal led to one.

        A glance at each proposal comes first: it costs a tenth of a trial and settles most pairs. Where the search that
        follows a promising one refutes it, as it may where street grids look alike, the next one is looked at.

        Args:
            thorough: Whether proposals are tried in full if no glance settles it; else there is no estimate then.
                Where haste is asked for, what was refuted, or else what the surest glance gave, is the estimate.
        """
        glanced: list[tuple[Estimate | None, Proposal]] = []
        refuted: Estimate | None = None
        for number, proposal in enumerate(self._proposals()):
            if number == 0 and (settled := self._settled_at_once(proposal)):
                return settled
            estimate = self._glance(proposal)
            if not (estimate and estimate.proven):
                glanced.append((estimate, proposal))
                continue
            refined = self._refine(estimate)
            if refined and refined.accepted(self.config):
                return refined
            refuted = _surer(refuted, refined)
        if not thorough:
            return None
        glanced.sort(key=lambda each: -each[0].confidence if each[0] else 0.0)
        if self.effort is Effort.FAST:
            return refuted or (glanced[0][0] if glanced else None)
        tried = self._tried_in_full(glanced[:N_TRIED])
        return tried if tried and tried.accepted(self.config) else _surer(refuted, tried)

    def _tried_in_full(self, glanced: Sequence[tuple[Estimate | None, Proposal]]) -> Estimate | None:
        """The surest estimate of some proposals, or else of the prior, refined where there is any hope."""
        best = glanced[0][0] if glanced else None
        for proposal in [*(proposal for _, proposal in glanced), prior_proposal(self.scene, self.max_shift)]:
            best = _surer(best, self._try(proposal))
            if best and best.proven:
                break
        return self._refine(best) if best and best.confidence > HOPELESS_CONFIDENCE else best

    def _proposals(self) -> Iterator[Proposal]:
        if self.initial is not None:
            yield given_proposal(self.scene, self.initial)
            return
        groups = proposals(self.scene, self.max_shift)
        while True:
            with self.stage("coarse"):
                group = next(groups, None)
            if group is None:
                return
            yield from group

    def _settled_at_once(self, proposal: Proposal) -> Estimate | None:
        """The last search around the first proposal, which mostly is right to a few px; None unless that is certain."""
        if self.effort is Effort.THOROUGH:
            return None
        scene, sample = proposal.scene, Sample(LAST_SAMPLE, _certain, final=True)
        n_points = round((FAST_SHARE if self.effort is Effort.FAST else SURE_SHARE) * scene.config.n_keypoints)
        estimate = self._guided(scene, proposal.matrix, WIDE_RADIUS, n_points, self._models(), 1, sample)
        if estimate is None or not _certain(estimate):
            return None
        settled = _moved(scene, proposal.matrix, estimate.matrix) < SETTLED
        return self._in_windows(estimate) if settled else self._refine(estimate)

    def _glance(self, proposal: Proposal) -> Estimate | None:
        """The guided search around a proposal, with few points and one place for each."""
        n_points = round(GLANCE_SHARE * proposal.scene.config.n_keypoints)
        sample = Sample(GLANCE_SAMPLE, lambda estimate: estimate.proven)
        return self._guided(proposal.scene, proposal.matrix, WIDE_RADIUS, n_points, TRIAL_MODELS, 1, sample)

    def _try(self, proposal: Proposal) -> Estimate | None:
        """Keypoints first; around what they say, or else around the proposal itself, the guided search."""
        scene, radius = proposal.scene, proposal.radius
        with self.stage("keypoints"):
            matches = self.counts.add(keypoint_pass(scene, proposal.matrix, radius))
        points = matches.tie_points
        fit = robust_fit(points.moving, points.fixed, KEYPOINT_THRESHOLD, Model.AFFINE, points.score, self.config.seed)
        proven = fit is not None and self._outdoes_chance(fit, radius, scene)
        logger.info(
            "keypoints: %d candidates, %d tie points, %s inliers",
            matches.n_candidates,
            len(points),
            fit and int(fit.inliers.sum()),
        )
        start = fit.matrix if fit and proven else proposal.matrix
        n_points = round(TRIAL_SHARE * scene.config.n_keypoints)
        return self._guided(scene, start, NARROW_RADIUS if proven else WIDE_RADIUS, n_points, TRIAL_MODELS)

    def _outdoes_chance(self, fit: RobustFit, radius: float, scene: MatchingContext) -> bool:
        n = int(fit.inliers.sum())
        chance = min(1.0, (KEYPOINT_THRESHOLD / radius) ** 2)
        sane = implausibility(fit.matrix, scene.pair.moving.shape) is None
        return sane and n >= KEYPOINT_MIN_INLIERS and n >= KEYPOINT_MIN_OVER_CHANCE * chance * len(fit.inliers)

    def _refine(self, estimate: Estimate) -> Estimate | None:
        """A search with more points, for the model asked for; a second one if that moved the image.

        None if the points determine no such model: what the trial fitted is not what was asked for.
        """
        start, refined = estimate.matrix, None
        share = FAST_SHARE if self.effort is Effort.FAST else 1.0
        n_points, sample = round(share * estimate.scene.config.n_keypoints), Sample(LAST_SAMPLE, _sure)
        for _ in range(2):
            better = self._guided(estimate.scene, start, NARROW_RADIUS, n_points, self._models(), 1, sample)
            if better is None:
                break
            moved = _moved(estimate.scene, start, better.matrix)
            start, refined = better.matrix, better
            if moved < SETTLED:
                break
        return refined and self._in_windows(refined)

    def _in_windows(self, estimate: Estimate) -> Estimate:
        """The estimate of the highest resolution that is accepted; what was there before if none is."""
        if self.read_window is None:
            return estimate
        windows = WindowSearch(self.read_window, self.config, self._models(), self.stage)
        for finer in windows.refined(estimate):
            self.counts.add(finer.matches)
            estimate = finer if finer.accepted(self.config) else estimate
        return estimate

    def _models(self) -> tuple[Candidate, ...]:
        """The candidates for the last fit, from stiff to flexible."""
        asked = self.config.model
        return candidates(None if asked is ModelChoice.AUTO else asked.value)

    def _guided(
        self,
        scene: MatchingContext,
        matrix: Matrix,
        radius: int,
        n_points: int,
        models: tuple[Candidate, ...],
        n_peaks: int = 2,
        sample: Sample | None = None,
    ) -> Estimate | None:
        """The guided search and its estimate; of a sample of the keypoints, where that is enough."""
        with self.stage("guided"):
            rounds = locate(scene, matrix, radius, n_points, n_peaks).rounds(self._first(sample))
            matches = next(rounds)
        estimate = self._estimate(scene, matches, models, radius)
        if sample and not (sample.final or (matches.n_unscored and estimate and sample.enough(estimate))):
            with self.stage("guided"):
                everything = next(rounds, None)
            if everything:
                matches, estimate = everything, self._estimate(scene, everything, models, radius)
        self.counts.add(matches)
        return estimate

    def _first(self, sample: Sample | None) -> int | None:
        """How many keypoints the network is asked about first; None: all."""
        return sample.n_keypoints if sample and self.effort is not Effort.THOROUGH else None

    def _estimate(
        self, scene: MatchingContext, matches: Matches, models: tuple[Candidate, ...], radius: int
    ) -> Estimate | None:
        with self.stage("estimate"), one_blas_thread():
            estimate = estimate_from(scene, matches, self.config, models, radius)
        logger.info("guided: %d asked, %s", matches.n_fixed, estimate and (estimate.model, estimate.evidence))
        return estimate


@dataclass(frozen=True)
class Sample:
    """A part of the keypoints, and when it is enough.

    Attributes:
        n_keypoints: How many the network is asked about.
        enough: Whether an estimate leaves nothing to ask.
        final: Whether nothing is asked in any case.
    """

    n_keypoints: int
    enough: Callable[[Estimate], bool]
    final: bool = False


def _certain(estimate: Estimate) -> bool:
    return estimate.proven and estimate.confidence >= CERTAIN


def _sure(estimate: Estimate) -> bool:
    return estimate.proven and estimate.confidence >= SURE


def _surer(first: Estimate | None, second: Estimate | None) -> Estimate | None:
    """The more confident one."""
    if first is None or second is None:
        return first or second
    return second if second.confidence > first.confidence else first


def _moved(scene: MatchingContext, before: Matrix, after: Matrix) -> float:
    """Mean distance between where two transforms put the corners of the moving image, px."""
    corners = corners_of(scene.pair.moving.shape)
    return float(np.linalg.norm(project(before, corners) - project(after, corners), axis=1).mean())

"""Numbers of the search, and the table of its stages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum

from rrl_register.config import Effort

StageTimer = Callable[[str], AbstractContextManager[None]]
"""Times a named stage."""


class Certainty(IntEnum):
    """Certainty of an estimate during the search; each level includes those before it.

    The verdict at its end is another matter: it also depends on what the user asks for, see ``Estimate.refusal``.
    """

    WEAK = 0
    SUPPORTED = 1
    """Enough inliers among keypoints and tie points: no other initial transform has to be tried first."""
    CONFIDENT = 2
    """The confidence suffices if a quick trial has led to the estimate, whose evidence then counts as well."""
    CERTAIN = 3
    """The confidence suffices on its own."""


@dataclass(frozen=True)
class Stage:
    """One guided matching of the search.

    Attributes:
        radius: Search radius around the estimate, px.
        share: Keypoints, as a share of the number that is set.
        fast_share: The same with effort ``fast``.
        n_peaks: Candidates per keypoint.
        sample: Keypoints that are scored first; None: all of them. With effort ``thorough`` all are scored.
        enough: Certainty at which the rest of a sample stays unscored.
        sample_only: Whether the rest stays unscored in any case.
        final: Whether the requested model is fitted, or an affine transform and a homography to try a start.
    """

    radius: int
    share: float
    fast_share: float
    n_peaks: int = 1
    sample: int | None = None
    enough: Certainty = Certainty.WEAK
    sample_only: bool = False
    final: bool = False

    def n_keypoints(self, asked: int, effort: Effort) -> int:
        """Return the number of keypoints, of the number that is set."""
        return round((self.fast_share if effort is Effort.FAST else self.share) * asked)


@dataclass(frozen=True)
class SearchConfig:
    """Numbers of the search. Lengths are px at matching resolution.

    Attributes:
        direct: The final matching around the first initial transform, which is mostly right to a few px.
        quick_trial: A cheap test of each initial transform; it settles most pairs.
        full_trial: A test of the best ones if no quick trial settles the pair, after descriptor matching found no
            consensus.
        guided_trial: The same around such a consensus.
        refinement: The final matching around a promising estimate.
        n_full_trials: Initial transforms that get a full trial, beside the prior.
        n_initial: Hypotheses of a coarse search that become initial transforms; a true one is hardly ever the third.
        coarse_error: Largest error of a coarse hypothesis, as a share of the longer side.
        descriptor_threshold: Inlier threshold for keypoints paired by descriptors, which lie some px apart in two
            spectra.
        descriptor_min_inliers, descriptor_min_over_chance: Inliers that make a consensus of descriptor matching: their
            number, and how many times as many as by chance.
        supported_inliers: Least and largest number of inliers that make an estimate ``SUPPORTED``, ...
        supported_share: ... their share of the scored keypoints, between these numbers, ...
        supported_precision: ... and their share of the tie points. A wrong start reaches a third of either.
        confident, certain: Confidence from which an estimate is ``CONFIDENT`` or ``CERTAIN``.
        minimum_confidence: Confidence below which more keypoints do not save an estimate.
        converged: Mean movement of the corners below which all tie points were well within the search radius.
    """

    direct: Stage = Stage(20, 0.6, 0.4, sample=48, enough=Certainty.CERTAIN, sample_only=True, final=True)
    quick_trial: Stage = Stage(20, 0.16, 0.16, sample=32, enough=Certainty.SUPPORTED)
    full_trial: Stage = Stage(20, 0.4, 0.4, n_peaks=2)
    guided_trial: Stage = Stage(12, 0.4, 0.4, n_peaks=2)
    refinement: Stage = Stage(12, 1.0, 0.4, sample=48, enough=Certainty.CONFIDENT, final=True)
    n_full_trials: int = 1
    n_initial: int = 2
    coarse_error: float = 0.05
    descriptor_threshold: float = 5.0
    descriptor_min_inliers: int = 10
    descriptor_min_over_chance: float = 3.0
    supported_inliers: tuple[int, int] = (10, 15)
    supported_share: float = 0.3
    supported_precision: float = 0.5
    confident: float = 0.95
    certain: float = 0.998
    minimum_confidence: float = 0.1
    converged: float = 6.0


SEARCH = SearchConfig()
"""The numbers that registrations are made with."""

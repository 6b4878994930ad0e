"""Descriptor and guided matching, with a plain correlation of patches in place of the network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import pytest

from image_pairs import image_pair
from rrl_register.config import Kind, MatchConfig
from rrl_register.geometry.tie_points import Matches
from rrl_register.geometry.transforms import project
from rrl_register.matching.descriptor_matching import match_descriptors
from rrl_register.matching.guided_matching import GuidedCandidates, locate
from rrl_register.matching.image_pair import ImagePair, MatchingContext
from rrl_register.nn.patches import Spectrum

VISIBLE, OTHER = Spectrum.VISIBLE, Spectrum.OTHER
SIDE = 224
SHIFT = np.array([6.0, -4.0])
STILL = np.eye(3)


@dataclass
class FakeScorer:
    """Takes the other spectrum for a dark negative of the visible one and scores by correlation.

    ``ceiling`` is the score of equal patches.
    """

    ceiling: float = 1.0
    pairs: list[int] = field(default_factory=list)

    def describe(self, patches: np.ndarray, spectrum: Spectrum) -> np.ndarray:
        assert (patches.max() <= 0.5) == (spectrum is OTHER)
        centre = patches[:, 0, 16:48, 16:48].reshape(-1, 8, 4, 8, 4).mean((2, 4)).reshape(-1, 64)
        return _unit(centre if spectrum is VISIBLE else -centre)

    def score(self, visible: np.ndarray, other: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        assert other.max(initial=0) <= 0.5 < visible.max(initial=1)
        self.pairs.append(len(left))
        a, b = _unit(visible.reshape(len(visible), 64 * 64)), _unit(-other.reshape(len(other), 64 * 64))
        return self.ceiling * np.clip((a[left] * b[right]).sum(1), 0, 1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    centred = vectors - vectors.mean(1, keepdims=True)
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True), np.float32)


def context_of(
    shift: np.ndarray = SHIFT,
    *,
    scorer: FakeScorer | None = None,
    config: MatchConfig | None = None,
    swapped: bool = False,
    fixed_valid: np.ndarray | None = None,
) -> MatchingContext:
    """Noise, and its dark negative so that moving (x, y) shows what fixed (x, y) + ``shift`` shows."""
    noise = np.random.default_rng(39).random((SIDE + 80, SIDE + 80), dtype=np.float32)
    world = cv2.GaussianBlur(noise, (0, 0), 2.5)
    world = (world - world.min()) / np.ptp(world)
    fixed, moving = (
        cv2.getRectSubPix(world, (SIDE, SIDE), tuple(float(v) for v in np.full(2, (SIDE + 79) / 2) + s))
        for s in (np.zeros(2), shift)
    )
    fixed, moving = ((1 - fixed) / 2, moving) if swapped else (fixed, (1 - moving) / 2)
    kinds = Kind.OPTICAL, Kind.IR
    pair = image_pair(fixed, moving, fixed_valid=fixed_valid, kinds=kinds)
    spectra = (OTHER, VISIBLE) if swapped else (VISIBLE, OTHER)
    return MatchingContext.of(pair, 64, spectra, scorer or FakeScorer(), config or MatchConfig(n_keypoints=120))


def error_of(matches: Matches, shift: np.ndarray = SHIFT) -> np.ndarray:
    points = matches.tie_points
    return np.linalg.norm(points.moving + shift - points.fixed, axis=1)


def with_moving(pair: ImagePair, values: np.ndarray) -> ImagePair:
    return replace(pair, moving=replace(pair.moving, values=values))


def match_guided(context: MatchingContext, matrix: np.ndarray, radius: int, n_points: int, n_peaks: int = 2) -> Matches:
    return locate(context, matrix, radius, n_points, n_peaks).score()


def moved(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("matrix", [STILL, moved(4, -7)], ids=["from-nothing", "from-an-estimate"])
def test_descriptors_match_keypoints_of_both_images(matrix: np.ndarray, swapped: bool) -> None:
    """Corners fall on whole pixels, so most pairs agree to the pixel whatever the estimate was."""
    matches = match_descriptors(context_of(swapped=swapped), matrix, radius=12)
    assert len(matches.tie_points) >= 30
    assert np.mean(error_of(matches) <= 1) >= 0.95
    assert 0 < matches.n_fixed <= 120
    assert 0 < matches.n_moving <= 120


def test_a_keypoint_has_one_tie_point_within_the_radius() -> None:
    points = match_descriptors(context_of(), STILL, radius=30).tie_points
    assert len(np.unique(points.fixed, axis=0)) == len(np.unique(points.moving, axis=0)) == len(points)
    near = match_descriptors(context_of(config=MatchConfig(n_keypoints=120, min_score=0.0)), STILL, radius=5).tie_points
    assert np.all(np.linalg.norm(near.fixed - near.moving, axis=1) <= 5)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("shift", [SHIFT, np.array([5.4, -3.7])], ids=["whole", "fraction"])
def test_the_match_guided_finds_places_to_a_fraction_of_a_pixel(shift: np.ndarray, swapped: bool) -> None:
    matches = match_guided(context_of(shift, swapped=swapped), STILL, radius=10, n_points=60)
    assert 30 <= len(matches.tie_points) <= matches.n_fixed <= 60
    assert float(np.median(error_of(matches, shift))) < 0.15
    assert float(np.quantile(error_of(matches, shift), 0.9)) < 0.4


@pytest.mark.parametrize("shift", [SHIFT, np.array([5.4, -3.7])], ids=["whole", "fraction"])
def test_right_tie_points_pass_the_forward_backward_check(shift: np.ndarray) -> None:
    points = match_guided(context_of(shift), STILL, radius=10, n_points=60).tie_points
    assert points.agreement_px is not None
    assert points.agreement_px.shape == (len(points),)
    assert float(np.median(points.agreement_px)) < 0.15
    assert len(points.forward_backward_consistent()) > 0.9 * len(points)


def test_chance_tie_points_fail_the_forward_backward_check() -> None:
    """A network that accepts everything ties noise to other noise; the backward search ends elsewhere."""
    context = context_of(config=MatchConfig(n_keypoints=120, min_score=0.0))
    other = with_moving(context.pair, np.ascontiguousarray(context.pair.moving.values[::-1, ::-1]))
    points = match_guided(replace(context, pair=other), STILL, radius=10, n_points=60).tie_points
    assert len(points) > 30
    assert len(points.forward_backward_consistent()) < 0.5 * len(points)


@pytest.mark.parametrize("n_peaks", [1, 2])
def test_every_keypoint_with_a_candidate_is_tied_or_rejected(n_peaks: int) -> None:
    context = context_of(config=MatchConfig(n_keypoints=120, min_score=0.6))
    half = with_moving(
        context.pair, np.where(np.arange(SIDE) < SIDE // 2, context.pair.moving.values, 0.5).astype(np.float32)
    )
    matches = match_guided(replace(context, pair=half), STILL, radius=10, n_points=60, n_peaks=n_peaks)
    tied, rejected = matches.tie_points, matches.rejected
    assert len(rejected) > 0
    assert np.all(rejected.score < 0.6)
    keypoints = np.concatenate([tied.fixed, rejected.fixed])
    assert len(np.unique(keypoints, axis=0)) == len(keypoints) <= matches.n_fixed
    assert len(matches.tie_points) + len(rejected) <= matches.n_candidates


def test_descriptor_matching_makes_no_forward_backward_check() -> None:
    matches = match_descriptors(context_of(), STILL, radius=12)
    assert matches.tie_points.agreement_px is None
    assert matches.controls is None


@pytest.mark.parametrize("n_peaks", [1, 2])
def test_controls_are_wrong_places_for_a_sample_of_the_keypoints(n_peaks: int) -> None:
    matches = match_guided(context_of(), STILL, radius=10, n_points=60, n_peaks=n_peaks)
    controls = matches.controls
    assert controls is not None
    assert len(controls.candidate) == len(controls.control) == -(-matches.n_fixed // 6)
    assert controls.acceptance < 0.2
    assert controls.margin > 2
    assert np.median(controls.candidate) > 0.9


def test_controls_reveal_a_network_that_accepts_everything() -> None:
    context = context_of(config=MatchConfig(n_keypoints=120, min_score=0.0))
    controls = match_guided(context, STILL, radius=10, n_points=60).controls
    assert controls is not None
    assert controls.acceptance == 1


def test_the_match_guided_starts_from_the_estimate() -> None:
    """The shift is out of reach from the start, and within it from an estimate near by."""
    far = np.array([30.0, 22.0])
    assert len(match_guided(context_of(far), STILL, radius=8, n_points=60).tie_points) == 0
    matches = match_guided(context_of(far), moved(27, 25), radius=8, n_points=60)
    assert len(matches.tie_points) >= 30
    assert float(np.median(error_of(matches, far))) < 0.15


@pytest.mark.parametrize("tie", [match_descriptors, lambda s, m, radius: match_guided(s, m, radius, 60)])
def test_the_network_has_the_last_word(tie: type) -> None:
    """Candidates are the same; how many become tie points is up to their scores."""
    asked, counts = [], []
    for ceiling in (1.0, 0.45):
        scorer = FakeScorer(ceiling)
        matches = tie(context_of(scorer=scorer), STILL, radius=12)
        assert np.all(matches.tie_points.score >= 0.5)
        assert matches.n_candidates == sum(scorer.pairs) - len(matches.controls.control if matches.controls else ())
        asked.append(matches.n_candidates)
        counts.append(len(matches.tie_points))
    assert asked[0] == asked[1] > 0
    assert counts[0] > 0
    assert counts[1] == 0
    lower = replace(MatchConfig(), n_keypoints=120, min_score=0.4)
    assert len(tie(context_of(scorer=FakeScorer(0.45), config=lower), STILL, radius=12).tie_points) > 0


@pytest.mark.parametrize("tie", [match_descriptors, lambda s, m, radius: match_guided(s, m, radius, 60)])
def test_without_data_there_is_nothing_to_tie(tie: type) -> None:
    matches = tie(context_of(fixed_valid=np.zeros((SIDE, SIDE), bool)), STILL, radius=12)
    assert len(matches.tie_points) == matches.n_candidates == 0
    assert matches.tie_points.fixed.shape == matches.tie_points.moving.shape == (0, 2)


def test_without_structure_no_candidate_and_no_control_is_scored() -> None:
    context = context_of()
    blank = with_moving(context.pair, np.full_like(context.pair.moving.values, 0.25))
    matches = match_guided(replace(context, pair=blank), STILL, radius=10, n_points=60)
    assert matches.n_candidates == len(matches.tie_points) == 0
    assert matches.controls is not None
    assert np.isnan(matches.controls.acceptance)


def test_tie_points_lie_where_both_images_have_data() -> None:
    half = np.zeros((SIDE, SIDE), bool)
    half[:, 100:] = True
    points = match_guided(context_of(fixed_valid=half), STILL, radius=10, n_points=60).tie_points
    assert len(points) > 10
    assert points.fixed[:, 0].min() >= 100
    assert np.all(project(STILL, points.moving) >= 0)


def located(scorer: FakeScorer | None = None) -> GuidedCandidates:
    return locate(context_of(scorer=scorer), STILL, radius=10, n_points=60, n_peaks=1)


def test_a_sample_is_scored_and_the_forward_backward_check_admits_the_rest() -> None:
    scorer = FakeScorer()
    sample = located(scorer).score_sample(20)
    assert (sample.n_fixed, sample.n_unscored) == (20, 40)
    assert len(scorer.pairs) == 1
    assert len(sample.unscored) >= 20
    assert np.isnan(sample.unscored.score).all() and (sample.unscored.agreement_px <= 1).all()
    shift = sample.unscored.fixed - sample.unscored.moving
    np.testing.assert_allclose(shift, np.tile(SHIFT, (len(shift), 1)), atol=0.3)
    consistent = sample.tie_points.forward_backward_consistent()
    assert len(sample.fitted) == len(consistent) + len(sample.unscored)
    assert np.isfinite(sample.fitted.score).all()


def test_a_sample_and_the_rest_are_what_scoring_all_gives() -> None:
    whole, candidates = located().score(), located()
    both = candidates.score_rest(candidates.score_sample(20))
    assert both.n_fixed == whole.n_fixed == 60
    np.testing.assert_allclose(both.tie_points.fixed, whole.tie_points.fixed)
    np.testing.assert_allclose(both.tie_points.moving, whole.tie_points.moving, atol=1e-6)
    assert len(both.unscored) == both.n_unscored == 0


def test_nothing_unscored_is_admitted_if_the_network_rejects_the_sample() -> None:
    sample = located(FakeScorer(ceiling=0.4)).score_sample(20)
    assert len(sample.all_points) == 0
    assert sample.n_unscored == 40


@pytest.mark.parametrize("n", [60, 500])
def test_a_sample_of_everything_leaves_nothing_unscored(n: int) -> None:
    sample = located().score_sample(n)
    assert sample.n_unscored == 0
    assert len(sample.tie_points) >= 30

"""The two passes find the right places when a network says what is right; here a plain correlation plays its part."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import pytest

from rrl_register.config import Kind, MatchConfig
from rrl_register.geometry.tie_points import Matches
from rrl_register.geometry.transforms import project
from rrl_register.matching.descriptor_matching import MatchingContext, keypoint_pass
from rrl_register.matching.guided_matching import guided_pass, locate
from rrl_register.matching.image_pair import ImagePair
from rrl_register.nn.encoder_choice import Spectrum
from rrl_register.raster.grid import Grid

VISIBLE, OTHER = Spectrum.VISIBLE, Spectrum.OTHER
SIDE = 224
SHIFT = np.array([6.0, -4.0])
GRID = Grid(SIDE, SIDE)
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


def scene_of(
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
    everywhere = np.ones((SIDE, SIDE), bool)
    fixed, moving = ((1 - fixed) / 2, moving) if swapped else (fixed, (1 - moving) / 2)
    valid = everywhere if fixed_valid is None else fixed_valid
    kinds = Kind.OPTICAL, Kind.IR
    pair = ImagePair(fixed, valid, moving, everywhere, STILL, 1.0, 1.0, *kinds, GRID, GRID)
    spectra = (OTHER, VISIBLE) if swapped else (VISIBLE, OTHER)
    return MatchingContext.of(pair, 64, spectra, scorer or FakeScorer(), config or MatchConfig(n_keypoints=120))


def error_of(matches: Matches, shift: np.ndarray = SHIFT) -> np.ndarray:
    points = matches.tie_points
    return np.linalg.norm(points.moving + shift - points.fixed, axis=1)


def moved(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("matrix", [STILL, moved(4, -7)], ids=["from-nothing", "from-an-estimate"])
def test_keypoints_of_both_images_are_tied(matrix: np.ndarray, swapped: bool) -> None:
    """Corners fall on whole pixels, so most pairs agree to the pixel whatever the estimate was."""
    matches = keypoint_pass(scene_of(swapped=swapped), matrix, radius=12)
    assert len(matches.tie_points) >= 30
    assert np.mean(error_of(matches) <= 1) >= 0.95
    assert 0 < matches.n_fixed <= 120
    assert 0 < matches.n_moving <= 120


def test_a_keypoint_is_tied_once_and_within_the_radius() -> None:
    points = keypoint_pass(scene_of(), STILL, radius=30).tie_points
    assert len(np.unique(points.fixed, axis=0)) == len(np.unique(points.moving, axis=0)) == len(points)
    near = keypoint_pass(scene_of(config=MatchConfig(n_keypoints=120, min_score=0.0)), STILL, radius=5).tie_points
    assert np.all(np.linalg.norm(near.fixed - near.moving, axis=1) <= 5)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("shift", [SHIFT, np.array([5.4, -3.7])], ids=["whole", "fraction"])
def test_the_guided_pass_finds_places_to_a_fraction_of_a_pixel(shift: np.ndarray, swapped: bool) -> None:
    matches = guided_pass(scene_of(shift, swapped=swapped), STILL, radius=10, n_points=60)
    assert 30 <= len(matches.tie_points) <= matches.n_fixed <= 60
    assert float(np.median(error_of(matches, shift))) < 0.15
    assert float(np.quantile(error_of(matches, shift), 0.9)) < 0.4


@pytest.mark.parametrize("shift", [SHIFT, np.array([5.4, -3.7])], ids=["whole", "fraction"])
def test_what_is_tied_is_found_back(shift: np.ndarray) -> None:
    points = guided_pass(scene_of(shift), STILL, radius=10, n_points=60).tie_points
    assert points.agreement_px is not None
    assert points.agreement_px.shape == (len(points),)
    assert float(np.median(points.agreement_px)) < 0.15
    assert len(points.forward_backward_consistent()) > 0.9 * len(points)


def test_what_is_tied_by_chance_is_not_found_back() -> None:
    """A network that accepts all ties noise to other noise; the search back ends elsewhere."""
    scene = scene_of(config=MatchConfig(n_keypoints=120, min_score=0.0))
    other = replace(scene.pair, moving=np.ascontiguousarray(scene.pair.moving[::-1, ::-1]))
    points = guided_pass(replace(scene, pair=other), STILL, radius=10, n_points=60).tie_points
    assert len(points) > 30
    assert len(points.forward_backward_consistent()) < 0.5 * len(points)


@pytest.mark.parametrize("n_peaks", [1, 2])
def test_every_keypoint_with_a_candidate_is_tied_or_rejected(n_peaks: int) -> None:
    scene = scene_of(config=MatchConfig(n_keypoints=120, min_score=0.6))
    half = replace(scene.pair, moving=np.where(np.arange(SIDE) < SIDE // 2, scene.pair.moving, 0.5).astype(np.float32))
    matches = guided_pass(replace(scene, pair=half), STILL, radius=10, n_points=60, n_peaks=n_peaks)
    tied, rejected = matches.tie_points, matches.rejected
    assert len(rejected) > 0
    assert np.all(rejected.score < 0.6)
    keypoints = np.concatenate([tied.fixed, rejected.fixed])
    assert len(np.unique(keypoints, axis=0)) == len(keypoints) <= matches.n_fixed
    assert len(matches.tie_points) + len(rejected) <= matches.n_candidates


def test_keypoints_are_not_searched_back() -> None:
    matches = keypoint_pass(scene_of(), STILL, radius=12)
    assert matches.tie_points.agreement_px is None
    assert matches.controls is None


@pytest.mark.parametrize("n_peaks", [1, 2])
def test_controls_are_wrong_places_for_a_sample_of_the_keypoints(n_peaks: int) -> None:
    matches = guided_pass(scene_of(), STILL, radius=10, n_points=60, n_peaks=n_peaks)
    controls = matches.controls
    assert controls is not None
    assert len(controls.candidate) == len(controls.control) == -(-matches.n_fixed // 6)
    assert controls.acceptance < 0.2
    assert controls.margin > 2
    assert np.median(controls.candidate) > 0.9


def test_a_network_that_takes_everything_betrays_itself() -> None:
    scene = scene_of(config=MatchConfig(n_keypoints=120, min_score=0.0))
    controls = guided_pass(scene, STILL, radius=10, n_points=60).controls
    assert controls is not None
    assert controls.acceptance == 1


def test_the_guided_pass_starts_from_the_estimate() -> None:
    """The shift is out of reach from the start, and within it from an estimate near by."""
    far = np.array([30.0, 22.0])
    assert len(guided_pass(scene_of(far), STILL, radius=8, n_points=60).tie_points) == 0
    matches = guided_pass(scene_of(far), moved(27, 25), radius=8, n_points=60)
    assert len(matches.tie_points) >= 30
    assert float(np.median(error_of(matches, far))) < 0.15


@pytest.mark.parametrize("tie", [keypoint_pass, lambda s, m, radius: guided_pass(s, m, radius, 60)])
def test_the_network_has_the_last_word(tie: type) -> None:
    """Candidates are the same; how many become tie points is up to their scores."""
    asked, counts = [], []
    for ceiling in (1.0, 0.45):
        scorer = FakeScorer(ceiling)
        matches = tie(scene_of(scorer=scorer), STILL, radius=12)
        assert np.all(matches.tie_points.score >= 0.5)
        assert matches.n_candidates == sum(scorer.pairs) - len(matches.controls.control if matches.controls else ())
        asked.append(matches.n_candidates)
        counts.append(len(matches.tie_points))
    assert asked[0] == asked[1] > 0
    assert counts[0] > 0
    assert counts[1] == 0
    lower = replace(MatchConfig(), n_keypoints=120, min_score=0.4)
    assert len(tie(scene_of(scorer=FakeScorer(0.45), config=lower), STILL, radius=12).tie_points) > 0


@pytest.mark.parametrize("tie", [keypoint_pass, lambda s, m, radius: guided_pass(s, m, radius, 60)])
def test_without_data_there_is_nothing_to_tie(tie: type) -> None:
    matches = tie(scene_of(fixed_valid=np.zeros((SIDE, SIDE), bool)), STILL, radius=12)
    assert len(matches.tie_points) == matches.n_candidates == 0
    assert matches.tie_points.fixed.shape == matches.tie_points.moving.shape == (0, 2)


def test_without_structure_no_candidate_and_no_control_is_scored() -> None:
    scene = scene_of()
    blank = replace(scene.pair, moving=np.full_like(scene.pair.moving, 0.25))
    matches = guided_pass(replace(scene, pair=blank), STILL, radius=10, n_points=60)
    assert matches.n_candidates == len(matches.tie_points) == 0
    assert matches.controls is not None
    assert np.isnan(matches.controls.acceptance)


def test_tie_points_lie_where_both_images_have_data() -> None:
    half = np.zeros((SIDE, SIDE), bool)
    half[:, 100:] = True
    points = guided_pass(scene_of(fixed_valid=half), STILL, radius=10, n_points=60).tie_points
    assert len(points) > 10
    assert points.fixed[:, 0].min() >= 100
    assert np.all(project(STILL, points.moving) >= 0)


def test_the_network_is_asked_about_a_sample_and_the_search_back_vouches_for_the_rest() -> None:
    scorer = FakeScorer()
    first, everything = locate(scene_of(scorer=scorer), STILL, radius=10, n_points=60, n_peaks=1).rounds(20)
    assert (first.n_fixed, first.n_unscored, everything.n_fixed) == (20, 40, 60)
    assert len(first.unscored) >= 20
    assert np.isnan(first.unscored.score).all() and (first.unscored.agreement_px <= 1).all()
    np.testing.assert_allclose(
        first.unscored.fixed - first.unscored.moving, np.tile(SHIFT, (len(first.unscored), 1)), atol=0.3
    )
    fitted = first.fitted
    assert (
        len(fitted)
        == len(first.tie_points.forward_backward_consistent()) + len(first.unscored)
        == len(first.all_points.forward_backward_consistent())
    )
    assert np.isfinite(fitted.score).all()
    assert len(scorer.pairs) == 2


def test_both_rounds_together_are_the_whole_pass() -> None:
    whole = guided_pass(scene_of(), STILL, radius=10, n_points=60, n_peaks=1)
    *_, everything = locate(scene_of(), STILL, radius=10, n_points=60, n_peaks=1).rounds(20)
    np.testing.assert_allclose(everything.tie_points.fixed, whole.tie_points.fixed)
    np.testing.assert_allclose(everything.tie_points.moving, whole.tie_points.moving, atol=1e-6)
    assert len(everything.unscored) == everything.n_unscored == 0


def test_nothing_is_vouched_for_where_the_network_refuses_the_sample() -> None:
    first, _ = locate(scene_of(scorer=FakeScorer(ceiling=0.4)), STILL, radius=10, n_points=60, n_peaks=1).rounds(20)
    assert len(first.all_points) == 0
    assert first.n_unscored == 40


@pytest.mark.parametrize("sample", [None, 60])
def test_a_sample_of_everything_is_one_round(sample: int | None) -> None:
    (only,) = locate(scene_of(), STILL, radius=10, n_points=60, n_peaks=1).rounds(sample)
    assert only.n_unscored == 0
    assert len(only.tie_points) >= 30

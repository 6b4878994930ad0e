"""Acceptance and refusal of a transform by its evidence, and the confidence in it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.config.options import CONFIG_OPTIONS
from rrl_register.estimation import acceptance
from rrl_register.estimation.acceptance import (
    ASPECTS,
    FEATURES,
    confidence,
    features,
    refusal,
    refusal_without_transform,
    weakest,
)
from rrl_register.estimation.evidence import Evidence

NAN = float("nan")
GOOD = Evidence(
    n_points=100,
    n_tie_points=60,
    n_inliers=50,
    over_chance=18.0,
    coverage=0.7,
    rmse_px=0.8,
    check_rmse_px=1.0,
    mean_score=0.9,
    implausible=None,
    check_ratio=0.33,
    occupied=0.9,
    score_margin=6.5,
    control_acceptance=0.02,
    agreeing=0.95,
    agreement_px=0.2,
    n_independent=20,
)
POOR = Evidence(
    n_points=100,
    n_tie_points=30,
    n_inliers=12,
    over_chance=3.5,
    coverage=0.1,
    rmse_px=1.8,
    check_rmse_px=2.9,
    mean_score=0.55,
    implausible=None,
    check_ratio=0.97,
    occupied=0.2,
    score_margin=0.5,
    control_acceptance=0.1,
    agreeing=0.1,
    agreement_px=1.9,
    n_independent=3,
)
MIN_INLIERS = 12
MAX_CHECK_RMSE_PX = 3.0
EVEN_MODEL = {"intercept": -5.5, "coefficients": dict.fromkeys(FEATURES, 1.0), "typical": GOOD.figures()}
"""A model that weighs every feature alike, so that tests do not depend on the one that ships."""


@pytest.fixture
def even_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptance, "_confidence_model", lambda: EVEN_MODEL)


def reason_for(evidence: Evidence) -> str:
    return refusal(evidence, MIN_INLIERS, MAX_CHECK_RMSE_PX) or ""


def test_good_evidence_is_not_refused() -> None:
    assert refusal(GOOD, MIN_INLIERS, MAX_CHECK_RMSE_PX) is None
    assert refusal(GOOD, 50, MAX_CHECK_RMSE_PX) is None


def test_poor_evidence_is_refused_by_the_confidence_alone() -> None:
    assert "the evidence is weak" in reason_for(POOR)


@pytest.mark.parametrize(
    ("change", "seen", "needed"),
    [
        ({"n_tie_points": 3, "n_inliers": 3}, "accepted 3 of 100 candidates", "at least 12 are needed"),
        ({"n_inliers": 8}, "8 inliers among 60 tie points", "at least 12 are needed"),
        ({"implausible": "mirrored"}, "mirrored", "same place"),
        (
            {"control_acceptance": 0.5},
            "accepts 50% of the control points, which are wrong, and 60%",
            "at most 0.5 times",
        ),
        ({"over_chance": 1.23}, "1.2 times as frequent as by chance", "at least 3 times"),
        ({"check_rmse_px": 4.44}, "cross-validation RMSE is 4.4 px", "at most 3 px"),
        ({"check_rmse_px": NAN}, "50 inliers are too few for cross-validation", "at least 10 are needed"),
        ({"coverage": 0.031}, "3% of the overlap", "at least 8%"),
    ],
)
def test_a_refusal_reports_what_was_seen_what_is_needed_and_what_to_try(
    change: dict[str, float], seen: str, needed: str
) -> None:
    reason = reason_for(replace(GOOD, **change))
    assert seen in reason
    assert needed in reason
    assert "try " in reason.partition(": ")[2]
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("change", "seen", "usual"),
    [
        ({"agreeing": 0.24}, "24% of the inliers pass the forward-backward check", "95%"),
        ({"agreement_px": 1.8}, "forward-backward error of the inliers is 1.8 px", "0.2"),
        ({"score_margin": 0.3}, "log-odds of 0.3", "6.5"),
        ({"score_margin": NAN}, "log-odds of unknown", "6.5"),
        ({"occupied": 0.12}, "12% of the blocks", "90%"),
        ({"check_ratio": 0.99}, "cross-validation RMSE is 99% of the inlier threshold", "33%"),
        ({"mean_score": 0.2}, "mean score of the inliers is 0.20", "0.90"),
        ({"n_points": 1000}, "5% of the keypoints are inliers", "50%"),
    ],
)
def test_low_confidence_names_the_weakest_evidence(
    monkeypatch: pytest.MonkeyPatch, even_model: None, change: dict[str, float], seen: str, usual: str
) -> None:
    monkeypatch.setattr(acceptance, "MIN_CONFIDENCE", 1.0)
    reason = reason_for(replace(GOOD, **change))
    assert seen in reason
    assert f"(typical of right registrations: {usual})" in reason
    assert reason.count("try ") == 1
    assert "\n" not in reason


def test_the_weakest_aspect_is_weighed_by_its_coefficient(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = replace(GOOD, agreeing=0.1, occupied=0.5)
    for counts, name in ((1.0, "agreeing"), (0.1, "occupied")):
        coefficients = dict.fromkeys(FEATURES, 1.0) | {"agreeing": counts}
        monkeypatch.setattr(acceptance, "_confidence_model", lambda c=coefficients: EVEN_MODEL | {"coefficients": c})
        assert weakest(lacking) == name


def test_without_a_transform_the_refusal_reports_what_was_accepted() -> None:
    reason = refusal_without_transform(640, 5)
    assert "accepted 5 of 640 candidates" in reason
    assert "try --keypoints" in reason
    assert "\n" not in reason


def test_the_first_cause_is_reported() -> None:
    """All is missing: the cause is that nothing was accepted, not that nothing could be cross-validated."""
    nothing = replace(POOR, n_tie_points=2, n_inliers=2, over_chance=0.1, coverage=0.0, check_rmse_px=NAN)
    assert "the network accepted 2 of 100 candidates" in reason_for(nothing)
    assert "2 inliers among 40 tie points" in reason_for(replace(nothing, n_tie_points=40))
    assert "as frequent as by chance" in reason_for(replace(nothing, n_tie_points=40, n_inliers=12))


def test_an_uncertain_transform_is_refused() -> None:
    assert "standard error of the transform over the overlap is 1.4 times" in reason_for(
        replace(GOOD, uncertainty_ratio=1.4)
    )
    assert refusal(replace(GOOD, uncertainty_ratio=0.9), 12, 3.0) is None


def test_remedies_are_options_that_exist() -> None:
    flags = {option.flag for option in CONFIG_OPTIONS}
    texts = [aspect.remedy for aspect in ASPECTS.values()] + [
        reason_for(replace(GOOD, **change))
        for change in ({"n_tie_points": 3}, {"n_inliers": 8}, {"control_acceptance": 0.5}, {"check_rmse_px": 9.0})
    ]
    words = {word.strip(",.:;()") for text in texts for word in text.split() if "--" in word}
    assert words
    assert words <= flags


FIGURE = st.one_of(st.none(), st.floats(0, 1000))


@given(st.fixed_dictionaries({aspect.figure: FIGURE for aspect in ASPECTS.values()}))
def test_features_lie_between_0_and_1_whatever_is_known(figures: dict[str, float | None]) -> None:
    seen = features(figures)
    assert len(seen) == len(FEATURES)
    assert all(0 <= value <= 1 for value in seen)


@given(st.sampled_from(list(ASPECTS.values())), st.floats(0, 30), st.floats(0, 30))
def test_features_are_monotone(aspect: acceptance.Aspect, one: float, other: float) -> None:
    """Figures that are better if lower fall, all others rise."""
    falls = aspect.figure in ("control_acceptance", "check_ratio", "agreement_px", "uncertainty_ratio")
    low, high = sorted((one, other), reverse=falls)
    assert aspect.of({aspect.figure: low}) <= aspect.of({aspect.figure: high})


def test_unknown_figures_have_no_strength() -> None:
    assert features(dict.fromkeys(GOOD.figures())) == [0.0] * len(FEATURES)
    assert features({}) == [0.0] * len(FEATURES)


def test_without_inliers_or_a_plausible_transform_there_is_no_confidence() -> None:
    assert confidence(replace(GOOD, n_inliers=0)) == 0
    assert confidence(replace(GOOD, implausible="mirrored")) == 0


def test_better_evidence_never_lowers_the_confidence() -> None:
    certain = confidence(GOOD)
    assert 0.5 < certain <= 1
    worse = {
        "n_inliers": 25,
        "n_independent": 5,
        "n_points": 400,
        "over_chance": 5.0,
        "coverage": 0.3,
        "occupied": 0.4,
        "mean_score": 0.6,
        "score_margin": 1.0,
        "control_acceptance": 0.3,
        "check_ratio": 0.9,
        "agreeing": 0.3,
        "agreement_px": 1.5,
    }
    for name, value in worse.items():
        assert confidence(replace(GOOD, **{name: value})) <= certain
    assert confidence(POOR) < 0.5


def test_the_model_that_ships_has_the_features_and_typical_figures() -> None:
    model = acceptance._confidence_model()
    assert set(model["coefficients"]) == set(FEATURES)
    assert min(model["coefficients"].values()) >= 0
    assert set(model["typical"]) == {aspect.figure for aspect in ASPECTS.values()}
    assert max(features(model["typical"])) > 0.5


@pytest.mark.parametrize("name", FEATURES)
def test_each_aspect_states_its_figure(name: str) -> None:
    aspect, figures = ASPECTS[name], replace(GOOD, uncertainty_ratio=0.4).figures()
    assert aspect.shown(figures) in aspect.stated(figures)
    assert "unknown" in aspect.stated({})
    assert "{" not in aspect.stated(figures)


@given(
    st.integers(0, 60), st.integers(0, 60), st.floats(0, 20), st.floats(0, 1), st.one_of(st.just(NAN), st.floats(0, 9))
)
def test_any_refusal_is_one_line_with_something_to_try(
    n_tie_points: int, n_inliers: int, over_chance: float, coverage: float, check: float
) -> None:
    change = {"n_tie_points": n_tie_points, "n_inliers": n_inliers, "over_chance": over_chance, "coverage": coverage}
    reason = refusal(
        replace(GOOD, check_rmse_px=check, check_ratio=check / 3, **change), MIN_INLIERS, MAX_CHECK_RMSE_PX
    )
    assert reason is None or ("try " in reason and "\n" not in reason)

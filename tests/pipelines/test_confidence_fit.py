"""The fit of the confidence: that it is honest, and that it is measured on scenes it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from confidence_fit import calibration
from confidence_fit.calibration import (
    KnownRegistrations,
    ReliabilityBin,
    calibrate,
    calibration_error,
    fit_model,
    held_out_confidence,
    known_registrations,
    log_loss,
    reliability,
    typical,
)
from confidence_fit.diagram import draw_reliability
from rrl_register.errors import InputError
from rrl_register.estimation.acceptance import FEATURES
from rrl_register.estimation.evidence import Evidence


def figures(n_inliers: int, **changes: float | None) -> dict[str, float | None]:
    return Evidence(400, n_inliers + 10, n_inliers, 5.0, 0.5, 1.0, 1.1, 0.8, None).figures() | changes


def row(n_inliers: int, right: bool, scene: int, **changes: Any) -> dict[str, Any]:
    evidence = figures(n_inliers)
    return {"evidence": evidence, "right": right, "implausible": None, "scenes": [f"scene{scene}"], **changes}


@pytest.fixture
def separated() -> list[dict[str, Any]]:
    """Rows that any threshold between 25 and 100 inliers tells apart."""
    return [row(5 + i, False, i) for i in range(20)] + [row(100 + 10 * i, True, i) for i in range(20)]


@pytest.fixture
def noisy(rng: np.random.Generator) -> KnownRegistrations:
    """One feature that the odds follow, 20 scenes."""
    evidence = rng.normal(size=(600, 1))
    right = rng.random(600) < 1 / (1 + np.exp(-(0.5 + 2 * evidence[:, 0])))
    return KnownRegistrations(evidence, right, tuple((f"scene{i % 20}",) for i in range(600)), {})


def test_a_fit_tells_right_from_wrong(separated: list[dict[str, Any]]) -> None:
    model = calibrate(known_registrations(separated))
    assert set(model["coefficients"]) == set(FEATURES)
    assert (model["registrations"], model["right"]) == (40, 20)
    assert (model["held_out_wrong_accepted"], model["held_out_right_refused"]) == (0, 0)
    assert model["held_out_brier"] < 0.1
    assert sum(one["n"] for one in model["reliability"]) == 40
    assert model["typical"]["n_inliers"] == 195


def test_no_coefficient_is_negative_whatever_the_registrations_say() -> None:
    """Wrong ones that happen to cover more of the scene do not turn coverage into a bad sign."""
    wrong = [row(n, False, n, evidence=figures(n, coverage=0.9)) for n in range(5, 60)]
    right = [row(n, True, n, evidence=figures(n, coverage=0.2)) for n in range(30, 85)]
    coefficients = calibrate(known_registrations(wrong + right))["coefficients"]
    assert min(coefficients.values()) == coefficients["coverage"] == 0
    assert coefficients["inliers"] > 0


def test_the_fit_agrees_with_scikit_learn_where_no_sign_is_in_the_way(noisy: KnownRegistrations) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    other = linear_model.LogisticRegression(C=0.5, tol=1e-9).fit(noisy.evidence, noisy.right)
    ours = fit_model(noisy.evidence, noisy.right, 0.5)
    assert ours.intercept == pytest.approx(other.intercept_[0], abs=1e-3)
    assert ours.coefficients == pytest.approx(other.coef_[0], abs=1e-3)


def test_what_is_never_known_has_no_typical_value() -> None:
    unknown = [figures(n, agreeing=None) for n in range(20, 40)]
    assert "agreeing" not in typical(unknown)
    assert typical(unknown)["n_inliers"] == 29.5


def test_what_the_verdict_refuses_anyway_is_left_out(separated: list[dict[str, Any]]) -> None:
    others = [row(50, True, 0, evidence=None), row(50, False, 0, implausible="mirrored")]
    assert len(known_registrations(separated + others).right) == 40


@pytest.mark.parametrize("right", [True, False])
def test_answers_of_one_kind_are_refused(right: bool) -> None:
    with pytest.raises(InputError, match="needed both kinds"):
        known_registrations([row(50, right, i) for i in range(10)])


def test_the_fit_finds_the_odds(noisy: KnownRegistrations) -> None:
    model = fit_model(noisy.evidence, noisy.right, 100.0)
    assert model.intercept == pytest.approx(0.5, abs=0.3)
    assert model.coefficients[0] == pytest.approx(2, abs=0.5)
    assert calibration_error(reliability(model.predict(noisy.evidence), noisy.right)) < 0.06


def test_a_penalty_keeps_confidences_off_the_ends(separated: list[dict[str, Any]]) -> None:
    known = known_registrations(separated)
    mild, none = (fit_model(known.evidence, known.right, c).predict(known.evidence) for c in (0.1, 1000.0))
    assert 0.01 < mild.min() < mild.max() < 0.99
    assert none.min() < mild.min()


def test_no_model_sees_a_scene_that_it_predicts(noisy: KnownRegistrations, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = tuple((f"scene{i % 20}", f"scene{i % 7}") for i in range(600))
    numbered = KnownRegistrations(np.arange(600.0)[:, None], noisy.right, scenes, {})
    seen: list[set[str]] = []

    class Model:
        def predict(self, evidence: np.ndarray) -> np.ndarray:
            tested = {scene for number in evidence[:, 0].astype(int) for scene in scenes[number]}
            assert tested.isdisjoint(seen[-1])
            return np.full(len(evidence), 0.5)

    def fit(evidence: np.ndarray, right: np.ndarray, strength: float) -> Model:
        seen.append({scene for number in evidence[:, 0].astype(int) for scene in scenes[number]})
        return Model()

    monkeypatch.setattr(calibration, "fit_model", fit)
    assert np.all(held_out_confidence(numbered, 1.0) == 0.5)
    assert len(seen) > 5


def test_too_few_scenes_are_refused(separated: list[dict[str, Any]]) -> None:
    alone = [one | {"scenes": ["scene0"]} for one in separated]
    with pytest.raises(InputError, match="make more"):
        held_out_confidence(known_registrations(alone), 1.0)


def test_reliability_counts_and_averages() -> None:
    confidence, right = np.array([0.05, 0.05, 0.92, 0.98, 1.0]), np.array([False, True, True, True, False])
    low, high = reliability(confidence, right)
    assert (low.n, low.confidence, low.share_right) == (2, pytest.approx(0.05), 0.5)
    assert (high.n, high.share_right) == (3, pytest.approx(2 / 3))
    assert calibration_error([low, high]) == pytest.approx((2 * 0.45 + 3 * (2.9 / 3 - 2 / 3)) / 5)


def test_log_loss_punishes_false_certainty() -> None:
    right = np.array([True, False])
    assert log_loss(np.array([0.5, 0.5]), right) == pytest.approx(np.log(2))
    assert log_loss(np.array([0.0, 0.0]), right) > 10


def test_a_reliability_diagram_says_how_many_there_are(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw_reliability(tmp_path / "bins.svg", [ReliabilityBin(17, 0.1, 0.2), ReliabilityBin(230, 0.9, 0.95)])
    text = (tmp_path / "bins.svg").read_text()
    for said in ("17", "230", "mean confidence", "share of registrations right", "scenes left out"):
        assert said in text

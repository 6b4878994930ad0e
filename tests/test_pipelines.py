"""The runnable pipelines: what they calibrate with, and that they start."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rrl_register.estimation.evidence import Evidence
from rrl_register.estimation.transforms import decompose, is_sane
from rrl_register.estimation.verdict import FEATURES, confidence, features

FOLDER = Path(__file__).resolve().parents[1] / "pipelines"


@pytest.fixture(scope="module")
def calibration() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calibrate_confidence", FOLDER / "calibrate_confidence.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_every_pipeline_tells_its_usage(script: Path) -> None:
    run = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "usage" in run.stdout


def test_random_transforms_stay_within_what_they_say(calibration: ModuleType) -> None:
    for seed in range(50):
        matrix = calibration.random_transform(np.random.default_rng(seed), (300, 400))
        parts = decompose(matrix, (300, 400))
        assert is_sane(matrix, (300, 400)) is None
        assert abs(parts.rotation_deg) <= 10.5
        assert 0.88 < parts.scale < 1.13


def evidence_of(n_inliers: int, over_chance: float = 18.0) -> Evidence:
    return Evidence(400, n_inliers + 10, n_inliers, over_chance, 0.5, 1.0, 1.1, 0.8, None, 0.4, 0.9, 6.0, 0.0, 0.9, 0.2)


def row(n_inliers: int, right: bool, **figures: float) -> dict[str, object]:
    return {"evidence": evidence_of(n_inliers).figures() | figures, "right": right, "implausible": None}


def test_a_fit_tells_right_from_wrong(calibration: ModuleType) -> None:
    rows = [row(n, False) for n in range(5, 25)] + [row(n, True) for n in range(100, 300, 10)]
    model = calibration.fit(rows)
    assert set(model["coefficients"]) == set(FEATURES)
    assert (model["held_out_wrong_accepted"], model["held_out_right_refused"]) == (0, 0)
    assert model["typical"]["n_inliers"] == 195
    assert model["typical"]["agreeing"] == 0.9


def test_no_coefficient_is_negative_whatever_the_registrations_say(calibration: ModuleType) -> None:
    """Wrong ones that happen to cover more of the scene do not turn coverage into a bad sign."""
    wrong = [row(n, False, coverage=0.9) for n in range(5, 60)]
    right = [row(n, True, coverage=0.2) for n in range(30, 85)]
    coefficients = calibration.fit(wrong + right)["coefficients"]
    assert min(coefficients.values()) == coefficients["coverage"] == 0
    assert coefficients["inliers"] > 0


def test_the_logistic_model_finds_the_odds_of_what_it_sees(calibration: ModuleType) -> None:
    """One feature that is 0 or 1: right in a quarter and in three quarters of a thousand cases."""
    x = np.repeat([[0.0], [1.0]], 1000, axis=0)
    y = np.r_[np.arange(1000) < 250, np.arange(1000) < 750]
    model = calibration.logistic(x, y)
    np.testing.assert_allclose(calibration.probability(np.array([[0.0], [1.0]]), model), [0.25, 0.75], atol=0.005)


def test_what_is_never_known_has_no_typical_value(calibration: ModuleType) -> None:
    unknown = [row(n, n > 30)["evidence"] | {"agreeing": None} for n in range(20, 40)]
    assert "agreeing" not in calibration.typical(unknown)


def test_confidence_is_the_logistic_of_the_shipped_model() -> None:
    evidence = evidence_of(200)
    assert len(features(evidence.figures())) == len(FEATURES)
    assert 0.9 < confidence(evidence) < 1

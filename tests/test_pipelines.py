"""The runnable pipelines: what they calibrate with, and that they start."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rrl_register.estimation.transforms import decompose, is_sane
from rrl_register.estimation.verdict import FEATURES, Evidence, confidence, features

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


def test_a_fit_tells_right_from_wrong(calibration: ModuleType) -> None:
    def row(n_inliers: int, right: bool) -> dict[str, object]:
        evidence = Evidence(400, n_inliers + 10, n_inliers, 5.0, 0.5, 1.0, 1.1, 0.8, None)
        return {
            "evidence": evidence.figures() | {"n_inliers": n_inliers},
            "right": right,
            "implausible": None,
        }

    rows = [row(n, False) for n in range(5, 25)] + [row(n, True) for n in range(100, 300, 10)]
    model = calibration.fit(rows)
    assert set(model["coefficients"]) == set(FEATURES)
    assert (model["held_out_wrong_accepted"], model["held_out_right_refused"]) == (0, 0)


def test_confidence_is_the_logistic_of_the_shipped_model() -> None:
    evidence = Evidence(400, 210, 200, 20.0, 0.5, 1.0, 1.1, 0.8, None)
    assert len(features(evidence.figures() | {"n_inliers": 200})) == len(FEATURES)
    assert 0.9 < confidence(evidence) < 1

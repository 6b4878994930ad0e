"""The runnable pipelines: what they calibrate with, and that they start."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from case_maker.cases import HardCase, Plan
from case_maker.sources import SourcePair

import calibrate_confidence
from rrl_register.estimation.acceptance import FEATURES, confidence, features
from rrl_register.estimation.evidence import Evidence
from rrl_register.geometry.transforms import translation

FOLDER = Path(__file__).resolve().parents[2] / "pipelines"


SCRIPTS = [path for path in sorted(FOLDER.glob("*.py")) if "__main__" in path.read_text()]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_pipeline_tells_its_usage(script: Path) -> None:
    run = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "usage" in run.stdout


def test_an_error_is_measured_through_the_matrix_alone() -> None:
    image = np.zeros((1, 64, 64), np.uint8)
    points = np.array([(10.0, 10.0), (50.0, 20.0)])
    bent = HardCase(image, image, np.eye(3), points + np.array([0, 4]), points)
    assert calibrate_confidence.error_px(bent, translation(3, 4)) == pytest.approx(5)
    assert calibrate_confidence.error_px(HardCase(image, image, None, None, None), np.eye(3)) is None


def test_what_has_a_result_is_not_registered_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = SourcePair("set/1", "nir", Path("a.png"), Path("b.png"), 600, 1.0)
    plans = [Plan(f"haze-{i}", "haze", scene, scene, i) for i in range(3)]
    results = tmp_path / "runs" / "rows.jsonl"
    results.parent.mkdir()
    results.write_text(json.dumps({"name": "haze-1", "seed": 1}) + "\n")
    monkeypatch.setattr(calibrate_confidence.multiprocessing, "get_context", lambda method: _NoProcesses)
    monkeypatch.setattr(calibrate_confidence, "attempt", lambda plan: {"name": plan.name, "seed": plan.seed})
    calibrate_confidence.register_missing(plans, results, 2)
    names = [json.loads(line)["name"] for line in results.read_text().splitlines()]
    assert names == ["haze-1", "haze-0", "haze-2"]


class _NoProcesses:
    """A pool whose work is done on the spot."""

    def __init__(self, workers: int) -> None:
        self.imap_unordered = map

    Pool = classmethod(lambda cls, workers: nullcontext(cls(workers)))


def test_confidence_is_the_logistic_of_the_shipped_model() -> None:
    evidence = Evidence(400, 210, 200, 18.0, 0.5, 1.0, 1.1, 0.8, None, 0.4, 0.9, 6.0, 0.0, 0.9, 0.2, 0.1, 15)
    assert len(features(evidence.figures())) == len(FEATURES)
    assert 0.9 < confidence(evidence) < 1

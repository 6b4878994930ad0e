"""Some hard cases of real pairs, with the shipped weights: right, or refused where nothing is to be found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case_maker.cases import plan_cases
from case_maker.difficulties import NEGATIVE
from case_maker.files import write_cases
from case_maker.sources import validation_scenes

from rrl_register import MatchConfig, RegisterConfig, register
from rrl_register.geometry.transforms import residuals
from rrl_register.nn.inference.torch_backend import Scorer

pytestmark = pytest.mark.shared_data

CASES = ("rotation-003", "inversion-001", "haze-002", "geo-100-002", "terrain-002", "negative-002")
"""Small images, one case of each kind that matters most."""


@pytest.fixture(scope="module")
def cases(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The entries of the selection by name, ``folder`` added."""
    folder = tmp_path_factory.mktemp("hard")
    suites = tuple(name.rpartition("-")[0] for name in CASES)
    plans = [p for p in plan_cases(validation_scenes(shared_data / "train"), 4, 0, suites) if p.name in CASES]
    listed = json.loads(write_cases(folder, plans).read_text())
    return {entry["id"]: entry | {"folder": folder} for entry in listed}


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer()


@pytest.mark.parametrize("name", CASES)
def test_a_hard_case_is_registered_or_refused(name: str, cases: dict[str, dict[str, Any]], scorer: Scorer) -> None:
    case = cases[name]
    related = case["suite"] != NEGATIVE
    # What nothing proves takes longest, for every start is tried: fewer keypoints are enough there.
    config = RegisterConfig() if related else RegisterConfig(match=MatchConfig(n_keypoints=120))
    result = register(case["folder"] / case["fixed"], case["folder"] / case["moving"], config, scorer=scorer)
    if not related:
        assert result.status == "failed", f"confidence {result.confidence}"
        return
    assert result.status == "ok", result.reason
    assert np.mean(residuals(result.matrix, case["landmarks_moving"], case["landmarks_fixed"])) < 5

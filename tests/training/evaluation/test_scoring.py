"""From sets of patches to figures and tables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rrl_register.config import Device
from rrl_register.errors import InputError
from rrl_register.nn import runtime as precision
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.training.evaluation import patch_set as scoring
from rrl_register.training.evaluation.figures import (
    families_result,
    families_table,
    family_result,
    figures,
    mean_figures,
    scene_rows,
    set_result,
    set_table,
    text_table,
)
from rrl_register.training.evaluation.pair_patches import FamilyPatches
from rrl_register.training.evaluation.patch_set import PatchSet, Scores, score_family, score_patch_set
from rrl_register.training.validation import auc, fpr95

torch.set_num_threads(1)

LABELS = np.array([True, True, False, True, False, False])
SCENES = np.array(["b", "a", "a", "a", "b", "c"])


@pytest.fixture(scope="module")
def scorer(make_network: Callable[..., RRLNet]) -> Scorer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "fastest_dtype", lambda device: torch.float32)
        return Scorer(device=Device.CPU, network=make_network(), name="made")


@pytest.fixture
def patch_set(rng: np.random.Generator) -> PatchSet:
    return PatchSet("set", rng.integers(0, 256, (6, 2, 64, 64), np.uint8), LABELS, SCENES)


@pytest.fixture
def family(rng: np.random.Generator) -> FamilyPatches:
    visible, other, near = rng.integers(0, 256, (3, 4, 64, 64), np.uint8)
    return FamilyPatches("nir", 64, visible, other, near, np.array([2, 3, 0, 1]), np.array(["a", "a", "b", "b"]))


def made_scores(network: list[float], descriptor: list[float]) -> Scores:
    return Scores(LABELS, np.array(network, np.float32), np.array(descriptor, np.float32), SCENES)


GOOD = made_scores([0.9, 0.8, 0.1, 0.7, 0.2, 0.3], [0.9, 0.1, 0.2, 0.8, 0.3, 0.1])


def test_scores_are_those_of_the_network_whatever_the_portion(
    patch_set: PatchSet, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    visible, other = patch_set.patches(slice(None))
    row = np.arange(6)
    told: list[int] = []
    monkeypatch.setattr(scoring, "_PAIRS_AT_A_TIME", 4)
    scores = score_patch_set(patch_set, scorer, told.append)
    assert told == [4, 2]
    assert np.allclose(scores.network, scorer.score(visible, other, row, row), atol=1e-2)
    one, two = scorer.describe(visible, Spectrum.VISIBLE), scorer.describe(other, Spectrum.OTHER)
    assert np.allclose(scores.descriptor, (one * two).sum(axis=1), atol=1e-2)
    assert scores.scenes is patch_set.scenes
    assert np.ptp(scores.network) > 0.1


def test_a_family_is_scored_as_its_saved_sets_are(family: FamilyPatches, scorer: Scorer) -> None:
    for near, scores in zip((False, True), score_family(family, scorer), strict=True):
        images, labels = family.labelled(near)
        expected = score_patch_set(PatchSet("saved", images, labels > 0), scorer)
        assert np.array_equal(scores.labels, labels > 0)
        assert np.allclose(scores.network, expected.network, atol=1e-2)
        assert np.allclose(scores.descriptor, expected.descriptor, atol=1e-2)
        assert scores.scenes is not None
        assert scores.scenes.tolist() == [*family.scenes, *family.scenes]


def test_a_network_that_gives_no_numbers_is_told(patch_set: PatchSet, make_network: Callable[..., RRLNet]) -> None:
    net = make_network()
    with torch.no_grad():
        net.metric[-1].bias.fill_(torch.nan)
    with pytest.raises(InputError, match="weights broken return no number for 6 of 6"):
        score_patch_set(patch_set, Scorer(device=Device.CPU, network=net, name="broken"))


def test_figures_are_fpr95_and_auc_of_both() -> None:
    row = figures(GOOD)
    assert (row["n"], row["n_matching"]) == (6, 3)
    assert (row["fpr95"], row["auc"]) == (0, 1)
    assert row["descriptor_fpr95"] == round(fpr95(LABELS, GOOD.descriptor), 4) > 0
    assert row["descriptor_auc"] == round(auc(LABELS, GOOD.descriptor), 4) < 1


def test_every_scene_has_its_row_and_one_class_has_no_figure() -> None:
    rows = scene_rows(GOOD)
    assert [(row["name"], row["n"], row["n_matching"]) for row in rows] == [("a", 3, 2), ("b", 2, 1), ("c", 1, 0)]
    assert [row["fpr95"] for row in rows] == [0, 0, None]
    assert [row["descriptor_fpr95"] for row in rows] == [100, 0, None]
    assert mean_figures(rows, ["fpr95", "descriptor_fpr95"]) == {"fpr95": 0, "descriptor_fpr95": 50}
    assert mean_figures(rows[2:], ["fpr95"]) == {"fpr95": None}


def test_without_scenes_there_are_no_rows() -> None:
    assert scene_rows(Scores(LABELS, GOOD.network, GOOD.descriptor)) == []


def test_the_result_of_a_set_has_all_that_is_promised(patch_set: PatchSet, scorer: Scorer) -> None:
    result = set_result(patch_set, GOOD, scorer)
    keys = {"fpr95", "n", "n_matching", "auc", "descriptor_fpr95", "weights", "device", "version", "scenes"}
    assert keys <= set(result)
    assert (result["fpr95"], result["weights"], result["device"]) == (0, "made", "cpu")
    assert result["scene_mean"] == {"fpr95": 0, "descriptor_fpr95": 50}
    table = set_table(result).splitlines()
    assert [line.split()[0] for line in table] == ["set", "a", "b", "c", "mean", "all"]
    assert table[3].split()[-3:] == ["-", "-", "-"]
    json.dumps(result, allow_nan=False)


def test_the_result_of_families_is_their_mean(family: FamilyPatches, scorer: Scorer) -> None:
    random, near = score_family(family, scorer)
    rows = [family_result(family, random, near), family_result(family, near, random)]
    result = families_result(rows, {"near_miss_px": 8.0}, scorer)
    for key in ("fpr95", "near_miss_fpr95", "descriptor_fpr95", "descriptor_near_miss_fpr95"):
        assert result[key] == pytest.approx((rows[0][key] + rows[1][key]) / 2, abs=1e-3)
    assert rows[0]["fpr95"] == rows[1]["near_miss_fpr95"]
    assert (result["n"], result["near_miss_px"], len(result["families"])) == (16, 8.0, 2)
    assert [(row["family"], row["name"], row["n"]) for row in result["scenes"][:2]] == [
        ("nir", "a", 4),
        ("nir", "b", 4),
    ]
    assert [line.split()[0] for line in families_table(result).splitlines()] == ["family", "nir", "nir", "mean"]
    assert "mean" not in families_table(families_result(rows[:1], {}, scorer))


def test_tables_line_up() -> None:
    table = text_table(["name", "n", "x"], [["a", 5, 1.234], ["longer", 12, None]])
    assert table == "name     n     x\na        5  1.23\nlonger  12     -"


def test_a_table_without_rows_is_its_header() -> None:
    assert text_table(["name", "n"], []) == "name  n"


def test_nothing_here_needs_a_raster_library(tmp_path: Path) -> None:
    modules = ("patch_set", "pair_patches", "figures", "vis_nir")
    code = "\n".join(f"import rrl_register.training.evaluation.{name}" for name in modules)
    check = f"{code}\nimport sys\nprint([m for m in ('rasterio', 'matplotlib') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.strip() == "[]"

"""The VIS-NIR protocol: which scenes are trained and tested on, and what is reported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from rrl_register.config import Device
from rrl_register.errors import InputError, UsageError
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.weights import load_weights
from rrl_register.training.datasets import PatchArrays
from rrl_register.training.evaluation import vis_nir
from rrl_register.training.evaluation.vis_nir import evaluate_scenes, find_scenes, scenes_table, split_scenes, train_on

torch.set_num_threads(1)

NAMES = ("country", "field", "old-building")


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    for name in NAMES:
        np.save(tmp_path / f"{name}_images.npy", rng.integers(0, 256, (6, 2, 64, 64), np.uint8))
        np.save(tmp_path / f"{name}_labels.npy", np.array([1, 0, 1, 0, 1, 0]))
    return tmp_path


@pytest.fixture
def fake_training(monkeypatch: pytest.MonkeyPatch, make_network: Callable[..., RRLNet]) -> list[tuple[Any, float]]:
    """A training loop that notes what it is asked for and leaves a checkpoint; it ends in time if given a minute."""
    calls: list[tuple[Any, float]] = []

    def train(config: Any, seconds: float) -> Path | None:
        calls.append((config, seconds))
        config.output.mkdir(parents=True, exist_ok=True)
        net = make_network()
        path: Path = config.output / "checkpoint.pt"
        state = {"step": 7, "score": None, "mean": net.state_dict(), "architecture": net.architecture.to_dict()}
        torch.save(state, path)
        return path if seconds >= 60 else None

    loop = ModuleType("rrl_register.training.loop")
    vars(loop).update(train=train, CHECKPOINT="checkpoint.pt")
    monkeypatch.setitem(sys.modules, loop.__name__, loop)
    return calls


def test_scenes_are_found_and_split(folder: Path) -> None:
    scenes = find_scenes(folder)
    assert tuple(scenes) == NAMES
    assert [scene.name for scene in split_scenes(scenes, "country", True)] == ["field", "old-building"]
    assert [scene.name for scene in split_scenes(scenes, "absent", False)] == list(NAMES)


def test_a_scene_to_train_on_has_to_be_there(folder: Path) -> None:
    scenes = find_scenes(folder)
    with pytest.raises(UsageError, match=r"absent .* country, field"):
        split_scenes(scenes, "absent", True)
    with pytest.raises(InputError, match="only scene"):
        split_scenes({"country": scenes["country"]}, "country", False)


def test_an_incomplete_folder_is_told(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(InputError, match=r"no \*_images.npy"):
        find_scenes(tmp_path_factory.mktemp("empty"))
    (folder / "field_labels.npy").unlink()
    with pytest.raises(InputError, match=r"no .*field_labels"):
        find_scenes(folder)


def test_the_result_is_the_mean_of_the_scenes(folder: Path, make_network: Callable[..., RRLNet]) -> None:
    scorer = Scorer(device=Device.CPU, network=make_network(), name="made")
    told: list[str] = []
    tested = split_scenes(find_scenes(folder), "country", False)
    result = evaluate_scenes(tested, scorer, lambda row: told.append(row["name"]))
    rows = result["scenes"]
    assert told == [row["name"] for row in rows] == ["field", "old-building"]
    assert result["fpr95"] == pytest.approx(np.mean([row["fpr95"] for row in rows]), abs=1e-3)
    assert result["n"] == 12
    assert [row["paper_fpr95"] for row in rows] == [2.16, 0.41]
    assert result["paper_fpr95"] is None
    table = scenes_table(result).splitlines()
    assert table[1].endswith("2.16")
    assert table[-1].split()[0] == "mean"
    assert table[-1].endswith("-")


def test_the_papers_mean_is_shown_for_the_papers_scenes(
    folder: Path, make_network: Callable[..., RRLNet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vis_nir, "PAPER", {"field": 2.16, "oldbuilding": 0.41})
    scorer = Scorer(device=Device.CPU, network=make_network())
    assert evaluate_scenes(split_scenes(find_scenes(folder), "country", False), scorer)["paper_fpr95"] == 0.76


def test_the_papers_mean_is_that_of_its_scenes() -> None:
    assert np.mean(list(vis_nir.PAPER.values())) == pytest.approx(vis_nir.PAPER_MEAN, abs=0.005)


def test_training_sees_the_scene_and_leaves_weights(
    folder: Path, tmp_path: Path, fake_training: list[tuple[Any, float]]
) -> None:
    country = find_scenes(folder)["country"]
    trained = train_on(country, tmp_path / "run", seconds=60)
    config, seconds = fake_training[0]
    assert config.data == (PatchArrays(images=country.images, labels=country.labels, family="nir"),)
    assert (config.output, seconds) == (tmp_path / "run", 60)
    assert trained.finished
    assert load_weights(trained.weights)[1].startswith("vis-nir-country ")


def test_weights_of_a_training_that_ran_out_of_time_can_be_tested(
    folder: Path, tmp_path: Path, fake_training: list[tuple[Any, float]]
) -> None:
    trained = train_on(find_scenes(folder)["country"], tmp_path / "run", seconds=1)
    assert not trained.finished
    load_weights(trained.weights)


def test_a_recipe_keeps_its_settings_but_not_its_data(
    folder: Path, tmp_path: Path, fake_training: list[tuple[Any, float]]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: elsewhere\noutput: elsewhere\nseed: 7\nfamilies: [sar]\ngroup_weights: {sar_s1s2: 2.0}\n")
    country = find_scenes(folder)["country"]
    train_on(country, tmp_path / "run", recipe, seconds=60)
    config = fake_training[0][0]
    assert config.seed == 7
    assert config.data == (PatchArrays(images=country.images, labels=country.labels, family="nir"),)
    assert (config.output, config.families, config.group_weights) == (tmp_path / "run", (), {})

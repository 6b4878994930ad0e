"""The recipe for bare machines, rehearsed: pack, two slices on two machines, join."""

from __future__ import annotations

import importlib.util
import json
import shutil
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from rrl_register.nn.weights import load_weights
from rrl_register.training import loop, validation
from rrl_register.training.run_files import load_checkpoint

SCRIPT = Path(__file__).resolve().parents[2] / "pipelines" / "gpu_recipe.py"
RECIPE = """
data: nowhere
output: nowhere
descriptor_phase: {steps: 2, batch: 4, learning_rate: 1.0e-3, warmup: 1}
joint_phase: {steps: 2, batch: 4, learning_rate: 1.0e-3, warmup: 1}
device: cpu
threads: 1
log_every: 1
validate_every: 9
validation_batches: 1
"""


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_recipe", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the recipe is run, with three pairs in ``pairs``: smooth noise, and its negative as another spectrum."""
    (tmp_path / "pairs").mkdir()
    for name in "abc":
        image = cv2.GaussianBlur(rng.integers(0, 256, (112, 112), dtype=np.uint8), (0, 0), 2)
        cv2.imwrite(str(tmp_path / "pairs" / f"{name}_vis.png"), image)
        cv2.imwrite(str(tmp_path / "pairs" / f"{name}_other.png"), 255 - image)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(validation, "VALIDATION_BATCH", 4)
    return tmp_path


def test_two_slices_on_two_machines_make_one_run(
    recipe: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recipe.main(["pack", "pairs", "-o", "train.pack"]) == 0
    assert "train.pack: 3 pairs" in capsys.readouterr().out

    train = [
        "train",
        "train.pack",
        "--config",
        "recipe.yaml",
        "--state",
        "state",
        "--out",
        "out",
        "--piece-mib",
        "15.5",
    ]
    ticks = count()
    with monkeypatch.context() as patched:
        patched.setattr(loop, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
        assert recipe.main([*train, "--seconds", "8"]) == 0
    assert "out of time" in capsys.readouterr().out
    stopped = load_checkpoint(folder / "state" / "checkpoint.pt")
    assert stopped is not None
    assert 0 < stopped["step"] < 4
    files = list((folder / "out").iterdir())
    assert 3 < len(files) <= 8
    assert max(file.stat().st_size for file in files) < 16 * 2**20

    shutil.move(folder / "out", folder / "carried")
    shutil.rmtree(folder / "state")
    assert recipe.main([*train, "--slice", "carried"]) == 0
    said = capsys.readouterr().out
    assert f"resuming after step {stopped['step']}" in said
    assert said.splitlines()[-1] == "finished"

    assert recipe.main(["join", "out", "-o", "run", "--weights", "made.safetensors"]) == 0
    best = load_checkpoint(folder / "run" / "best.pt")
    assert best is not None
    assert best["step"] == 4
    assert not (folder / "run" / "checkpoint.pt").exists(), "a finished run leaves its weights alone"
    log = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log if "lr" in record] == [1, 2, 3, 4]
    network, name = load_weights(folder / "made.safetensors")
    assert name.startswith("made ")
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())

    assert recipe.main([*train, "--slice", "carried"]) == 0
    assert "resuming" not in capsys.readouterr().out


def test_the_steps_are_made_to_fit_the_time(
    recipe: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recipe.main(["pack", "pairs", "-o", "train.pack"]) == 0
    monkeypatch.setattr(loop.Trainer, "advance", lambda self, steps: 0.5 * steps)
    train = ["train", "train.pack", "--config", "recipe.yaml", "--state", "state", "--out", "out", "--fit"]
    assert recipe.main([*train, "--seconds", "4"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "4 and 4 steps" in said  # half a second each, 0.93 x 4 s, shared in the recipe's 2 : 2
    assert said[-1] in ("finished", "out of time: call again to resume")


def test_data_of_a_recipe_are_packed(recipe: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "own.yaml").write_text("output: run\ndata: [{type: pairs, path: pairs, family: lwir}]\n")
    assert recipe.main(["pack", "own.yaml", "pairs", "-o", "train.pack", "--quality", "40"]) == 0
    assert "6 pairs" in capsys.readouterr().out


def test_mistakes_are_said_in_one_line(recipe: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code in ((["pack", "gone", "-o", "a.pack"], 3), (["join", "gone", "-o", "run"], 3)):
        assert recipe.main(arguments) == code
        said = capsys.readouterr().err
        assert said.startswith("Error: ")
        assert said.count("\n") == 1

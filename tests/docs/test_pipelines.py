"""Every line of the documentation that runs a pipeline is run, on small files and with recipes of a step or two.

The search for a transform is stood in for, and so is the training of all rows of the ablation but one.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from case_maker import cases
from case_maker.difficulties import DIFFICULTIES

import docs_scripts
from docs_pages import REPOSITORY, lines_of, scripts_shown
from docs_scripts import FAMILIES, cells_of, run_script, smaller
from rrl_register.estimation.evidence import Evidence
from rrl_register.geometry.transforms import compose, translation
from rrl_register.nn.inference import load as scorers
from rrl_register.nn.inference import torch_backend as scoring
from rrl_register.nn.inference.onnx_backend import CHECKSUM_NOTE, INTEGERS, open_session
from rrl_register.nn.weights import load_weights, read_weights
from rrl_register.pipeline import register as pipeline
from rrl_register.training import export, loop, validation
from rrl_register.training.config import TrainingConfig
from rrl_register.training.sampling import PatchSampler

Run = Callable[..., str]
PHASES = ("descriptor_phase", "joint_phase")
SETS = {"sar_s1s2": "sar", "nir_ground": "nir", "nir_naip": "nir", "lwir_road": "lwir"}
"""Sets of training pairs that the recipes give weights to, and their families."""
EVIDENCE = Evidence(400, 210, 200, 18.0, 0.5, 1.0, 1.1, 0.8, None, 0.4, 0.9, 6.0, 0.0, 0.9, 0.2)
"""Of a registration that succeeded."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory: the pipelines' recipes cut down, and a folder for pictures."""
    monkeypatch.chdir(tmp_path)
    for name in ("docs", "pipelines"):
        (tmp_path / name).mkdir()
    for recipe in ("train_rrlnet_gpu.yaml", "ablation.yaml"):
        content = yaml.safe_load((REPOSITORY / "pipelines" / recipe).read_text())
        (tmp_path / "pipelines" / recipe).write_text(yaml.safe_dump(cut_down(content)))
    monkeypatch.setattr(validation, "VALIDATION_BATCH", 4)
    threads = torch.get_num_threads()
    with docs_scripts.fresh_modules():
        yield tmp_path
    torch.set_num_threads(threads)


def cut_down(content: Any) -> Any:
    """A recipe, or an ablation, of one step a phase on four pairs, and the data in FOLDER."""
    if not isinstance(content, dict):
        return content
    content = {key: cut_down(value) for key, value in content.items()}
    if "steps" in content:
        content |= {"steps": min(content["steps"], 1)}
    if "batch" in content:
        content |= {"batch": 4, "warmup": 0}
    if "output" in content:
        content |= {"data": "FOLDER", "device": "cpu", "threads": 1, "validation_batches": 1}
    return content


@pytest.fixture
def run(world: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    return partial(run_script, capfd=capfd)


def test_every_pipeline_that_is_shown_is_run_by_a_test_of_this_module() -> None:
    source = Path(__file__).read_text()
    run_here = set(re.findall(r'^@lines_of\("(pipelines/.*?)"', source, re.MULTILINE))
    assert scripts_shown("pipelines") == run_here


@lines_of("pipelines/ablation.py")
def test_ablation(words: list[str], run: Run, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs_scripts.write_training_pairs(world / "FOLDER", SETS, side=128)
    docs_scripts.write_patch_sets(world / "PATCH_DIR", [f"{f}{kind}" for f in FAMILIES for kind in ("", "_near")])
    path = world / "pipelines" / "ablation.yaml"
    rows = list(yaml.safe_load(path.read_text())["rows"])
    asked = [words[words.index("--row") + 1]] if "--row" in words else rows
    trained: list[TrainingConfig] = []
    if asked == rows:
        train_and_score_at_once(monkeypatch, trained)
    header, _, *lines = cells_of(run(words))
    figures = [f"{family}, {kind}" for kind in ("random", "near") for family in FAMILIES]
    assert header == ["FPR95, %", *figures, "mean near", "processor s"]
    assert [line[0] for line in lines] == asked
    assert all(0 <= float(cell) <= 100 for line in lines for cell in line[1:-1])
    assert len(trained) == (len(rows) + 2 if asked == rows else 0), "one row has three networks"


def train_and_score_at_once(monkeypatch: pytest.MonkeyPatch, trained: list[TrainingConfig]) -> None:
    """Keeps the settings of the rows instead of training them, and scores as ``tests/docs/test_commands.py`` does."""

    def train(config: TrainingConfig) -> Path:
        trained.append(config)
        config.output.mkdir(parents=True)
        return config.output

    def score(visible: np.ndarray, other: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.linspace(1, 0, len(left), dtype=np.float32)

    def describe(patches: np.ndarray, spectrum: object) -> np.ndarray:
        return np.ones((len(patches), 4), np.float32)

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(export, "source_weights", lambda path: SimpleNamespace(network=lambda: None))
    monkeypatch.setattr(scoring, "Scorer", lambda network: SimpleNamespace(score=score, describe=describe))


@lines_of("pipelines/calibrate_confidence.py")
def test_calibrate_confidence(words: list[str], run: Run, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search finds every other of the true transforms; processes are done without."""
    docs_scripts.write_training_pairs(world / "DATA_DIR", dict.fromkeys("abcdef", "nir"), side=352)
    search = EveryOther(cases.make_case)
    monkeypatch.setattr(cases, "make_case", search.make_case)
    monkeypatch.setattr(pipeline, "search", search.search)
    monkeypatch.setattr(scorers, "load_scorer", lambda *arguments, **more: None)
    pool = SimpleNamespace(imap_unordered=map)
    context = SimpleNamespace(Pool=lambda workers: nullcontext(pool))
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: context)
    said = run(smaller(words, {"--per-kind": "1", "--negatives": "2"}))
    if "--table" in words:
        kinds = [line.split() for line in said.splitlines()[1:]]
        asked = [(kind, "2" if kind == "negative" else "1") for kind in DIFFICULTIES]
        assert [(kind, n) for kind, n, *_ in kinds] == asked
        return
    fitted = json.loads(said)
    rows = [json.loads(line) for line in (world / "RESULTS").read_text().splitlines()]
    assert len(rows) == len(DIFFICULTIES) + 1
    assert fitted["registrations"] == len(rows)
    assert fitted["right"] == sum(row["right"] for row in rows) == len(DIFFICULTIES) // 2
    assert cv2.imread("docs/reliability.png") is not None


class EveryOther:
    """A search that finds the true transform of every other case, which it has seen being made."""

    def __init__(self, make_case: Callable[..., cases.HardCase]) -> None:
        self._make_case = make_case
        self._cases: list[cases.HardCase] = []

    def make_case(self, plan: cases.Plan) -> cases.HardCase:
        self._cases.append(self._make_case(plan))
        return self._cases[-1]

    def search(self, *arguments: object) -> Any:
        right = len(self._cases) % 2 == 0
        true = self._cases[-1].matrix
        matrix = np.eye(3) if true is None else compose(translation(0 if right else 50, 0), true)
        frames = SimpleNamespace(to_files=lambda transform: SimpleNamespace(matrix=matrix))
        evidence = EVIDENCE if right else replace(EVIDENCE, n_inliers=20, over_chance=2.0, occupied=0.1)
        return SimpleNamespace(estimate=SimpleNamespace(frames=frames, transform=None, evidence=evidence))


@lines_of("pipelines/quantise_rrlnet.py")
def test_quantise_rrlnet(
    words: list[str], capfd: pytest.CaptureFixture[str], world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script is a copy: it writes into the package that lies beside its folder."""
    pytest.importorskip("onnx", reason="needs the extra onnx")
    script = world / words[1]
    shutil.copy(REPOSITORY / words[1], script)
    made = world / "rrl_register" / "nn" / "weights" / INTEGERS
    made.parent.mkdir(parents=True)
    docs_scripts.write_training_pairs(world / words[words.index("--data") + 1], {"nir_ground": "nir"}, side=112)
    draw = PatchSampler.draw
    monkeypatch.setattr(PatchSampler, "draw", lambda self, n, group: draw(self, 2, group))
    said = run_script(words, capfd, root=world)
    weights = read_weights(None)
    assert said.startswith(f"{made}: ")
    assert said.endswith(f" MB, {weights.label}, from 4 pairs\n")
    assert open_session(made, 1).get_modelmeta().custom_metadata_map[CHECKSUM_NOTE] == weights.notes["checksum"]


@pytest.fixture(scope="module")
def recipe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the three steps of the recipe for GPUs follow one another."""
    folder = tmp_path_factory.mktemp("recipe")
    docs_scripts.write_training_pairs(folder / "FOLDER", {"nir_ground": "nir"}, side=112)
    return folder


GPU_RECIPE = lines_of("pipelines/gpu_recipe.py")
WRITTEN = {"pack": ["train.pack"], "train": ["state", "slice"], "join": ["runs", "weights.safetensors"]}
"""What the steps of that recipe write, in their order."""


@lines_of("pipelines/gpu_recipe.py")
def test_gpu_recipe(
    words: list[str], run: Run, world: Path, recipe_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step takes what those before it wrote, as on the page."""
    shutil.copytree(world / "pipelines", recipe_folder / "pipelines", dirs_exist_ok=True)
    monkeypatch.chdir(recipe_folder)
    run_steps_before(words[2], run)
    take_away(WRITTEN[words[2]])
    if "--fit" in words:
        monkeypatch.setattr(loop.Trainer, "advance", lambda self, steps: 0.01 * steps)
        words = smaller(words, {"--seconds": "2"})
    said = run(words).splitlines()
    if words[2] == "pack":
        assert said[0].startswith("train.pack: 4 pairs")
    elif words[2] == "train":
        assert said[-1] == ("out of time: call again to resume" if "--fit" in words else "finished")
        assert (said[0] == "0 and 186 steps") == ("--fit" in words)  # 10 ms each, sooner than any is, 0.93 x 2 s
        assert {"manifest.json", "log.jsonl"} < {file.name for file in Path("slice").iterdir()}
    else:
        assert said == ["1 steps done", "weights.safetensors"]
        assert load_weights(Path("weights.safetensors"))[1].startswith("weights ")
        assert Path("runs/gpu/best.pt").is_file()


def run_steps_before(step: str, run: Run) -> None:
    """Runs the steps that another needs and that no test has run yet."""
    lines = {each.values[0][2]: each.values[0] for each in reversed(GPU_RECIPE.args[1])}
    for before, written in WRITTEN.items():
        if before == step:
            return
        if not all(Path(name).exists() for name in written):
            run(lines[before])


def take_away(names: list[str]) -> None:
    for path in map(Path, names):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

"""The ablation: rows are trained, measured, kept, and laid out."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import yaml

from rrl_register.training.config import make_training_config

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ablation", REPOSITORY / "pipelines" / "ablation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """An ablation of a tiny network on two made pairs of each family, and patches to measure with."""
    rng = np.random.default_rng(3)
    data = tmp_path / "data"
    data.mkdir()
    rows = ["id,set,family,vis,other"]
    for family in ("nir", "lwir", "sar"):
        for number in range(2):
            image = cv2.GaussianBlur(rng.integers(0, 256, (112, 112), dtype=np.uint8), (0, 0), 2)
            names = [f"{family}{number}_{suffix}.png" for suffix in ("vis", "other")]
            for name, content in zip(names, (image, 255 - image), strict=True):
                cv2.imwrite(str(data / name), content)
            rows.append(f"{number},{family},{family},{','.join(names)}")
    (data / "pairs.csv").write_text("\n".join(rows) + "\n")
    recipe = {
        "data": str(data),
        "output": str(tmp_path / "runs"),
        "architecture": {"width": 0.25},
        "descriptor_phase": {"steps": 0, "batch": 4, "learning_rate": 1e-3},
        "joint_phase": {"steps": 3, "batch": 4, "learning_rate": 1e-3},
        "threads": 1,
        "device": "cpu",
        "validation_batches": 1,
    }
    rows_asked = {"all": {}, "three networks": {"separate_families": ["nir", "lwir", "sar"]}}
    path = tmp_path / "ablation.yaml"
    path.write_text(yaml.safe_dump({"recipe": recipe, "rows": rows_asked}))
    patches = tmp_path / "patches"
    patches.mkdir()
    for name in (f"{family}{kind}" for family in ("nir", "lwir", "sar") for kind in ("", "_near")):
        np.save(patches / f"{name}_images.npy", rng.integers(0, 256, (16, 2, 64, 64), dtype=np.uint8))
        np.save(patches / f"{name}_labels.npy", np.repeat([1, 0], 8).astype(np.uint8))
    return path, patches


def run(ablation: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ablation.py", *map(str, arguments)])
    return int(ablation.main())


def test_rows_are_made_once_and_laid_out(
    ablation: ModuleType,
    files: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert run(ablation, monkeypatch, *files) == 0
    said = capsys.readouterr()
    assert said.err.count("training") == 4
    lines = said.out.strip().splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["FPR95, %", "---", "all", "three networks"]
    figures = json.loads((tmp_path / "runs" / "all" / "figures.json").read_text())
    assert set(figures["fpr95"]) == {"nir", "lwir", "sar"}
    assert all(0 <= value <= 100 for family in figures["fpr95"].values() for value in family.values())

    assert run(ablation, monkeypatch, *files) == 0
    again = capsys.readouterr()
    assert "training" not in again.err
    assert again.out == said.out


def test_families_share_the_steps_of_a_row(ablation: ModuleType, files: tuple[Path, Path]) -> None:
    recipe, _ = ablation.read_ablation(files[0])
    config = ablation.for_family(make_training_config(recipe), "sar", 3)
    assert (config.families, config.joint_phase.steps) == (("sar",), 1)


@pytest.mark.parametrize(("arguments", "said"), [(("--row", "none"), "has no row 'none'"), ((), "no ablation")])
def test_what_is_no_row_is_refused(
    ablation: ModuleType,
    files: tuple[Path, Path],
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, patches = files
    if not arguments:
        path.write_text("recipe: {}")
    assert run(ablation, monkeypatch, path, patches, *arguments) == 3
    assert said in capsys.readouterr().err

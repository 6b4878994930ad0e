"""``rrl-register evaluate``: what it prints, writes and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from rrl_register.cli import main
from rrl_register.nn.rrlnet import RRLNet
from weights_files import save_weights

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., RRLNet]) -> Path:
    path = tmp_path_factory.mktemp("weights") / "made.safetensors"
    save_weights(path, make_network().state_dict(), {"name": "made"})
    return path


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator, weights: Path) -> Path:
    for name in ("country", "field"):
        np.save(tmp_path / f"{name}_images.npy", rng.integers(0, 256, (8, 2, 64, 64), np.uint8))
        np.save(tmp_path / f"{name}_labels.npy", np.arange(8) % 2)
    np.save(tmp_path / "scenes.npy", np.array(["a"] * 4 + ["b"] * 4))
    np.save(tmp_path / "ones.npy", np.ones(8))
    (tmp_path / "pairs.json").write_text("[]")
    return tmp_path


@pytest.fixture
def run(folder: Path, weights: Path) -> Callable[[str], Result]:
    """Call ``evaluate``; files are looked for in the folder, {w} stands for weights on the CPU."""

    def call(arguments: str) -> Result:
        known = {"w": f"--weights {weights} --device cpu", "f": folder}
        return CliRunner().invoke(main, ["evaluate", *arguments.format(**known).split()])

    return call


SET = "patches {f}/field_images.npy {f}/field_labels.npy"


def test_a_set_is_measured(run: Callable[[str], Result], folder: Path) -> None:
    result = run(SET + " --scenes {f}/scenes.npy {w} --json {f}/out.json")
    assert result.exit_code == 0, result.output
    written = json.loads((folder / "out.json").read_text())
    assert (written["n"], written["n_matching"], written["device"]) == (8, 4, "cpu")
    assert written["weights"].startswith("made ")
    assert 0 <= written["fpr95"] <= 100
    assert [row["name"] for row in written["scenes"]] == ["a", "b"]
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["set", "a", "b", "mean", "all"]
    assert lines[-1] == str(folder / "out.json")
    assert "used as it is" in result.stderr


def test_the_kind_can_be_told(run: Callable[[str], Result]) -> None:
    assert "sar, as set" in run(SET + " {w} --other-kind sar").stderr


def test_a_picture_is_drawn(run: Callable[[str], Result], folder: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run(SET + " {w} --roc {f}/roc.svg")
    assert result.exit_code == 0, result.output
    assert "field: network" in (folder / "roc.svg").read_text()


def test_image_pairs_are_cut_measured_and_saved(
    run: Callable[[str], Result], folder: Path, rng: np.random.Generator
) -> None:
    import cv2

    corners = [[0, 0], [255, 0], [255, 255], [0, 255]]
    entries = []
    for name in ("p", "q"):
        image = cv2.resize(rng.integers(0, 256, (40, 40), np.uint8), (256, 256), interpolation=cv2.INTER_CUBIC)
        for part in ("fixed", "moving"):
            cv2.imwrite(str(folder / f"{name}_{part}.png"), image)
        places = {"landmarks_fixed": corners, "landmarks_moving": corners}
        entries.append(
            {"id": name, "family": "nir", "fixed": f"{name}_fixed.png", "moving": f"{name}_moving.png", **places}
        )
    (folder / "pairs.json").write_text(json.dumps(entries))
    result = run("patches --pairs {f}/pairs.json --per-family 8 --save-patches {f}/cut {w} --json {f}/out.json")
    assert result.exit_code == 0, result.output
    written = json.loads((folder / "out.json").read_text())
    assert {"fpr95", "near_miss_fpr95", "descriptor_fpr95", "families", "scenes"} <= set(written)
    assert (written["n"], written["families"][0]["support"], written["near_miss_px"]) == (8, 64, 8.0)
    assert [(row["family"], row["name"]) for row in written["scenes"]] == [("nir", "p"), ("nir", "q")]
    assert len(list((folder / "cut").glob("nir*.npy"))) == 6
    again = run("patches --pairs {f}/pairs.json --save-patches {f}/cut {w}")
    assert again.exit_code == 5


def test_the_protocol_tests_all_other_scenes(run: Callable[[str], Result], folder: Path) -> None:
    result = run("vis-nir {f} {w} --json {f}/out.json")
    assert result.exit_code == 0, result.output
    written = json.loads((folder / "out.json").read_text())
    assert [row["name"] for row in written["scenes"]] == ["field"]
    assert (written["fpr95"], written["trained_on"]) == (written["scenes"][0]["fpr95"], "country")
    assert "2.16" in result.stdout
    assert run("vis-nir {f} {w} --train field").stdout.splitlines()[1].startswith("country")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (SET + " --support 64", 2, "--support"),
        (SET + " --near-miss 8", 2, "--near-miss"),
        (SET + " --pairs {f}/pairs.json", 2, "Both patches and --pairs"),
        ("patches --pairs {f}/pairs.json --other-kind sar", 2, "--other-kind"),
        ("patches --pairs {f}/none.json", 2, "does not exist"),
        ("patches --pairs {f}/pairs.json", 3, "no pair of"),
        ("patches {f}/field_images.npy", 2, "LABELS.npy is missing"),
        ("patches {f}/field_images.npy {f}/none.npy", 2, "does not exist"),
        (SET + " --weights {f}/none.safetensors", 2, "does not exist"),
        (SET + " --scenes {f}/none.npy", 2, "does not exist"),
        (SET + " --json {f}/field_labels.npy --overwrite", 2, "is the input"),
        (SET + " --json {f}/pairs.json", 5, "--overwrite"),
        (SET + " --roc {f}/roc.jpg", 2, ".png or .svg"),
        ("patches {f}/field_images.npy {f}/ones.npy", 3, "8 of the 8 pairs"),
        ("patches {f}/field_labels.npy {f}/field_labels.npy", 3, "(N, 2, 64, 64)"),
        ("vis-nir {f}", 2, "Neither --weights nor --output"),
        ("vis-nir {f} {w} --output {f}/run", 2, "nothing is trained"),
        ("vis-nir {f}/none {w}", 2, "does not exist"),
        ("vis-nir {f} --output {f}/run --train absent", 2, "no scene absent"),
    ],
)
def test_wrong_use_and_unusable_input_are_told_in_one_line(
    run: Callable[[str], Result], folder: Path, arguments: str, code: int, said: str
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = run(arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("arguments", ["", "patches", "vis-nir", "patches --help", "vis-nir -h"])
def test_help_is_shown_without_loading_torch(arguments: str) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from rrl_register.cli import main\n"
        f"result = CliRunner().invoke(main, ['evaluate', *{arguments.split()!r}])\n"
        "print('Usage:' in result.output, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True False"

"""``rrl-register train``: a folder of GeoTIFF pairs is fine-tuned on with one command."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import yaml
from click.testing import CliRunner, Result

from rrl_register.cli import main
from rrl_register.nn.weights import load_weights

SMALL = (
    "--set=joint_phase={steps: 1, batch: 4}",
    "--set=log_every=1",
    "--set=validate_every=1",
    "--set=validation_batches=1",
    "--set=threads=1",
    "--set=device=cpu",
)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three aligned pairs of 16-bit GeoTIFFs: colours, and an infrared band with a strip without data."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    rng = np.random.default_rng(7)
    profile = {"driver": "GTiff", "width": 128, "height": 120, "dtype": "uint16", "nodata": 0}
    for name in ("a", "b", "c"):
        smooth = [cv2.GaussianBlur(rng.random((120, 128)), (0, 0), 2) for _ in range(3)]
        colours = np.stack([np.interp(s, (s.min(), s.max()), (100, 3000)) for s in smooth]).astype("uint16")
        other = (3200 - colours[:1]).astype("uint16")
        other[:, :, :10] = 0
        for suffix, bands in (("vis", colours), ("other", other)):
            with rasterio.open(folder / f"{name}_{suffix}.tif", "w", count=len(bands), **profile) as target:
                target.write(bands)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_the_shipped_weights_are_fine_tuned_on_a_folder_of_geotiffs(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.safetensors"
    ran = run("--data", pairs, "-o", output, "--run", tmp_path / "run", *SMALL)
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.strip() == str(output)
    network, name = load_weights(output)
    assert name.startswith("mine ")
    shipped = load_weights()[0].state_dict()
    changes = [
        float((value - shipped[key]).abs().max())
        for key, value in network.state_dict().items()
        if key.endswith("weight")
    ]
    assert 0 < max(changes) < 0.1
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 1]
    assert "fpr95" in records[-1]

    again = run("--data", pairs, "-o", output, "--run", tmp_path / "run", *SMALL)
    assert again.exit_code == 5
    assert "Error" in again.stderr


def test_a_run_out_of_time_says_how_to_go_on(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.safetensors"
    ran = run("--data", pairs, "-o", output, "--run", tmp_path / "run", "--seconds", 0, *SMALL)
    assert ran.exit_code == 0, ran.output
    assert "call again to continue" in ran.stderr
    assert not output.exists()
    other_data = run("--data", tmp_path, "-o", output, "--run", tmp_path / "run", *SMALL)
    assert other_data.exit_code == 2
    assert "other settings (data)" in other_data.stderr
    finished = run("--data", pairs, "-o", output, "--run", tmp_path / "run", *SMALL)
    assert finished.exit_code == 0
    assert "Continuing the run" in finished.stderr
    assert output.is_file()


def test_the_settings_are_printed_complete_and_can_be_read_back(pairs: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: {pairs}\noutput: {tmp_path / 'run'}\nlosses: {{hard_top: 3}}\n")
    printed = run(recipe, "--set", "seed=9", "--print-config")
    assert printed.exit_code == 0, printed.output
    settings = yaml.safe_load(printed.stdout)
    assert (settings["losses"]["hard_top"], settings["seed"]) == (3, 9)
    recipe.write_text(printed.stdout)
    assert run(recipe, "--print-config").stdout == printed.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "Usage"),
        (("--set", "seed=1"), 2, "such as --data"),
        (("missing.yaml",), 2, "missing.yaml"),
        (("--data", "nowhere"), 3, "nowhere"),
        (("--data", "nowhere", "--set", "losses.near_mises=false"), 2, "did you mean near_misses"),
        (("--data", "nowhere", "--set", "seed"), 3, "NAME=VALUE"),
        (("--data", "nowhere", "--set", "device=tpu"), 2, "auto, cpu or cuda"),
    ],
)
def test_wrong_use_is_answered_in_one_line(
    arguments: tuple[str, ...], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(*arguments)
    assert ran.exit_code == code
    assert said in ran.stderr
    if arguments:
        assert len(ran.stderr.strip().splitlines()) == 1

"""The examples run: scripts on small inputs, notebooks from beginning to end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pytest
import rasterio
from nbclient import NotebookClient

from rrl_register.exchange.registration import Registration
from rrl_register.raster.reader import open_info
from rrl_register.raster.writer import write_json

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
LARGEST_NOTEBOOK = 750_000


@pytest.fixture
def pair(samples: Path) -> tuple[Path, Path]:
    return samples / "rgb_nir_fixed.tif", samples / "rgb_nir_moving.tif"


@pytest.fixture
def known(
    pair: tuple[Path, Path],
    truth_of: Callable[[str], np.ndarray],
    make_registration: Callable[..., Registration],
    tmp_path: Path,
) -> Path:
    """The result of a registration of the pair, as good as one can be."""
    fixed, moving = (open_info(path).grid for path in pair)
    found = make_registration(matrix=truth_of("rgb_nir"), fixed_grid=fixed, moving_grid=moving)
    write_json(tmp_path / "result.json", found.to_json())
    return tmp_path / "result.json"


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, EXAMPLES / script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_stack_trains_a_network(pair: tuple[Path, Path], known: Path, tmp_path: Path) -> None:
    output = tmp_path / "stack.tif"
    said = run("stack_for_training.py", *pair, "-o", output, "--registration", known, "--steps", 12)
    first, last = (float(word) for word in said.replace(",", " ").split() if word.startswith("0."))
    assert last < first
    with rasterio.open(output) as dataset:
        assert dataset.count == 4


def test_xarray_warps_lazily(pair: tuple[Path, Path], known: Path, tmp_path: Path) -> None:
    pytest.importorskip("rioxarray", reason="needs the extra xarray")
    output = tmp_path / "aligned.tif"
    said = run("lazy_xarray.py", *pair, "-o", output, "--registration", known)
    assert said.startswith("Array (1, 403, 515) in chunks of (1, 256, 256)")
    with rasterio.open(output) as aligned, rasterio.open(pair[0]) as fixed:
        assert (aligned.transform, aligned.crs, aligned.shape) == (fixed.transform, fixed.crs, fixed.shape)


def test_kornia_warps_what_was_registered(pair: tuple[Path, Path]) -> None:
    said = run("kornia_homography.py", *pair, "--side", 200, "--keypoints", 40).splitlines()
    assert said[0].startswith("registered, confidence")
    assert said[1].startswith("not registered: the fixed array has no valid pixel")
    assert said[2] == "aligned (1, 1, 200, 200)"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_as_it_ran(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/jpeg" in output.get("data", {}) for cell in cells for output in cell.outputs)
    assert path.stat().st_size < LARGEST_NOTEBOOK
    text = json.dumps(
        [output for cell in cells for output in cell.outputs if output.output_type in ("error", "stream")]
    )
    assert "Warning" not in text and "/home" not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": EXAMPLES}}).execute()
    said = "".join(output.text for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output)
    assert "confidence" in said

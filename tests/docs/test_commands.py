"""Every command that README and docs show is run, on small files of the names that it uses.

What takes long is stood in for: the search for a transform by the known one of a sample pair, trainings and scores by
saved ones. Everything else, from the command line to the files written, is the real thing. Of what make does, the
installation and the tests are left out. Scripts of the repository read the options just as they are shown by their own
parsers, and stop there: they are run in tests/docs/test_benchmarks.py and tests/docs/test_pipelines.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.rio.main import main_group as rio

from docs_pages import all_commands, shown_commands, words_of
from rrl_register.batch import dask_local, running
from rrl_register.batch.executors import in_turn
from rrl_register.cli import main
from rrl_register.cli.register import register as register_command
from rrl_register.exchange import formats as exchange
from rrl_register.exchange.registration import Registration
from rrl_register.exchange.table import Grids, PointTable
from rrl_register.fusion import stack
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.pipeline import dry_run as plan
from rrl_register.pipeline import register as pipeline
from rrl_register.raster.grid import Grid

if TYPE_CHECKING:
    from rrl_register.training.config import TrainingConfig

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = REPOSITORY / "rrl_register" / "nn" / "weights" / "rrlnet.safetensors"
RUN = (
    r"(rrl-register|rio|make) ",  # here; with --scheduler, in tests/docs/test_dask.py
    r'eval "\$\(rrl-register ',  # here
    r"python benchmarks/",  # tests/docs/test_benchmarks.py
    r"python pipelines/",  # tests/docs/test_pipelines.py
    r"dask (scheduler|worker)\b",  # tests/docs/test_dask.py
    r"gdal_translate |gdalwarp |echo .* \| gdaltransform ",  # tests/docs/test_gdal.py
    r"pip install 'rrl-register\[[\w,]+\]'",  # tests/docs/test_pages.py: the extras exist
)
"""How the lines begin that tests run."""
OUTPUT_FLAGS = (
    "-o",
    "--output",
    "--json",
    "--preview",
    "--report",
    "--tie-points",
    "--stac",
    "--roc",
    "--save-patches",
)

FIXED, MOVING = ("rgb_nir_fixed.tif", "rgb_nir_moving.tif")
IMAGES = {
    "FIXED": FIXED,
    "FIXED.tif": FIXED,
    "REFERENCE.tif": FIXED,
    "LIKE.tif": FIXED,
    "optical.tif": FIXED,
    "optical/a.tif": FIXED,
    "optical/a_vis.tif": FIXED,
    "MOVING": MOVING,
    "MOVING.tif": MOVING,
    "OTHER_BAND.tif": MOVING,
    "IMAGE": MOVING,
    "sar.tif": MOVING,
    "thermal.tif": MOVING,
    "sar/a.tif": MOVING,
    "sar/a_sar.tif": MOVING,
    "series/a.tif": MOVING,
}
"""Names that stand in the documentation, and which image of data/ they are here."""


class Read(BaseException):
    """The command line has been read, which is all that was asked."""


def files_named(words: list[str]) -> list[str]:
    """The files that a command says it writes."""
    return [name for flag, name in pairwise(words) if flag in OUTPUT_FLAGS and name[0] != "-"]


@pytest.fixture(scope="module")
def registration(
    samples: Path, truth_of: Callable[[str], np.ndarray], make_registration: Callable[..., Registration]
) -> Registration:
    """The result of the real sample pair, by its known transform."""
    matrix = truth_of("rgb_nir")
    moving = np.stack(np.meshgrid(np.linspace(60, 420, 6), np.linspace(60, 320, 5)), axis=-1).reshape(-1, 2)
    homogeneous = np.column_stack([moving, np.ones(len(moving))]) @ matrix.T
    fixed = homogeneous[:, :2] / homogeneous[:, 2:]
    grids = {}
    for name in (FIXED, MOVING):
        with rasterio.open(samples / name) as dataset:
            grids[name] = Grid(dataset.width, dataset.height, dataset.crs, dataset.transform)
    points = TiePoints(fixed, moving, np.full(len(moving), 0.9))
    return make_registration(
        matrix=matrix,
        fixed_grid=grids[FIXED],
        moving_grid=grids[MOVING],
        tie_points=points,
        inlier=np.ones(len(moving), bool),
        n_tie_points=len(moving),
        n_inliers=len(moving),
    )


@pytest.fixture(scope="module")
def originals(samples: Path, registration: Registration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that a command of the documentation reads."""
    folder = tmp_path_factory.mktemp("originals")
    (folder / "data").symlink_to(samples)
    for name in ("examples", "pipelines"):
        (folder / name).symlink_to(REPOSITORY / name)
    for name, source in IMAGES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(samples / source)
    write_tables(folder, registration)
    write_points(folder, registration)
    write_items(folder)
    write_patches(folder)
    for name in ("mine.safetensors", "weights.safetensors", "runs/rrlnet/best.pt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SHIPPED, folder / name)
    shutil.copy(REPOSITORY / "pipelines" / "train_rrlnet.yaml", folder / "RECIPE.yaml")
    (folder / "settings.yaml").write_text("moving-kind: ir\n")
    return folder


def write_tables(folder: Path, registration: Registration) -> None:
    (folder / "RESULT.json").write_text(json.dumps(registration.to_json()))
    (folder / "SCENES.csv").write_text("id,fixed,moving\na,optical/a.tif,sar/a.tif\n")
    (folder / "SERIES.csv").write_text("id,moving\na,series/a.tif\n")
    points = registration.tie_points
    landmarks = {"landmarks_fixed": points.fixed.tolist(), "landmarks_moving": points.moving.tolist()}
    pair = {"id": "a", "suite": "nir", "family": "nir", "fixed": "FIXED.tif", "moving": "MOVING.tif", **landmarks}
    for name in ("PAIRS.json", "pairs.json"):
        (folder / name).write_text(json.dumps([pair]))


def write_points(folder: Path, registration: Registration) -> None:
    grids = Grids(registration.fixed_grid, registration.moving_grid)
    for name in ("POINTS.points", "MINE.csv"):
        exchange.write_points(folder / name, PointTable.of(registration), grids)


def write_items(folder: Path) -> None:
    """STAC item collections of one item."""
    assets = {"red": {"href": "optical/a.tif"}, "vv": {"href": "sar/a.tif"}}
    place = {"type": "Point", "coordinates": [0, 0]}
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "a",
        "geometry": place,
        "bbox": [0, 0, 0, 0],
        "properties": {"datetime": "2024-05-01T00:00:00Z"},
        "links": [],
        "assets": assets,
    }
    for name in ("ITEMS.json", "SAR.json", "OPTICAL.json"):
        (folder / name).write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))


def write_patches(folder: Path) -> None:
    """Labelled patches, as such and as the scenes of a folder, and aligned pairs to train on."""
    rng = np.random.default_rng(3)
    patches, labels = rng.integers(0, 256, (8, 2, 64, 64), dtype=np.uint8), np.arange(8) % 2
    (folder / "FOLDER").mkdir()
    for name in ("", "FOLDER/country_", "FOLDER/field_"):
        upper = str.upper if not name else str
        np.save(folder / f"{name}{upper('images')}.npy", patches)
        np.save(folder / f"{name}{upper('labels')}.npy", labels)
    (folder / "my_pairs").mkdir()
    for name, source in (("a_vis.tif", FIXED), ("a_other.tif", FIXED)):
        (folder / "my_pairs" / name).symlink_to(REPOSITORY / "data" / source)


@pytest.fixture
def world(originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of that folder, to work in."""
    folder = tmp_path / "world"
    shutil.copytree(originals, folder, symlinks=True, copy_function=os.link)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, registration: Registration) -> None:
    """Stands in for all that takes long."""
    import torch

    from rrl_register.nn.inference import torch_backend as network
    from rrl_register.training import export, loop
    from rrl_register.training.evaluation import scoring

    monkeypatch.setattr(pipeline, "register", lambda *arguments, **more: registration)
    monkeypatch.setattr(stack, "register", lambda *arguments, **more: registration)
    monkeypatch.setattr(running, "ProcessPool", lambda work, workers: in_turn(work))
    monkeypatch.setattr(dask_local, "DaskWorkers", lambda work, folder, workers: in_turn(partial(work, folder=folder)))
    monkeypatch.setattr(plan, "pairs_per_second", lambda scorer: 20.0)
    scorer = SimpleNamespace(name="test", device=torch.device("cpu"), score=guess, describe=describe)
    monkeypatch.setattr(plan, "load_scorer", lambda *arguments: scorer)
    monkeypatch.setattr(network, "Scorer", lambda *arguments: scorer)
    monkeypatch.setattr(scoring, "Scorer", lambda *arguments: scorer)
    monkeypatch.setattr(loop, "train", trained)
    write_safetensors = export.export_weights

    def export_weights(weights: Any, output: Path, kind: str, overwrite: bool) -> None:
        """ONNX and TorchScript take seconds to make: tests/training/test_export.py."""
        if kind == "safetensors":
            write_safetensors(weights, output, kind, overwrite)
        else:
            output.touch()

    monkeypatch.setattr(export, "export_weights", export_weights)


def trained(config: TrainingConfig, *more: object) -> Path:
    config.output.mkdir(parents=True, exist_ok=True)
    return SHIPPED


def guess(visible: np.ndarray, other: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.linspace(1, 0, len(left), dtype=np.float32)


def describe(patches: np.ndarray, spectrum: object) -> np.ndarray:
    return np.ones((len(patches), 4), np.float32)


@pytest.mark.parametrize("words", [each for each in shown_commands() if each.values[0][0] in ("rrl-register", "rio")])
@pytest.mark.usefixtures("quick")
def test_commands_do_what_the_documentation_says(
    words: list[str], world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rio.commands, "register", register_command)
    clear_way(world, words)
    do(words, world)


def do(words: list[str], world: Path) -> None:
    result = CliRunner(catch_exceptions=False).invoke(rio if words[0] == "rio" else main, words[1:])
    assert result.exit_code == 0, result.output
    for name in files_named(words):
        assert (world / name).exists(), name


def clear_way(world: Path, words: list[str]) -> None:
    """Make the folders of the outputs; an output whose name is an input elsewhere is taken away."""
    for name in files_named(words):
        (world / name).parent.mkdir(parents=True, exist_ok=True)
        if (world / name).is_file():
            (world / name).unlink()


@pytest.mark.parametrize("words", [each for each in shown_commands() if each.values[0][0] == "python"])
def test_scripts_take_the_options_that_the_documentation_shows(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch  # noqa: F401  # which can be imported but once, and not while the modules are a copy

    script = REPOSITORY / words[1]
    parse = argparse.ArgumentParser.parse_known_args

    def parse_and_stop(self: argparse.ArgumentParser, *arguments: Any, **more: Any) -> NoReturn:
        parse(self, *arguments, **more)
        raise Read

    for name in ("parse_args", "parse_known_args"):
        monkeypatch.setattr(argparse.ArgumentParser, name, parse_and_stop)
    monkeypatch.setattr(sys, "argv", words[1:])
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    with pytest.raises(Read):
        runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("words", [each for each in shown_commands() if each.values[0][0] == "make"])
@pytest.mark.usefixtures("quick")
def test_make_does_what_the_documentation_says(
    words: list[str], world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = lines_of_make(words)
    assert recipe
    for program, *arguments in recipe:
        if program == "mkdir":
            (world / arguments[-1]).mkdir(parents=True)
        elif program == "rrl-register":
            do([program, *arguments], world)
        elif arguments[0].endswith(".py"):
            monkeypatch.setattr(sys, "argv", arguments)
            runpy.run_path(arguments[0], run_name="__main__")
            assert " px" in capsys.readouterr().out
        else:
            assert (program, arguments[:2]) == ("python", ["-m", "pytest"])


def lines_of_make(words: list[str]) -> list[list[str]]:
    """What a call of make would run, as words, in an environment that is set up."""
    if shutil.which("make") is None:
        pytest.skip("no make on PATH")
    set_up = [f"--assume-old=VENV/{stamp}" for stamp in (".stamp", "schemas/.stamp")]
    command = [*words, "--dry-run", "--directory", str(REPOSITORY), "VENV=VENV", *set_up]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace("\\\n", "")
    lines = [words_of(line) for line in shown.splitlines() if not line.startswith("make")]
    return [[line[0].removeprefix("VENV/bin/"), *line[1:]] for line in lines]


@pytest.mark.parametrize("page", ["README.md", "docs/python.md", "docs/exchange.md"])
@pytest.mark.usefixtures("quick", "world")
def test_python_snippets_run(page: str) -> None:
    """The parts of a page one after the other, given the arrays that they speak of."""
    given = {name: read_array(f"{name}.tif") for name in ("optical", "sar")}
    text = (REPOSITORY / page).read_text()
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(code, page, "exec"), given)


def read_array(name: str) -> np.ndarray:
    with rasterio.open(name) as dataset:
        return dataset.read()


def test_commands_are_found() -> None:
    assert len(list(shown_commands())) > 50


def test_every_line_of_a_block_is_a_command_that_tests_run() -> None:
    """What is no command belongs into a fenced block that says so: ``text``, ``json`` or another language."""
    others = {place: text for place, text in all_commands() if not re.match("|".join(RUN), text)}
    assert others == {}

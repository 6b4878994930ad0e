"""Every command line of README and docs is run, page by page, in a folder with small files of the names used there.

The lines of a page are run in their order, so that one may read what another has written. A registration is a real one,
of 256 px of a sample pair; trainings take a step or two. Only what installs software is not run, but checked to exist.
A line that no entry of ``RUN`` covers is an error.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import rasterio
import torch
from click.testing import CliRunner
from rasterio.rio.main import main_group as rio

from docs_files import image_named, make_files, make_repository
from docs_lines import PAGES, REPOSITORY, Line, lines_of, python_blocks
from rrl_register.cli import main
from rrl_register.cli.register import register as register_command
from rrl_register.training import validation

OUTPUT_FLAGS = [
    "-o",
    "--output",
    "--json",
    "--preview",
    "--report",
    "--tie-points",
    "--stac",
    "--roc",
    "--save-patches",
]
SMALLER = {
    "rrl-register train": "--set joint_phase.steps=1 --set joint_phase.batch=4 --set validation_batches=1",
    "rrl-register evaluate patches --pairs": "--per-family 32 --support 64",
    "rrl-register evaluate vis-nir FOLDER --output": "--config RECIPE.yaml",
    "rrl-register batch": "--workers 1",
    "benchmarks/compare_commits.py": "--rounds 1 --repository repository",
    "benchmarks/growth.py": "--rounds 1 --keypoints 100 200 --sides 160 192",
    "benchmarks/hard_cases.py": "--per-kind 1 --kinds haze,rotation",
    "benchmarks/network_share.py": "--suite geo-sar",
    "benchmarks/pairs.py PAIRS.json": "--suite geo-sar",
    "benchmarks/pairs.py PAIRS.json --json": "--methods ours,sift",
    "benchmarks/report_size.py": "--runs 1",
    "benchmarks/resources.py": "-o OUT.tif",
    "benchmarks/scaling.py": "--sides 256",
    "benchmarks/speed.py": "--rounds 1 --batch 2",
    "benchmarks/stages.py": "--warm 0",
    "benchmarks/warp_speed.py": "--side 256 --threads 1",
    "benchmarks/workers.py": "--rounds 1 --scenes 1 --size 128 --keypoints 100",
    "pipelines/ablation.py": "--every 1",
    "pipelines/calibrate_confidence.py": "--per-kind 0 --negatives 1 --workers 1",
    "pipelines/gpu_recipe.py train": "--seconds 2",
    "pipelines/quantise_rrlnet.py": "-o integers.onnx",
}
"""Options that make a command small, by how it begins."""
LACKS = r"torch sees no GPU|is installed; try: make browser"
"""How a script ends that asks for what this machine may not have."""
HERE = [page for page in PAGES if page.name != "examples.md"]
"""The pages but for the worked examples, which tests/docs/test_pages.py runs on their own images."""
SECONDS_TO_START = 60
MADE: set[str] = set()
"""What make was seen to run."""
GDAL = ("gdal_translate", "gdalwarp", "gdaltransform")


def smaller(words: Sequence[str]) -> list[str]:
    """A command with the options of ``SMALLER`` in place of its own, or after them."""
    words, text = [word for word in words if word != "PYTHONS"], " ".join(words)
    end = words.index("--") if "--" in words else len(words)
    own, rest = words[:end], words[end:]
    for start, options in SMALLER.items():
        if text.removeprefix("python ").startswith(start):
            for option, *values in re.findall(r"(-\S+) ([^-]\S*)((?: \d+)*)", options):
                if option in own and option != "--set":
                    own[own.index(option) + 1] = values[0]
                else:
                    own += [option, *" ".join(values).split()]
    return [*own, *rest]


def remove(path: Path) -> None:
    """Take a file or a folder away, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def own_modules() -> Iterator[None]:
    """Scripts import one another by plain names: nothing of that is left to others."""
    scripts = {path.stem for folder in ("benchmarks", "pipelines") for path in (REPOSITORY / folder).rglob("*.py")}
    kept = {name: sys.modules.pop(name) for name in scripts & set(sys.modules)}
    try:
        yield
    finally:
        for name in scripts & set(sys.modules):
            del sys.modules[name]
        sys.modules.update(kept)


class Reader:
    """Someone who tries all that a page shows.

    Args:
        folder: The working directory.
        originals: What was in it at first; a line finds these files as they were, whatever others wrote.
        ends: Closes what runs in the background.
    """

    def __init__(self, folder: Path, originals: Path, ends: ExitStack) -> None:
        self.folder = folder
        self.originals = originals
        self.ends = ends
        self.address = ""

    def run(self, line: Line) -> None:
        """Run a line as the first fitting entry of ``RUN`` does."""
        for pattern, run in RUN.items():
            if re.match(pattern, line.text):
                run(self, line.words)
                return
        raise AssertionError("no entry of RUN covers this line")

    def product(self, words: Sequence[str]) -> None:
        """Run a command of the product in this process; its outputs have to be there."""
        words = [self.address if word.startswith("tcp://") else word for word in smaller(words)]
        if words[1] == "train":
            words += ["--run", f"runs/{len(list(Path('runs').iterdir()))}"]
        written = [name for flag, name in pairwise(words) if flag in OUTPUT_FLAGS and not name.startswith("-")]
        for path in map(Path, written):
            remove(path)
            path.parent.mkdir(parents=True, exist_ok=True)
        self._images(words, written)
        command = rio if words[0] == "rio" else main
        done = CliRunner(catch_exceptions=False).invoke(command, words[1:])
        assert done.exit_code == 0, done.output
        assert [name for name in written if not Path(name).exists()] == []
        for name in written:
            if (self.originals / name).is_file():
                shutil.copy(self.originals / name, name)

    def _images(self, words: Sequence[str], written: Sequence[str]) -> None:
        for word in words:
            if word not in written and (re.search(r"\.(tif|png|jpg)$", word) or word in ("FIXED", "MOVING", "IMAGE")):
                image_named(self.folder, word.replace("{id}", "a"))

    def script(self, words: Sequence[str]) -> None:
        """Run a script of the repository in this process; it has to end well, or to name what the machine lacks."""
        words = smaller(words)
        self._images(words, [name for flag, name in pairwise(words) if flag in OUTPUT_FLAGS])
        for flag, name in pairwise(words):
            if flag in ("-o", "--state", "--out"):  # outputs of the lines before, which would be refused or continued
                remove(Path(name))
        if "compare_commits" in words[1]:
            make_repository(self.folder / "repository", [word for word in words if word in ("BEFORE", "AFTER")])
        script = REPOSITORY / words[1]
        with pytest.MonkeyPatch.context() as patch, own_modules():
            patch.setattr(sys, "argv", words[1:])
            patch.syspath_prepend(script.parent)
            try:
                runpy.run_path(str(script), run_name="__main__")
            except SystemExit as end:
                assert not end.code or re.search(LACKS, str(end.code)), end.code

    def make(self, words: Sequence[str]) -> None:
        """Look at what make would do in an environment that is set up; run the product's part of it, once."""
        words = [word for word in words if "=" not in word]
        old = [f"--assume-old=VENV/{stamp}" for stamp in (".stamp", ".docs-stamp", "schemas/.stamp")]
        command = [*words, "--dry-run", "--directory", str(REPOSITORY), "VENV=VENV", *old]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace("\\\n", "")
        for text in shown.splitlines():
            if re.match(r"VENV/bin/(rrl-register|python (examples|docs)/)", text) and text not in MADE:
                self.run(Line(words[-1], text.removeprefix("VENV/bin/")))
                MADE.add(text)

    def extras(self, words: Sequence[str]) -> None:
        """Look the extras up that pip is to install."""
        known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for names in re.findall(r"\[([\w,]+)\]", " ".join(words)):
            assert set(names.split(",")) <= set(known)

    def environment(self, words: Sequence[str]) -> None:
        """Look at the requirements of a rival method, which are gigabytes to install."""
        pinned = (REPOSITORY / Path(words[1]).parent / f"requirements-{words[2]}.txt").read_text().splitlines()
        assert [each for each in pinned if each and each[0] not in "#-" and "==" not in each] == []

    def scheduler(self, words: Sequence[str]) -> None:
        """Start a Dask scheduler for the lines that follow."""
        file = self.folder / "scheduler.json"
        more = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        self._background([*words, *more], file.exists)
        self.address = json.loads(file.read_text())["address"]

    def worker(self, words: Sequence[str]) -> None:
        """Start a worker process of it, instead of as many as are shown."""
        import distributed

        words = [self.address if word.startswith("tcp://") else word for word in words]
        words[words.index("--nworkers") + 1] = "1"
        client = self.ends.enter_context(distributed.Client(self.address, set_as_default=False))
        self._background([*words, "--no-dashboard", "--local-directory", "."], lambda: bool(client.nthreads()))

    def _background(self, words: Sequence[str], ready: Callable[[], bool]) -> None:
        with (self.folder / f"{words[1]}.log").open("w") as log:
            process = subprocess.Popen([sys.executable, "-m", *words], stdout=log, stderr=log)
        self.ends.callback(process.wait)
        self.ends.callback(process.terminate)
        end = time.monotonic() + SECONDS_TO_START
        while not ready():
            assert process.poll() is None, f"{words} has ended"
            assert time.monotonic() < end, f"{words} takes too long"
            time.sleep(0.05)

    def elsewhere(self, words: Sequence[str]) -> None:
        """Leave a line to others: those of GDAL to tests/docs/test_gdal.py, slow exports to tests/training."""


RUN: Mapping[str, Callable[[Reader, Sequence[str]], None]] = {
    r"rrl-register export -o \S+\.onnx": Reader.elsewhere,
    r"(rrl-register|rio register) ": Reader.product,
    r'eval "\$\(rrl-register ': Reader.product,
    r"python benchmarks/baselines/set_up\.py ": Reader.environment,
    r"python (benchmarks|pipelines|examples|docs|data)/": Reader.script,
    r"(\w+=\S+ )?make ": Reader.make,
    r"pip install (\.|'rrl-register|'\.)": Reader.extras,
    r"dask scheduler": Reader.scheduler,
    r"dask worker ": Reader.worker,
    rf"({'|'.join(GDAL)}) |echo .* \| gdaltransform ": Reader.elsewhere,
}
"""How a line is run, by how it begins."""


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that a line reads and that no line of its page writes."""
    folder = tmp_path_factory.mktemp("docs") / "originals"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_files(folder)
    return folder


@pytest.fixture
def reader(originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    torch.set_num_threads(1)
    monkeypatch.setattr(validation, "VALIDATION_BATCH", 4)
    folder = tmp_path / "folder"
    shutil.copytree(originals, folder, symlinks=True)
    shutil.copytree(originals.parent / "train", tmp_path / "train")
    monkeypatch.chdir(folder)
    monkeypatch.setitem(rio.commands, "register", register_command)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    with ExitStack() as ends:
        yield Reader(folder, originals, ends)


@pytest.mark.parametrize("page", [p for p in HERE if any(lines_of(p))], ids=lambda p: p.name)
def test_every_command_of_a_page_runs(page: Path, reader: Reader) -> None:
    failed = {}
    for line in lines_of(page):
        try:
            reader.run(line)
        except Exception as error:
            failed[f"{line.place} {line.text}"] = f"{type(error).__name__}: {error}"
    assert failed == {}


@pytest.mark.parametrize("page", [p for p in HERE if python_blocks(p)], ids=lambda p: p.name)
def test_python_snippets_of_a_page_run(page: Path, reader: Reader) -> None:
    """One after the other, given the images and arrays that they speak of."""
    names: dict[str, Any] = {}
    for name in ("optical", "sar", "thermal", "sar_vh"):
        image_named(reader.folder, f"{name}.tif")
        with rasterio.open(f"{name}.tif") as dataset:
            names |= {name: dataset.read(), "mask": dataset.read_masks(1) > 0}
            names |= {key: getattr(dataset, key) for key in ("width", "height", "crs", "transform")}
    for code in python_blocks(page):
        if re.match("import rioxarray|from kornia", code):
            continue  # tests/docs/test_examples.py runs both on what they need
        small = code.replace("num_workers=4", "num_workers=0").replace("size=256", "size=64")
        exec(compile(small, page.name, "exec"), names)


def test_a_line_that_no_entry_covers_is_an_error(reader: Reader) -> None:
    with pytest.raises(AssertionError, match="no entry"):
        reader.run(Line("page:1", "otherprogram --now"))


def test_commands_are_found() -> None:
    assert sum(1 for page in PAGES for _ in lines_of(page)) > 80

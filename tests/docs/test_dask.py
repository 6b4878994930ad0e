"""What the documentation shows of a Dask cluster is run: its scheduler, its worker, and the batches given to them.

All three are processes or commands as they are shown, but for the address, and what keeps scheduler and worker to one
process each of this machine. Only the search for a transform is stood in for, by the known one of a sample pair.
"""

from __future__ import annotations

import json
import pickle
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from rrl_register.cli import main
from rrl_register.exchange.registration import Registration
from rrl_register.raster.grid import Grid

distributed = pytest.importorskip("distributed", reason="needs the extra distributed")

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
ADDRESS = "tcp://HOST:8786"
"""Of a scheduler, on the pages."""
BESIDES = {
    "scheduler": "--host 127.0.0.1 --port 0 --dashboard-address 127.0.0.1:0 --scheduler-file scheduler.json",
    "worker": "--nworkers 1 --dashboard-address 127.0.0.1:0 --local-directory . --preload stand_in.py",
}
"""What programs of Dask are told after the words shown, of which these replace some."""
STAND_IN = '''
"""Stands in for the search and the network, on a worker."""
import pickle
from pathlib import Path

from rrl_register.pipeline import register as pipeline
from rrl_register.batch import work

result = pickle.loads(Path({path!r}).read_bytes())
pipeline.register = lambda *arguments, **more: result
work._scorer = lambda *arguments: None
'''
CHECK_PX = 1.25
"""Tells the stand-in's results from those of a search."""
SECONDS_TO_START = 60


def shown(pattern: str) -> list[list[str]]:
    """The commands on the pages that fit a pattern, as words."""
    texts = [re.sub(r"\\\n\s*", "", page.read_text()) for page in PAGES]
    lines = [line for text in texts for line in re.findall(rf"^(?: {{4}})?({pattern}.*)$", text, re.MULTILINE)]
    return [shlex.split(line, comments=True) for line in lines]


def at(address: str, words: list[str]) -> list[str]:
    return [address if word == ADDRESS else word for word in words]


@pytest.fixture(scope="module")
def scheduler(stand_in: Path) -> Iterator[str]:
    """The address of the scheduler, to which the worker has come."""
    start, join = shown("dask ")
    folder = stand_in.parent
    with ExitStack() as ends:
        process = ends.enter_context(running(start, folder))
        until((folder / "scheduler.json").exists, process)
        address = json.loads((folder / "scheduler.json").read_text())["address"]
        process = ends.enter_context(running(at(address, join), folder))
        client = ends.enter_context(distributed.Client(address, set_as_default=False))
        until(lambda: len(client.nthreads()) == 1, process)
        yield address


@pytest.fixture(scope="module")
def stand_in(
    samples: Path,
    truth_of: Callable[[str], np.ndarray],
    make_registration: Callable[..., Registration],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The module that a worker loads first, in a folder of its own."""
    folder = tmp_path_factory.mktemp("dask")
    grids = {}
    for name in ("fixed", "moving"):
        with rasterio.open(samples / f"rgb_nir_{name}.tif") as image:
            grids[f"{name}_grid"] = Grid(image.width, image.height, image.crs, image.transform)
    result = make_registration(matrix=truth_of("rgb_nir"), check_rmse_px=CHECK_PX, **grids)
    (folder / "result.pickle").write_bytes(pickle.dumps(result))
    (folder / "stand_in.py").write_text(STAND_IN.format(path=str(folder / "result.pickle")))
    return folder / "stand_in.py"


@contextmanager
def running(words: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program of Dask, for as long as the block lasts; it writes its log into the folder."""
    command = [sys.executable, "-m", *words, *BESIDES[words[1]].split()]
    with (
        (folder / f"{words[1]}.log").open("w") as log,
        subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def until(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait for something, as long as the process lives that it is expected of."""
    end = time.monotonic() + SECONDS_TO_START
    while not happened():
        assert process.poll() is None, f"{process.args} has ended"
        assert time.monotonic() < end, f"{process.args} takes too long"
        time.sleep(0.05)


@pytest.mark.parametrize("words", shown("rrl-register [^#\n]*--scheduler"), ids=" ".join)
def test_the_cluster_of_the_documentation_works_off_its_batches(
    words: list[str], scheduler: str, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [samples / f"rgb_nir_{name}.tif" for name in ("fixed", "moving")]
    (tmp_path / "SCENES.csv").write_text(f"id,fixed,moving\na,{names[0]},{names[1]}\n")
    monkeypatch.chdir(tmp_path)
    done = CliRunner(catch_exceptions=False).invoke(main, at(scheduler, words)[1:])
    assert done.exit_code == 0, done.output
    assert json.loads(Path("DIR/a.json").read_text())["check_rmse_px"] == CHECK_PX
    with rasterio.open("DIR/a.tif") as output, rasterio.open(names[0]) as fixed:
        assert (output.shape, output.transform) == (fixed.shape, fixed.transform)


def test_there_is_a_batch_to_work_off() -> None:
    assert shown("rrl-register [^#\n]*--scheduler")

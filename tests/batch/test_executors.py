"""Processes that work on scenes: killed, interrupted or dying, they leave a batch that can go on.

Registration is stood in for by something quick.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from rrl_register.batch import BatchItem, Manifest, run_batch
from rrl_register.batch.journal import FAILED, FILE_NAME, OK, Journal, State
from rrl_register.config import EstimateConfig, MatchConfig, ModelChoice, RegisterConfig
from rrl_register.exchange.registration import read_registration
from rrl_register.pipeline.register import register

STAND_IN = '''
"""What stands in for a registration in processes of their own."""
import os
import sys
import time
from functools import partial
from pathlib import Path

from rrl_register.batch import Manifest, Outcome, BatchItem, run_batch
from rrl_register.batch.dask_local import DaskWorkers
from rrl_register.batch.executors import ProcessPool, in_turn
from rrl_register.config import BatchConfig
from rrl_register.raster.writer import atomic_path


def work(scene, folder, log):
    if "deadly" in scene.id:
        os._exit(9)
    for suffix in (".tif", ".json"):
        with atomic_path(folder / (scene.id + suffix), overwrite=True) as temporary, temporary.open("w") as file:
            for _ in range(4):
                file.write("line\\\\n")
                file.flush()
                time.sleep(0.002)
    with log.open("a") as lines:
        lines.write(f"{scene.id} {os.getpid()}\\\\n")
    return Outcome(scene.id, "ok")


def executor_of(way, folder, n_workers):
    task = partial(work, log=folder.parent / "log.txt")
    here = partial(task, folder=folder)
    if way == "dask":
        return DaskWorkers(task, folder, n_workers)
    return ProcessPool(here, n_workers) if way == "pool" else in_turn(here)


if __name__ == "__main__":
    folder, n_scenes, way, n_workers = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    scenes = tuple(BatchItem(f"s{i}", Path("f"), Path("m")) for i in range(n_scenes))
    executor = executor_of(way, folder, n_workers)
    run_batch(Manifest("test", scenes), folder, BatchConfig(resume=True), executor=executor)
'''.replace("\\\\", "\\")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that stands in for a registration, where processes of their own find it."""
    path = tmp_path / "stand_in_for_registration.py"
    path.write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, path.stem, raising=False)
    return __import__(path.stem)


def start(
    stand_in: ModuleType, folder: Path, n_scenes: int, way: str = "in turn", n_workers: int = 1
) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(stand_in.__file__), str(folder), str(n_scenes), way, str(n_workers)]
    scratch = folder.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(scratch)}
    with (folder.parent / "errors.txt").open("a") as errors:
        return subprocess.Popen(
            command, env=environment, cwd=scratch, stderr=errors, preexec_fn=obey_ctrl_c, start_new_session=True
        )


def obey_ctrl_c() -> None:
    """Undo what a shell does to commands in the background: they ignore Ctrl-C, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def log(folder: Path) -> list[tuple[str, int]]:
    """Scenes that were worked on to the end, and the process of each."""
    path = folder.parent / "log.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(name, int(pid)) for name, pid in (line.split() for line in lines)]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def runs_any_of(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def kill_on_the_way(process: subprocess.Popen[bytes], folder: Path, seconds: float) -> None:
    before = len(log(folder))
    wait_for(lambda: len(log(folder)) > before or process.poll() is not None)
    time.sleep(seconds)
    process.kill()
    process.wait()


def assert_all_done_once(folder: Path, n_scenes: int, n_kills: int) -> None:
    names = {f"s{i}" for i in range(n_scenes)}
    outputs = {f"{name}{suffix}" for name in names for suffix in (".tif", ".json")}
    assert {path.name for path in folder.iterdir()} == {*outputs, "summary.json", FILE_NAME}
    assert all((folder / output).read_text() == "line\n" * 4 for output in outputs)
    written = json.loads((folder / "summary.json").read_text())
    assert written["counts"] == {"total": n_scenes, "ok": n_scenes, "failed": 0}
    # A scene may be killed after its work and before the journal has it, and no other is worked on twice.
    times = Counter(name for name, _ in log(folder))
    assert set(times) == names
    assert times.total() <= n_scenes + n_kills


def test_killed_again_and_again_every_scene_is_done_once(stand_in: ModuleType, tmp_path: Path) -> None:
    folder, n_scenes, n_kills = tmp_path / "out", 60, 5
    moments = random.Random(16)
    for _ in range(n_kills):
        kill_on_the_way(start(stand_in, folder, n_scenes), folder, moments.uniform(0, 0.15))
    assert start(stand_in, folder, n_scenes).wait() == 0
    assert_all_done_once(folder, n_scenes, n_kills)


WAYS = pytest.mark.parametrize("way", ["pool", "dask"])
IN_HAND = {"pool": 2, "dask": 4}
"""Scenes that two workers have got at a time."""


@WAYS
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks /proc which processes there are")
def test_workers_end_with_a_batch_that_is_killed(stand_in: ModuleType, tmp_path: Path, way: str) -> None:
    folder, n_scenes = tmp_path / "out", 150
    kill_on_the_way(start(stand_in, folder, n_scenes, way, 2), folder, 0.1)
    workers = {pid for _, pid in log(folder)}
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert 0 < len(log(folder)) < n_scenes
    assert start(stand_in, folder, n_scenes, way, 2).wait() == 0
    assert_all_done_once(folder, n_scenes, n_kills=IN_HAND[way])


@WAYS
@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is no signal there")
def test_ctrl_c_ends_workers_and_leaves_a_clean_journal(stand_in: ModuleType, tmp_path: Path, way: str) -> None:
    folder = tmp_path / "out"
    process = start(stand_in, folder, 150, way, 1)
    wait_for(lambda: len(log(folder)) > IN_HAND[way])  # by then the first is in the journal
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, the workers included
    assert process.wait() != 0
    with Journal(folder, "test") as journal:
        assert set(journal.states().values()) == {State.DONE, State.PENDING}
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert not list((tmp_path / "scratch").iterdir())
    wait_for(lambda: not runs_any_of(process.pid))
    errors = (tmp_path / "errors.txt").read_text()
    assert errors.count("Traceback") == 1, errors  # of the program that was interrupted, and none of its workers


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks /proc which processes there are")
def test_ctrl_c_while_workers_start_is_handled_by_the_program_alone(stand_in: ModuleType, tmp_path: Path) -> None:
    process = start(stand_in, tmp_path / "out", 150, "pool", 1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(lambda: len(children.read_text().split()) > 1)  # the tracker of resources, and a worker
    time.sleep(0.1)  # the worker imports its modules
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() != 0
    wait_for(lambda: not runs_any_of(process.pid))
    errors = (tmp_path / "errors.txt").read_text()
    assert errors.count("Traceback") == 1, errors
    with Journal(tmp_path / "out", "test") as journal:
        assert set(journal.states().values()) == {State.PENDING}


@WAYS
def test_a_worker_that_dies_costs_only_its_scene(stand_in: ModuleType, tmp_path: Path, way: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    names = ["a", "b", "deadly", "c", "d"]
    executor = stand_in.executor_of(way, folder, 2)
    scenes = Manifest("test", tuple(BatchItem(name, Path("f.tif"), Path("m.tif")) for name in names))
    summary = run_batch(scenes, folder, executor=executor)
    assert {outcome.id: outcome.status for _, outcome in summary.pairs} == {
        **dict.fromkeys(names, OK),
        "deadly": FAILED,
    }
    assert "died" in summary.failed[0].reason


def test_a_worker_finds_what_this_process_finds(samples: Path, tmp_path: Path) -> None:
    """The one true registration here, of parts of the sample pair."""
    for name in ("fixed", "moving"):
        with rasterio.open(samples / f"rgb_nir_{name}.tif") as whole:
            part = Window(0, 0, 256, 256)
            profile = whole.profile | {"width": 256, "height": 256, "transform": whole.window_transform(part)}
            with rasterio.open(tmp_path / f"{name}.tif", "w", **profile) as target:
                target.write(whole.read(window=part))
    config = RegisterConfig(match=MatchConfig(n_keypoints=60), estimate=EstimateConfig(model=ModelChoice.AFFINE))
    scene = BatchItem("part", tmp_path / "fixed.tif", tmp_path / "moving.tif", config)
    summary = run_batch(Manifest("test", (scene,)), tmp_path / "out")
    assert not summary.failed, summary.failed
    written = read_registration(tmp_path / "out" / "part.json")
    np.testing.assert_allclose(written.matrix, register(scene.fixed, scene.moving, config).matrix, rtol=1e-9)
    with rasterio.open(tmp_path / "out" / "part.tif") as aligned:
        assert aligned.shape == (256, 256)

"""Scenes on a Dask cluster: what comes of them is what comes of a local run, whatever befalls the workers.

Registration is stood in for by something quick.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from distributed import LocalCluster

from rrl_register.batch import BatchItem, Manifest, Outcome, Progress, Summary, dask_cluster, run_batch
from rrl_register.batch.dask_cluster import GPU, DaskCluster, attempt_scene, versions
from rrl_register.batch.dask_local import local_cluster
from rrl_register.batch.executors import in_turn
from rrl_register.batch.journal import FILE_NAME, Journal, State
from rrl_register.batch.work import begin_attempt, keep_attempt, open_attempts
from rrl_register.config import BatchConfig, Device, MatchConfig, RegisterConfig, WarpConfig
from rrl_register.errors import InputError, UsageError, WriteError

STAND_IN = '''
"""What stands in for a registration on workers."""
import os
import time

from rrl_register.batch import Outcome
from rrl_register.batch.work import fail_scene
from rrl_register.errors import InputError
from rrl_register.raster.writer import atomic_path


def work(scene, folder, log, pause=0.01):
    with log.open("a") as lines:
        lines.write(f"{scene.id} {os.getpid()}\\n")
    time.sleep(pause)
    if "deadly" in scene.id:
        os._exit(9)
    if "bad" in scene.id:
        return fail_scene(scene.id, InputError("no valid pixel; try another"), folder)
    for suffix in (".tif", ".json"):
        with atomic_path(folder / (scene.id + suffix), overwrite=True) as temporary:
            temporary.write_text(scene.moving.read_text() + suffix)
    return Outcome(scene.id, "ok", figures={"n_inliers": len(scene.id)})
'''

WITH_GPU = RegisterConfig(match=MatchConfig(device=Device.CUDA))


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module that stands in for a registration, where workers find it."""
    path = tmp_path_factory.mktemp("stand_in") / "stand_in_for_dask.py"
    path.write_text(STAND_IN)
    sys.path.insert(0, str(path.parent))
    yield __import__(path.stem)
    sys.path.remove(str(path.parent))


@pytest.fixture(scope="module")
def processes(stand_in: ModuleType) -> Iterator[str]:
    """The scheduler of two processes, which tries no scene again itself."""
    with local_cluster(2) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def threads() -> Iterator[LocalCluster]:
    """A cluster inside this process, of one worker, which has a GPU."""
    with LocalCluster(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0", protocol="tcp", resources={GPU: 1}
    ) as cluster:
        yield cluster


class Desk:
    """Images, an output folder, and a log of the scenes that were begun."""

    def __init__(self, folder: Path, stand_in: Any) -> None:
        self.log = folder / "log.txt"
        self.out = folder / "out"
        self.images = folder
        self.work = partial(stand_in.work, log=self.log)

    def scenes(self, *names: str, config: RegisterConfig | None = None) -> Manifest:
        for name in ("fixed", *names):
            (self.images / f"{name}.img").write_text(name)
        fixed, settings = self.images / "fixed.img", config or RegisterConfig()
        return Manifest("test", tuple(BatchItem(name, fixed, self.images / f"{name}.img", settings) for name in names))

    def on(self, scheduler: str, pause: float = 0.01) -> DaskCluster:
        self.out.mkdir(exist_ok=True)
        return DaskCluster(partial(self.work, pause=pause), self.out, scheduler)

    def run(self, scheduler: str, scenes: Manifest, **more: Any) -> Summary:
        return run_batch(scenes, self.out, executor=self.on(scheduler), **more)

    def begun(self) -> list[tuple[str, int]]:
        return [(name, int(pid)) for name, pid in (line.split() for line in self.log.read_text().splitlines())]

    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.out.iterdir() if path.name != FILE_NAME}


@pytest.fixture
def desk(tmp_path: Path, stand_in: ModuleType) -> Desk:
    return Desk(tmp_path, stand_in)


def test_a_cluster_gives_what_a_local_run_gives(desk: Desk, processes: str, tmp_path: Path) -> None:
    scenes = desk.scenes("a", "bad", "c", "long-name")
    distant = desk.run(processes, scenes)
    here = Desk(tmp_path, sys.modules["stand_in_for_dask"])
    here.out = tmp_path / "here"
    local = run_batch(scenes, here.out, executor=in_turn(partial(desk.work, folder=_made(here.out))))
    assert desk.files() == here.files()
    assert distant.pairs == local.pairs
    assert distant.counts() == {"total": 4, "ok": 3, "failed": 1}


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_killed_worker_costs_nothing(desk: Desk, processes: str) -> None:
    names = [f"s{i}" for i in range(24)]
    killed: list[int] = []

    def kill_once(progress: Progress) -> None:
        if progress.n_worked == 3:
            killed.append(desk.begun()[-1][1])
            os.kill(killed[0], signal.SIGKILL)

    executor = desk.on(processes, pause=0.05)
    summary = run_batch(desk.scenes(*names), desk.out, executor=executor, watch=kill_once)
    assert summary.counts() == {"total": 24, "ok": 24, "failed": 0}
    whole = {f"{name}{suffix}": name + suffix for name in names for suffix in (".tif", ".json")}
    assert {name: text for name, text in desk.files().items() if name != "summary.json"} == whole
    assert len(desk.begun()) <= 24 + 4  # what was in its hands, or done but not yet told


def test_the_scene_that_kills_its_workers_fails_alone(desk: Desk, processes: str) -> None:
    summary = desk.run(processes, desk.scenes("a", "deadly", "b", "c", "d"))
    (failed,) = summary.failed
    assert (failed.id, failed.exit_code) == ("deadly", 1)
    assert "also with no other scene beside it" in failed.reason
    assert [name for name, _ in desk.begun()].count("deadly") == 2


def test_paths_hold_in_whatever_folder_a_worker_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.tif").touch()
    match = MatchConfig(weights=Path("w.safetensors"), init_points=Path("p.csv"))
    config = RegisterConfig(match=match, warp=WarpConfig(grid=Path("like.tif")))
    scene = dask_cluster._absolute(BatchItem("a", Path("f.tif"), Path("NETCDF:m.nc:band"), config))
    assert (scene.fixed, scene.moving) == (tmp_path / "f.tif", Path("NETCDF:m.nc:band"))
    assert (scene.config.match.weights, scene.config.match.init_points) == (
        tmp_path / "w.safetensors",
        tmp_path / "p.csv",
    )
    assert scene.config.warp.grid == tmp_path / "like.tif"
    plain = BatchItem("a", Path("f.tif"), Path("gone.tif"))
    assert dask_cluster._absolute(plain).config == RegisterConfig()


def test_scenes_are_handed_over_a_few_at_a_time(desk: Desk, threads: LocalCluster) -> None:
    taken: list[str] = []
    scenes = desk.scenes(*(f"s{i}" for i in range(20))).scenes
    outcomes = desk.on(threads.scheduler_address)(taken.append(scene.id) or scene for scene in scenes)
    for n_finished, _ in enumerate(outcomes, 1):
        assert len(taken) <= n_finished + 2
    assert len(taken) == 20


@pytest.mark.usefixtures("warnings_end_the_wait")
def test_a_scene_for_a_gpu_goes_to_a_worker_that_has_one(
    desk: Desk, threads: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = desk.scenes("a", config=WITH_GPU)
    assert desk.run(threads.scheduler_address, scenes).counts()["ok"] == 1
    monkeypatch.setattr(dask_cluster, "GPU", "OTHER")
    with pytest.raises(Warned, match="No Dask worker offers a GPU"):
        list(desk.on(threads.scheduler_address)(scenes.scenes))


@pytest.mark.usefixtures("warnings_end_the_wait")
def test_a_cluster_without_workers_is_reported(desk: Desk, threads: LocalCluster) -> None:
    threads.scale(0)
    with pytest.raises(Warned, match="has no worker"):
        list(desk.on(threads.scheduler_address)(desk.scenes("a").scenes))


class Warned(Exception):
    """Raised in place of a warning, to end what would wait for ever."""


@pytest.fixture
def warnings_end_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(message: str) -> None:
        raise Warned(message)

    monkeypatch.setattr(dask_cluster, "_SECONDS_TO_WAIT", 0.5)
    monkeypatch.setattr(dask_cluster, "_SECONDS_UNTIL_WARNED", 0.5)
    monkeypatch.setattr(dask_cluster.log, "warning", tell)


def test_ctrl_c_takes_back_what_is_not_begun(desk: Desk, threads: LocalCluster) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.n_worked == 2:
            raise KeyboardInterrupt

    scenes = desk.scenes(*(f"s{i}" for i in range(20)))
    with pytest.raises(KeyboardInterrupt):
        desk.run(threads.scheduler_address, scenes, watch=interrupt)
    with Journal(desk.out, "test") as journal:
        states = journal.states()
    assert list(states.values()).count(State.DONE) == 2
    assert set(states.values()) == {State.DONE, State.PENDING}
    assert not [name for name in desk.files() if name.startswith(".")]
    assert desk.run(threads.scheduler_address, scenes, config=BatchConfig(resume=True)).counts()["ok"] == 20
    assert len(desk.begun()) <= 20 + 2


def test_a_scheduler_that_goes_is_told_in_one_line(
    desk: Desk, threads: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "_SECONDS_TO_CONNECT", 0.5)

    def end(progress: Progress) -> None:
        if progress.n_worked == 2:
            threads.close()

    with pytest.raises(InputError, match=r"scheduler no longer answers.*--resume"):
        desk.run(threads.scheduler_address, desk.scenes(*(f"s{i}" for i in range(20))), watch=end)
    with Journal(desk.out, "test") as journal:
        assert list(journal.states().values()).count(State.DONE) == 2
    assert not [name for name in desk.files() if name.startswith(".")]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "carrier-pigeon://loft:1"])
def test_where_no_scheduler_is(desk: Desk, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "_SECONDS_TO_CONNECT", 0.2)
    with pytest.raises(UsageError, match=f"No Dask scheduler answers at {address}") as raised:
        desk.run(address, desk.scenes("a"))
    assert "\n" not in str(raised.value)


def test_a_missing_extra_is_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"rrl-register\[distributed\]"):
        desk.run("tcp://127.0.0.1:9", desk.scenes("a"))


def test_a_scheduler_of_another_version_is_refused(
    desk: Desk, threads: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rrl_register.batch.dask_cluster.version", lambda name: "2020.1.0")
    with pytest.raises(UsageError, match=r"has distributed 2020\.1\.0, but its Dask scheduler has"):
        desk.run(threads.scheduler_address, desk.scenes("a"))


@pytest.fixture
def on_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrl_register.batch.dask_cluster._address", lambda: "tcp://node7:1")


@pytest.mark.usefixtures("on_worker")
def test_a_worker_of_another_version_refuses(desk: Desk, tmp_path: Path) -> None:
    (scene,) = desk.scenes("a").scenes
    for name in versions():
        with pytest.raises(UsageError, match=f"The Dask worker tcp://node7:1 has {name}"):
            attempt_scene(scene, desk.work, tmp_path, versions() | {name: "0"})


@pytest.mark.usefixtures("on_worker")
def test_a_worker_that_does_not_see_the_folder_says_so(desk: Desk, tmp_path: Path) -> None:
    (scene,) = desk.scenes("a").scenes
    with pytest.raises(InputError, match="node7:1 does not see the output folder"):
        attempt_scene(scene, desk.work, tmp_path / "gone", versions())


@pytest.mark.usefixtures("on_worker")
def test_an_image_that_a_worker_does_not_see_fails_its_scene(desk: Desk, tmp_path: Path) -> None:
    (scene,) = desk.scenes("a").scenes
    scene.moving.unlink()
    outcome, attempt = attempt_scene(scene, desk.work, tmp_path, versions())
    assert (outcome.status, outcome.exit_code) == ("failed", 3)
    assert f"node7:1 does not see the file {scene.moving}" in outcome.reason
    assert [path.name for path in attempt.iterdir()] == ["a.json"]


def test_a_latecomer_touches_nothing(tmp_path: Path) -> None:
    with open_attempts(tmp_path) as attempts:
        late, first = begin_attempt(attempts), begin_attempt(attempts)
        (tmp_path / "a.tif").write_text("of an earlier run")
        (first / "a.json").write_text("failed")
        keep_attempt(first, Outcome("a", "failed"), tmp_path)
        (late / "a.tif").write_text("late")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": "failed"}
    with pytest.raises(WriteError, match="Cannot write to the output folder"):
        begin_attempt(attempts)

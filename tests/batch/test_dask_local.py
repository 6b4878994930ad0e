"""``--workers N``: which executor does it, and what the Dask workers of this machine are like."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from distributed import Client
from distributed.core import error_message
from distributed.protocol.pickle import loads

from rrl_register.batch import BatchItem, Outcome, dask_cluster, dask_local, running
from rrl_register.batch.dask_cluster import GPU, DaskCluster, attempt_scene, versions
from rrl_register.batch.dask_local import DaskWorkers, local_cluster
from rrl_register.batch.executors import ProcessPool
from rrl_register.batch.running import _executor
from rrl_register.batch.work import fail_scene
from rrl_register.config import BatchConfig
from rrl_register.errors import WriteError

SCENE = BatchItem("a", Path("fixed.tif"), Path("moving.tif"))


@pytest.mark.parametrize(
    ("config", "installed", "chosen"),
    [
        (BatchConfig(), True, ProcessPool),
        (BatchConfig(workers=3), True, DaskWorkers),
        (BatchConfig(workers=3), False, ProcessPool),
        (BatchConfig(scheduler="tcp://head:8786"), True, DaskCluster),
    ],
)
def test_workers_are_dasks_where_it_is_installed(
    config: BatchConfig, installed: bool, chosen: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "find_spec", lambda name: name if installed else None)
    assert type(_executor(Path("out"), config)) is chosen


@pytest.mark.parametrize("installed", [True, False])
def test_workers_share_the_processors_whatever_they_are(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "find_spec", lambda name: name if installed else None)
    monkeypatch.setattr(running, "usable_cores", lambda: 12)
    executor = _executor(Path("out"), BatchConfig(workers=5))
    assert isinstance(executor, DaskWorkers if installed else ProcessPool)
    assert executor.workers == 5
    assert executor.work.keywords["threads"] == 2


def test_without_scenes_no_worker_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_local, "local_cluster", None)
    assert list(DaskWorkers(fail_all, tmp_path, 2)([])) == []


def fail_all(scene: BatchItem, folder: Path) -> Outcome:
    return fail_scene(scene.id, WriteError(f"cannot write {folder / 'a.tif'}; needed another"), folder)


def give_up(scene: BatchItem, folder: Path) -> Outcome:
    try:
        raise CannotBeSent
    except CannotBeSent as error:
        raise WriteError(f"the disk of {folder} is full") from error


class CannotBeSent(Exception):
    """As GDAL's errors are."""

    def __reduce__(self) -> str:
        raise TypeError


@pytest.fixture
def attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("rrl_register.batch.dask_cluster._address", lambda: "tcp://127.0.0.1:1")
    (tmp_path / ".attempts").mkdir()
    return tmp_path / ".attempts"


def test_errors_speak_of_the_output_folder_and_not_of_an_attempts(attempts: Path) -> None:
    reported = Path("out")
    outcome, attempt = attempt_scene(SCENE, fail_all, attempts, versions(), reported, distant=False)
    assert outcome.reason == f"cannot write {reported / 'a.tif'}; needed another"
    assert f'"{outcome.reason}"' in (attempt / "a.json").read_text()
    with pytest.raises(WriteError, match=r"^the disk of out is full$"):
        attempt_scene(SCENE, give_up, attempts, versions(), reported, distant=False)


def test_an_error_that_ends_the_batch_can_be_sent(attempts: Path) -> None:
    with pytest.raises(WriteError) as raised:
        attempt_scene(SCENE, give_up, attempts, versions(), distant=False)
    arrived = as_sent(raised.value)
    assert type(arrived) is WriteError
    assert str(arrived) == f"the disk of {attempts.parent} is full"


def as_sent(error: BaseException) -> object:
    """What comes of an error on its way from a worker."""
    return loads(error_message(error)["exception"].data)


def seen_by_a_worker() -> dict[str, object]:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    return {"folder": str(Path.cwd()), "blocked": signal.SIGINT in blocked, "openmp": os.environ.get("OMP_NUM_THREADS")}


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be blocked there")
def test_a_cluster_of_this_machine_says_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    level = logging.getLogger("distributed").level
    with local_cluster(1) as cluster, Client(cluster, set_as_default=False) as client:
        (worker,) = client.scheduler_info()["workers"].values()
        assert (worker["nthreads"], worker["resources"], worker["memory_limit"]) == (1, {GPU: 1}, 0)
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
        seen = client.submit(seen_by_a_worker).result()
        assert seen == {"folder": str(tmp_path), "blocked": True, "openmp": "3"}
        assert [path.name[:13] for path in tmp_path.iterdir()] == ["rrl-register-"]
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith("distributed")] == []
    assert logging.getLogger("distributed").level == level
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())

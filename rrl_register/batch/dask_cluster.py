"""Scenes as tasks on a Dask cluster: as many machines as it has, and a worker that dies costs only its scene."""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from rrl_register.batch.attempts import keep_attempt, open_attempts
from rrl_register.batch.dask_worker import FolderWork, attempt_scene, require_versions, versions
from rrl_register.batch.executors import Outcomes
from rrl_register.batch.manifest import BatchItem
from rrl_register.batch.outcome import FAILED, Outcome
from rrl_register.config import Device
from rrl_register.errors import InputError, UsageError

if TYPE_CHECKING:
    from distributed import Client, Future

Attempt = Callable[[BatchItem], tuple[Outcome, Path]]

GPU = "GPU"
"""Name of the resource that a scene with ``device`` ``cuda`` asks its worker for."""
_SCENES_PER_THREAD = 2
"""Handed over at a time: one is worked on, and one is at hand when that is done."""
_SECONDS_TO_CONNECT = 10
_SECONDS_TO_LOOK_AGAIN = 5.0
_SECONDS_UNTIL_TOLD = 30.0
_CRASHED = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DaskCluster:
    """Workers of a Dask cluster, each on as many scenes at a time as it has threads.

    The cluster gets a few scenes at a time, twice as many as it has threads. A scene whose worker dies is tried again
    by Dask. Where Dask gives one up, for too many died, that one is tried at the end, with no other beside it, and if
    its workers die then, too, it is the one that has failed. What an attempt at a scene writes is moved to its place
    only with its outcome, so that no task that is still running after the end of the batch can do harm.

    Attributes:
        work: What to do with a scene, and where to write its outputs; picklable. What it raises ends the batch.
        folder: Where the outputs go; this program and all workers see it under the same path.
        scheduler: Address, such as ``tcp://head:8786``.
        distant: Whether workers may be on other machines, or in other folders, than this program.
    """

    work: FolderWork
    folder: Path
    scheduler: str
    distant: bool = True

    def __call__(self, scenes: Iterable[BatchItem]) -> Outcomes:
        """Give the outcome of each scene as it is ready.

        Raises:
            UsageError: The extra is missing, no scheduler answers, or versions differ.
            WriteError: A worker cannot write to the folder.
        """
        with _connect(self.scheduler) as client, open_attempts(self.folder.absolute()) as attempts:
            attempt = partial(
                attempt_scene,
                work=self.work,
                attempts=attempts,
                versions=versions(),
                told=self.folder,
                distant=self.distant,
            )
            tasks = _Tasks(client, attempt)
            try:
                named = map(_from_anywhere, scenes) if self.distant else iter(scenes)
                for scene in (yield from self._all(tasks, named)):
                    yield self._alone(tasks, scene)
            finally:
                tasks.cancel()

    def _all(self, tasks: _Tasks, scenes: Iterator[BatchItem]) -> Generator[Outcome, None, list[BatchItem]]:
        """Give outcomes until all scenes are through; return those that Dask gave up."""
        given_up: list[BatchItem] = []
        while True:
            for scene in islice(scenes, tasks.room()):
                tasks.submit(scene)
            if tasks.empty:
                return given_up
            for scene, future in tasks.finished():
                if result := _result(future):
                    yield self._keep(*result)
                else:
                    given_up.append(scene)

    def _alone(self, tasks: _Tasks, scene: BatchItem) -> Outcome:
        tasks.submit(scene)
        while not (finished := tasks.finished()):
            pass
        ((_, future),) = finished
        if result := _result(future):
            return self._keep(*result)
        return Outcome(
            scene.id,
            FAILED,
            "the Dask workers that worked on it died, again with no other scene beside it; needed enough memory and "
            "intact libraries; try fewer workers, workers with more memory or a smaller image",
            _CRASHED,
        )

    def _keep(self, outcome: Outcome, attempt: Path) -> Outcome:
        keep_attempt(attempt, outcome, self.folder)
        return outcome


class _Tasks:
    """The scenes that are in the cluster's hands."""

    def __init__(self, client: Client, attempt: Attempt) -> None:
        self._client = client
        self._attempt = attempt
        self._scenes: dict[Future[Any], BatchItem] = {}
        self._idle_since: float | None = time.monotonic()

    @property
    def empty(self) -> bool:
        """Whether there are none."""
        return not self._scenes

    def room(self) -> int:
        """How many more may be handed over."""
        with _scheduler_needed():
            threads: int = sum(self._client.nthreads().values())
        return max(0, _SCENES_PER_THREAD * max(threads, 1) - len(self._scenes))

    def submit(self, scene: BatchItem) -> None:
        """Hand a scene over."""
        with _scheduler_needed():
            future = self._client.submit(
                self._attempt,
                scene,
                key=f"register_scene-{uuid4().hex}",
                resources={GPU: 1} if _wants_gpu(scene) else None,
                pure=False,
            )
        self._scenes[future] = scene

    def finished(self) -> list[tuple[BatchItem, Future[Any]]]:
        """Wait some seconds for scenes to be finished, and hand them back; perhaps none."""
        from distributed import wait

        done: set[Future[Any]] = set()
        with _scheduler_needed(), self._client.as_current(), suppress(TimeoutError):
            done = wait(list(self._scenes), _SECONDS_TO_LOOK_AGAIN, return_when="FIRST_COMPLETED").done
        if done:
            self._idle_since = time.monotonic()
        else:
            self._tell_if_nobody_works()
        return [(self._scenes.pop(future), future) for future in done]

    def cancel(self) -> None:
        """Take back those that are not begun; what is being worked on goes on, but no one asks for it."""
        with suppress(Exception):  # the cluster may be gone
            self._client.cancel(list(self._scenes))
        self._scenes.clear()

    def _tell_if_nobody_works(self) -> None:
        if self._idle_since is None or time.monotonic() - self._idle_since < _SECONDS_UNTIL_TOLD:
            return
        with _scheduler_needed():
            workers = self._client.scheduler_info()["workers"].values()
        if not workers:
            log.warning("The Dask cluster has no worker; the batch goes on when one comes")
        elif any(_wants_gpu(s) for s in self._scenes.values()) and not any(GPU in w["resources"] for w in workers):
            log.warning("No Dask worker offers a GPU; needed some that were started with --resources 'GPU=1'")
        self._idle_since = None


def extra_installed() -> bool:
    """Whether Dask is there."""
    return find_spec("distributed") is not None


def require_extra() -> None:
    """Refuse to go on without Dask.

    Raises:
        UsageError: The extra is missing.
    """
    if not extra_installed():
        raise UsageError(
            "Dask is not installed; needed to work on a cluster; try: pip install 'rrl-register[distributed]'"
        )


@contextmanager
def _connect(address: str) -> Iterator[Client]:
    require_extra()
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what goes wrong is told in one line, here
    _require_answer(address)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)  # versions are checked by require_versions
        client = Client(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False, name="rrl-register")
    try:
        _require_scheduler_version(client)
        yield client
    finally:
        with suppress(Exception):  # the scheduler may be gone
            client.close(timeout=2)


def _require_answer(address: str) -> None:
    """Knock first: a client that finds no scheduler is never closed, and may block the next one.

    In a thread, because this one may have an event loop of its own, such as a notebook's.
    """
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(asyncio.run, _knock(address)).result()
        except (OSError, ValueError) as error:
            raise UsageError(
                f"no Dask scheduler answers at {address} ({_one_line(error)}); needed a running one; try its "
                "address, such as tcp://HOST:8786"
            ) from error


async def _knock(address: str) -> None:
    from distributed import Security, connect

    comm = await connect(address, timeout=_SECONDS_TO_CONNECT, **Security().get_connection_args("client"))
    comm.abort()


def _require_scheduler_version(client: Client) -> None:
    found: Any = client.get_versions(check=False)
    theirs = found["scheduler"]["packages"]["distributed"]
    require_versions({"distributed": theirs}, "this program", "its Dask scheduler")


@contextmanager
def _scheduler_needed() -> Iterator[None]:
    """Say in one line that the scheduler is gone."""
    from distributed import CancelledError
    from distributed.comm.core import CommClosedError

    try:
        yield
    except (CancelledError, CommClosedError, OSError, RuntimeError) as error:
        raise InputError(
            "the Dask scheduler answers no more, or has dropped the scenes; needed it until the end of the batch; "
            "see to that and go on with --resume"
        ) from error


def _result(future: Future[Any]) -> tuple[Outcome, Path] | None:
    """What a task gave, or nothing if Dask gave it up; what the task raised is raised."""
    from distributed import KilledWorker

    try:
        with _scheduler_needed():
            error: BaseException | None = future.exception()
            if error is None:
                result: tuple[Outcome, Path] = future.result()  # which may be lost with its worker, and done again
                return result
    except KilledWorker:
        return None
    if isinstance(error, KilledWorker):
        return None
    if isinstance(error, ModuleNotFoundError):
        raise UsageError(f"a Dask worker lacks a package ({error}); needed rrl-register on each; install it there")
    raise error


def _from_anywhere(scene: BatchItem) -> BatchItem:
    """The scene with paths that hold in whatever folder a worker was started."""
    match = scene.config.match
    weights = match.weights.absolute() if match.weights else None
    config = replace(scene.config, match=replace(match, weights=weights))
    return replace(scene, fixed=_absolute(scene.fixed), moving=_absolute(scene.moving), config=config)


def _absolute(path: Path) -> Path:
    return path.absolute() if path.exists() else path  # what does not exist may be one of GDAL's own names


def _wants_gpu(scene: BatchItem) -> bool:
    return scene.config.match.device is Device.CUDA


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

"""Scenes as tasks on a Dask cluster: a worker that dies costs no more than its scene."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from rrl_register.batch.executors import Outcomes
from rrl_register.batch.journal import CRASHED, FAILED, Outcome
from rrl_register.batch.manifest import BatchItem
from rrl_register.batch.work import begin_attempt, fail_scene, keep_attempt, open_attempts, write_failure
from rrl_register.config import Device, __version__
from rrl_register.errors import InputError, UsageError, WriteError

if TYPE_CHECKING:
    from distributed import Client, Future

FolderWork = Callable[[BatchItem, Path], Outcome]
"""Works on a scene and writes its outputs to a folder."""
Attempt = Callable[[BatchItem], tuple[Outcome, Path]]

GPU = "GPU"
"""Dask resource that a scene with ``device`` ``cuda`` needs."""
_SCENES_PER_THREAD = 2
"""One in work and one waiting for each thread of the cluster."""
_SECONDS_TO_CONNECT = 10
_SECONDS_TO_WAIT = 5.0
_SECONDS_UNTIL_WARNED = 30.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DaskCluster:
    """Workers of a Dask cluster, each on as many scenes at a time as it has threads.

    The cluster holds twice as many scenes as it has threads. Dask tries a scene again if its worker dies. Scenes that
    Dask gives up are tried once more at the end, one at a time, so that only the scene that kills its workers fails.
    The files of an attempt are moved to their place with its outcome, so that a task that still runs after the end of
    the batch does no harm.

    Attributes:
        work: Work on one scene, which writes its outputs to a folder; picklable. An exception ends the batch.
        folder: Output folder; this program and all workers see it under the same path.
        scheduler: Address, such as ``tcp://head:8786``.
        distant: True if workers may be on other machines, or in other folders, than this program.
    """

    work: FolderWork
    folder: Path
    scheduler: str
    distant: bool = True

    def __call__(self, scenes: Iterable[BatchItem]) -> Outcomes:
        """Yield the outcome of each scene as it is ready.

        Raises:
            UsageError: The extra is missing, no scheduler answers, or versions differ.
            WriteError: A worker cannot write to the folder.
        """
        with _connect(self.scheduler) as client, open_attempts(self.folder.absolute()) as attempts:
            attempt = partial(attempt_scene, work=self.work, attempts=attempts, versions=versions())
            tasks = _Tasks(client, partial(attempt, reported=self.folder, distant=self.distant))
            try:
                given_up = yield from self._all(tasks, map(_absolute, scenes) if self.distant else iter(scenes))
                for scene in given_up:
                    yield self._alone(tasks, scene)
            finally:
                tasks.cancel()

    def _all(self, tasks: _Tasks, scenes: Iterator[BatchItem]) -> Generator[Outcome, None, list[BatchItem]]:
        """Yield outcomes until all scenes are through; return those that Dask gave up."""
        given_up: list[BatchItem] = []
        while True:
            for scene in islice(scenes, tasks.room()):
                tasks.submit(scene)
            if not len(tasks):
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
        reason = (
            "Its Dask workers died, also with no other scene beside it; check memory and libraries, and try fewer "
            "workers, workers with more memory or a smaller image"
        )
        return Outcome(scene.id, FAILED, reason, CRASHED)

    def _keep(self, outcome: Outcome, attempt: Path) -> Outcome:
        keep_attempt(attempt, outcome, self.folder)
        return outcome


class _Tasks:
    """Scenes that the cluster holds."""

    def __init__(self, client: Client, attempt: Attempt) -> None:
        self._client, self._attempt = client, attempt
        self._scenes: dict[Future[Any], BatchItem] = {}
        self._idle_since: float | None = time.monotonic()

    def __len__(self) -> int:
        return len(self._scenes)

    def room(self) -> int:
        """Return the number of scenes that the cluster can take now."""
        with _scheduler_needed():
            threads: int = sum(self._client.nthreads().values())
        return max(0, _SCENES_PER_THREAD * max(threads, 1) - len(self))

    def submit(self, scene: BatchItem) -> None:
        """Submit a scene."""
        resources = {GPU: 1} if _needs_gpu(scene) else None
        with _scheduler_needed():
            future = self._client.submit(
                self._attempt, scene, key=f"register_scene-{uuid4().hex}", resources=resources, pure=False
            )
        self._scenes[future] = scene

    def finished(self) -> list[tuple[BatchItem, Future[Any]]]:
        """Wait some seconds for finished scenes and return them, perhaps none."""
        from distributed import wait

        done: set[Future[Any]] = set()
        with _scheduler_needed(), self._client.as_current(), suppress(TimeoutError):
            done = wait(list(self._scenes), _SECONDS_TO_WAIT, return_when="FIRST_COMPLETED").done
        if done:
            self._idle_since = time.monotonic()
        elif self._idle_since is not None and time.monotonic() - self._idle_since >= _SECONDS_UNTIL_WARNED:
            with _scheduler_needed():
                workers = self._client.scheduler_info()["workers"].values()
            if not workers:
                log.warning("The Dask cluster has no worker; the batch continues when one joins")
            elif any(map(_needs_gpu, self._scenes.values())) and not any(GPU in w["resources"] for w in workers):
                log.warning("No Dask worker offers a GPU; start workers with --resources 'GPU=1'")
            self._idle_since = None  # warned once
        return [(self._scenes.pop(future), future) for future in done]

    def cancel(self) -> None:
        """Cancel scenes that are not begun; those in work continue, but their outcome is ignored."""
        with suppress(Exception):  # the cluster may be gone
            self._client.cancel(list(self._scenes))
        self._scenes.clear()


def extra_installed() -> bool:
    """Return True if Dask is installed."""
    return find_spec("distributed") is not None


def require_extra() -> None:
    """Check that Dask is installed.

    Raises:
        UsageError: It is not.
    """
    if not extra_installed():
        raise UsageError("A cluster needs Dask, which is not installed; try: pip install 'rrl-register[distributed]'")


@contextmanager
def _connect(address: str) -> Iterator[Client]:
    require_extra()
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # errors are reported here, in one line
    _require_answer(address)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)  # require_versions checks them
        client = Client(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False, name="rrl-register")
    try:
        found: Any = client.get_versions(check=False)
        theirs = found["scheduler"]["packages"]["distributed"]
        require_versions({"distributed": theirs}, "This program", "its Dask scheduler")
        yield client
    finally:
        with suppress(Exception):  # the scheduler may be gone
            client.close(timeout=2)


def _require_answer(address: str) -> None:
    """Test the connection, because a client that finds no scheduler is never closed and may block the next one.

    The test runs in a thread, because this one may have an event loop of its own, such as a notebook's.
    """
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(asyncio.run, _open_connection(address)).result()
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(
                f"No Dask scheduler answers at {address} ({reason}); start one, or try its address, such as "
                "tcp://HOST:8786"
            ) from error


async def _open_connection(address: str) -> None:
    from distributed import Security, connect

    comm = await connect(address, timeout=_SECONDS_TO_CONNECT, **Security().get_connection_args("client"))
    comm.abort()


@contextmanager
def _scheduler_needed() -> Iterator[None]:
    """Report in one line that the scheduler is gone."""
    from distributed import CancelledError
    from distributed.comm.core import CommClosedError

    try:
        yield
    except (CancelledError, CommClosedError, OSError, RuntimeError) as error:
        raise InputError(
            "The Dask scheduler no longer answers, or has dropped the scenes; restart it and continue with --resume"
        ) from error


def _result(future: Future[Any]) -> tuple[Outcome, Path] | None:
    """Return the result of a task, or None if Dask gave it up; raise the exception of the task."""
    from distributed import KilledWorker

    try:
        with _scheduler_needed():
            error: BaseException | None = future.exception()
            if error is None:
                result: tuple[Outcome, Path] = future.result()  # it may be lost with its worker, and done again
                return result
    except KilledWorker as killed:
        error = killed
    if isinstance(error, KilledWorker):
        return None
    if isinstance(error, ModuleNotFoundError):
        raise UsageError(f"A Dask worker lacks a package ({error}); install rrl-register on each worker")
    raise error


def _absolute(scene: BatchItem) -> BatchItem:
    """Make the paths of a scene independent of the folder that a worker was started in."""
    match, warp = scene.config.match, scene.config.warp
    files = {name: path.absolute() for name in ("weights", "init_points") if (path := getattr(match, name))}
    grid = warp.grid.absolute() if isinstance(warp.grid, Path) else warp.grid
    config = replace(scene.config, match=replace(match, **files), warp=replace(warp, grid=grid))
    # A path that does not exist may be a name of GDAL's own.
    images = {name: path.absolute() for name in ("fixed", "moving") if (path := getattr(scene, name)).exists()}
    return replace(scene, config=config, **images)


def _needs_gpu(scene: BatchItem) -> bool:
    return scene.config.match.device is Device.CUDA


def attempt_scene(
    scene: BatchItem,
    work: FolderWork,
    attempts: Path,
    versions: dict[str, str],
    reported: Path | None = None,
    distant: bool = True,
) -> tuple[Outcome, Path]:
    """Work on a scene, on a worker, in a folder of its own.

    Args:
        scene: The scene.
        work: Work on it.
        attempts: Folder of the attempts, inside the output folder.
        versions: Versions of the program that submits it.
        reported: Output folder as errors name it; None: the folder that holds ``attempts``.
        distant: True if the worker may see other files than the program that submits.

    Returns:
        The outcome, and the folder of this attempt.

    Raises:
        UsageError: The worker has other versions.
        WriteError: The worker does not see the folder of the attempts, or cannot write to it.
    """
    require_versions(versions, f"The Dask worker {_address()}")
    if not attempts.is_dir():
        raise InputError(
            f"The Dask worker {_address()} does not see the output folder {attempts.parent}; choose a folder that all "
            "machines share under the same path, and continue with --resume"
        )
    folder, reported = begin_attempt(attempts), reported or attempts.parent
    images = (path for path in (scene.fixed, scene.moving) if not str(path).startswith("/vsi"))
    if distant and (unseen := [path for path in images if not path.exists()]):
        error = InputError(
            f"The Dask worker {_address()} does not see the file {unseen[0]}; check the path, or move the images to a "
            "folder that all machines share under the same path"
        )
        return fail_scene(scene.id, error, folder), folder
    try:
        outcome = work(scene, folder)
        if str(folder) in outcome.reason:  # which will be gone
            outcome = replace(outcome, reason=outcome.reason.replace(str(folder), str(reported)))
            write_failure(outcome, folder)
        return outcome, folder
    except WriteError as error:
        end = WriteError(str(error).replace(str(folder), str(reported)))
    raise end  # after the handler, because GDAL's error as its cause could not be pickled


def versions() -> dict[str, str]:
    """Return the versions that this program and its workers must have in common."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"rrl_register": __version__, "distributed": version("distributed"), "Python": python}


def require_versions(needed: dict[str, str], who: str, whom: str = "the program that submits scenes") -> None:
    """Check that the versions of this program, ``who`` in messages, are those of ``whom``.

    Raises:
        UsageError: They differ.
    """
    own = versions()
    for name, wanted in needed.items():
        if own[name] != wanted:
            raise UsageError(
                f"{who} has {name} {own[name]}, but {whom} has {wanted}; install the same versions everywhere"
            )


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)

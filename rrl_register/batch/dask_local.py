"""Scenes as tasks on a Dask cluster of this machine, which a batch starts for itself."""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

from rrl_register.batch.dask_cluster import GPU, DaskCluster, require_extra
from rrl_register.batch.dask_worker import FolderWork
from rrl_register.batch.executors import Outcomes
from rrl_register.batch.manifest import BatchItem

if TYPE_CHECKING:
    from distributed import LocalCluster

_SETTINGS = {
    # A scene whose worker died is tried again alone, as the pool does it, not some times more beside others.
    "distributed.scheduler.allowed-failures": 0,
    # Dask would allow one thread to the libraries of a worker; how many they get is said with the work.
    "distributed.nanny.pre-spawn-environ": {},
}
_LOOPBACK = "127.0.0.1:0"
_SILENT = logging.CRITICAL


@dataclass(frozen=True)
class DaskWorkers:
    """Processes of this machine as workers of a Dask cluster, each on one scene at a time.

    They are started with the first scene and end with this process, however it ends.

    Attributes:
        work: As ``DaskCluster`` takes it.
        folder: Where the outputs go.
        workers: Number of processes.
    """

    work: FolderWork
    folder: Path
    workers: int

    def __call__(self, scenes: Iterable[BatchItem]) -> Outcomes:
        """Give the outcome of each scene as it is ready.

        Raises:
            UsageError: The extra is missing.
            WriteError: A worker cannot write to the folder.
        """
        waiting = iter(scenes)
        for first in waiting:
            with local_cluster(self.workers) as cluster:
                executor = DaskCluster(self.work, self.folder, cluster.scheduler_address, distant=False)
                yield from executor(chain([first], waiting))


@contextmanager
def local_cluster(workers: int) -> Iterator[LocalCluster]:
    """Start a Dask cluster of processes on this machine, for as long as the block lasts.

    It listens on this machine alone, has no dashboard, does not bound its workers' memory, and says nothing. Each
    worker offers a GPU: as in the local pool, they share what there is.

    Args:
        workers: Number of processes, each on one scene at a time.

    Raises:
        UsageError: The extra is missing.
    """
    require_extra()
    import dask
    from distributed import LocalCluster

    with ExitStack() as ends:
        scratch = tempfile.TemporaryDirectory(prefix="rrl-register-", ignore_cleanup_errors=True)
        ends.enter_context(_log_silent())
        ends.enter_context(dask.config.set(_SETTINGS | {"temporary-directory": ends.enter_context(scratch)}))
        with _ctrl_c_held_back():
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=None,
                resources={GPU: 1},
                dashboard_address=_LOOPBACK,
                scheduler_kwargs={"dashboard": False},
                silence_logs=_SILENT,
            )
            ends.enter_context(cluster)
        yield cluster


@contextmanager
def _log_silent() -> Iterator[None]:
    """Keep Dask's log out of this program's: of what goes wrong, scenes and this program tell."""
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(_SILENT)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Keep Ctrl-C from the threads and processes that are begun within the block, and from this thread until its end.

    A terminal sends it to all processes, but it is this one's business: the workers end with it. Threads and processes
    inherit which signals are blocked, and so do workers that are started later by those threads.
    """
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # started with the first process, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

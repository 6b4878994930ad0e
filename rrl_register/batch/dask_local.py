"""Dask cluster on this machine that a batch starts for itself."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from rrl_register.batch.dask_cluster import GPU, DaskCluster, FolderWork, require_extra
from rrl_register.batch.executors import Outcomes, ctrl_c_blocked
from rrl_register.batch.manifest import BatchItem

if TYPE_CHECKING:
    from distributed import LocalCluster

_SETTINGS = {
    # A scene whose worker died is tried again alone, as in the pool, and not several times beside others.
    "distributed.scheduler.allowed-failures": 0,
    # Dask would allow the libraries of a worker one thread; ``work`` sets their number.
    "distributed.nanny.pre-spawn-environ": {},
}
_SILENT = logging.CRITICAL


@dataclass(frozen=True)
class DaskWorkers:
    """Processes of this machine as workers of a Dask cluster, each on one scene at a time.

    They start with the first scene and end with this process, even if it is killed.

    Attributes:
        work: As for ``DaskCluster``.
        folder: Output folder.
        workers: Number of processes.
    """

    work: FolderWork
    folder: Path
    workers: int

    def __call__(self, scenes: Iterable[BatchItem]) -> Outcomes:
        """Yield the outcome of each scene as it is ready.

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
    """Start a Dask cluster of processes on this machine, which ends with the block.

    It listens on this machine alone, has no dashboard, does not limit the memory of its workers, and logs nothing. Each
    worker offers a GPU: as in the local pool, they share those of the machine.

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
        log = logging.getLogger("distributed")
        ends.callback(log.setLevel, log.level)
        log.setLevel(_SILENT)  # outcomes and this program report errors
        ends.enter_context(dask.config.set(_SETTINGS | {"temporary-directory": ends.enter_context(scratch)}))
        with ctrl_c_blocked():
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=None,
                resources={GPU: 1},
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                silence_logs=_SILENT,
            )
            ends.enter_context(cluster)
        yield cluster

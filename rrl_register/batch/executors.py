"""Where scenes are worked on: in this process, or in others beside it.

An executor takes scenes one by one, as it has room, and gives each outcome as it is ready, in whatever order. That is
all a batch asks of it, so that scenes can be worked on elsewhere, too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_connection

from rrl_register.batch.manifest import BatchItem
from rrl_register.batch.outcome import FAILED, Outcome

Work = Callable[[BatchItem], Outcome]
Outcomes = Generator[Outcome, None, None]
Executor = Callable[[Iterable[BatchItem]], Outcomes]

_CRASHED = 1


def in_turn(work: Work) -> Executor:
    """Work in this process, on one scene after the other."""

    def outcomes(scenes: Iterable[BatchItem]) -> Outcomes:
        """Gives the outcome of each scene when it is done."""
        for scene in scenes:
            yield work(scene)

    return outcomes


@dataclass(frozen=True)
class ProcessPool:
    """Processes beside this one, each on one scene at a time.

    Where a process dies, the scenes that were in work are tried again one at a time, so that it costs only the one that
    kills it. The processes end with this one, however it ends. They are started afresh (spawned): a forked one would
    inherit the state of PyTorch's and GDAL's threads, but not the threads.

    Attributes:
        work: What to do with a scene; picklable. What it raises ends the batch.
        workers: Number of processes.
    """

    work: Work
    workers: int

    def __call__(self, scenes: Iterable[BatchItem]) -> Outcomes:
        """Give the outcome of each scene as it is ready."""
        waiting = iter(scenes)
        while suspects := (yield from self._until_broken(waiting)):
            for scene in suspects:
                yield self._alone(scene)

    def _until_broken(self, scenes: Iterator[BatchItem]) -> Generator[Outcome, None, list[BatchItem]]:
        """Give outcomes until all scenes are done or a process dies; return those that were in work then."""
        in_work: dict[Future[Outcome], BatchItem] = {}
        with _open_pool(self.workers) as pool:
            while True:
                for scene in islice(scenes, self.workers - len(in_work)):
                    in_work[_submit(pool, self.work, scene)] = scene
                if not in_work:
                    return []
                ready, _ = wait(in_work, return_when=FIRST_COMPLETED)
                for future in [future for future in ready if not _is_broken(future)]:
                    del in_work[future]
                    yield future.result()
                if any(_is_broken(future) for future in ready):
                    return list(in_work.values())

    def _alone(self, scene: BatchItem) -> Outcome:
        with _open_pool(1) as pool:
            future = _submit(pool, self.work, scene)
            wait([future])
            if not _is_broken(future):
                return future.result()
        return Outcome(
            scene.id,
            FAILED,
            "the process that worked on it died, twice; needed enough memory and intact libraries; try a smaller image "
            "or fewer --workers",
            _CRASHED,
        )


def _submit(pool: ProcessPoolExecutor, work: Work, scene: BatchItem) -> Future[Outcome]:
    try:
        return pool.submit(work, scene)
    except BrokenProcessPool as error:
        broken: Future[Outcome] = Future()
        broken.set_exception(error)
        return broken


def _is_broken(future: Future[Outcome]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


@contextmanager
def _open_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that are gone after the block; at once, and not after their scenes, where it ends by an error."""
    context = multiprocessing.get_context("spawn")
    lifeline, own_end = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _live_by, (lifeline,))
    try:
        yield pool
    except BaseException:
        own_end.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        own_end.close()
        lifeline.close()


def _live_by(lifeline: Connection) -> None:
    """Set up a worker: Ctrl-C is its parent's business, and when its parent ends, it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        """Waits for the other end of the lifeline to close."""
        wait_for_connection([lifeline])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()

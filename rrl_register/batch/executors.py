"""Executors: work on scenes in this process, or in processes beside it.

An executor takes scenes one by one, as it has room, and yields each outcome as it is ready, in any order.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from rrl_register.batch.interrupts import ctrl_c_blocked, end_with_parent
from rrl_register.batch.manifest import BatchItem
from rrl_register.batch.outcome import CRASHED, FAILED, Outcome

Work = Callable[[BatchItem], Outcome]
Outcomes = Generator[Outcome, None, None]
Executor = Callable[[Iterable[BatchItem]], Outcomes]


def in_turn(work: Work) -> Executor:
    """Work in this process, on one scene after the other."""
    return lambda scenes: (work(scene) for scene in scenes)


@dataclass(frozen=True)
class ProcessPool:
    """Processes beside this one, each on one scene at a time.

    If a process dies, the scenes in work are tried again one at a time, so that only the scene that kills it fails. The
    processes end with this one, even if it is killed. They are spawned, because a forked process inherits the state of
    the threads of PyTorch and GDAL without the threads.

    Attributes:
        work: Work on one scene; picklable. An exception ends the batch.
        workers: Number of processes.
    """

    work: Work
    workers: int

    def __call__(self, scenes: Iterable[BatchItem]) -> Outcomes:
        """Yield the outcome of each scene as it is ready."""
        waiting = iter(scenes)
        while suspects := (yield from self._until_broken(waiting)):
            for scene in suspects:
                yield self._alone(scene)

    def _until_broken(self, scenes: Iterator[BatchItem]) -> Generator[Outcome, None, list[BatchItem]]:
        """Yield outcomes until all scenes are done or a process dies; return the scenes in work at its death."""
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
        reason = "Its process died twice; check memory and libraries, and try a smaller image or fewer --workers"
        return Outcome(scene.id, FAILED, reason, CRASHED)


def _submit(pool: ProcessPoolExecutor, work: Work, scene: BatchItem) -> Future[Outcome]:
    try:
        with ctrl_c_blocked():  # this may start a process
            return pool.submit(work, scene)
    except BrokenProcessPool as error:
        broken: Future[Outcome] = Future()
        broken.set_exception(error)
        return broken


def _is_broken(future: Future[Outcome]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


@contextmanager
def _open_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes that end with the block: after their scenes, or at once if the block raises."""
    context = multiprocessing.get_context("spawn")
    lifeline, own_end = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, end_with_parent, (lifeline,))
    try:
        yield pool
    except BaseException:
        own_end.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        own_end.close()
        lifeline.close()

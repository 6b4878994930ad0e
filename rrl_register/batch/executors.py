"""Executors: work on scenes in this process, or in processes beside it.

An executor takes scenes one by one, as it has room, and yields each outcome as it is ready, in any order.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_connections
from types import FrameType

from rrl_register.batch.journal import CRASHED, FAILED, Outcome
from rrl_register.batch.manifest import BatchItem


class Interrupts:
    """Record of Ctrl-C."""

    def __init__(self) -> None:
        self._pressed = False

    def raise_missed(self) -> None:
        """Raise an interrupt that Python dropped.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed before.
        """
        if self._pressed:
            raise KeyboardInterrupt

    def record(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal as Python does, and record it."""
        self._pressed = True
        signal.default_int_handler(number, frame)


@contextmanager
def recorded_interrupts() -> Iterator[Interrupts]:
    """Record Ctrl-C within the block, in addition to the ``KeyboardInterrupt`` that it raises.

    Python prints and drops a ``KeyboardInterrupt`` that is raised in a destructor (``object.__del__`` in its language
    reference). Dask's futures have destructors, so the batch would continue to its end. In another thread than the main
    one, or if the caller has a handler of its own, nothing is recorded.
    """
    interrupts = Interrupts()
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupts
        return
    signal.signal(signal.SIGINT, interrupts.record)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """Block Ctrl-C for the threads and processes that start within the block, and for this thread until its end.

    They inherit the mask, and so do the workers that those threads start later.
    """
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # it starts with the first process and would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(lifeline: Connection) -> None:
    """End this process as soon as the other end of the lifeline closes, at once and in the middle of a scene."""

    def watch() -> None:
        """Wait in a thread; ``sys.exit`` would end no more than that thread."""
        wait_for_connections([lifeline])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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

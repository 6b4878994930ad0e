"""Threads: a shared pool for image arithmetic, ordered results for writing, and BLAS on one thread."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TypeVar

import cv2
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_POOL_THREADS = 16
"""More threads of image arithmetic would wait for memory."""
MAX_ORDERED_THREADS = 8
"""More threads would wait for the one that writes their results."""
BLOCK_ROWS = 128
"""Rows of a block; the intermediate results of so few stay near the processor's caches."""
_RESULTS_PER_THREAD = 2
"""Results of ``ordered_map`` in memory, for each thread."""


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pool_threads() -> int:
    """Return the number of threads that ``parallel_map`` uses: as many as OpenCV, at most ``MAX_POOL_THREADS``."""
    return max(1, min(cv2.getNumThreads(), MAX_POOL_THREADS))


def ordered_threads() -> int:
    """Return the default number of threads of ``ordered_map``: one per core, at most ``MAX_ORDERED_THREADS``."""
    return min(usable_cores(), MAX_ORDERED_THREADS)


@cache
def _pool() -> ThreadPoolExecutor:
    """Return the shared pool; it starts a thread only if there is work and no other thread is free."""
    return ThreadPoolExecutor(MAX_POOL_THREADS - 1, "rrl-pool")


if hasattr(os, "register_at_fork"):
    # A forked process has a copy of the executor, but none of its threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def parallel_map(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Apply a function to each item in ``pool_threads()`` threads, and return the results in order.

    Hand-made because ``Executor.map`` deadlocks if its function maps in turn: here the calling thread takes items, too,
    and a thread of the pool that is busy elsewhere is not waited for. After an error, no further item is begun, those
    that run are waited for, and the error of the first item that failed is raised.

    Args:
        work: Function of an item. It gains from threads only if it releases the GIL, as numpy and OpenCV do.
        items: Its arguments.
    """
    waiting = deque(enumerate(items))
    results: dict[int, Result] = {}
    failures: dict[int, BaseException] = {}
    n_items = len(waiting)

    def take_items() -> None:
        """Work on one item after the other until none is left."""
        while True:
            try:
                index, item = waiting.popleft()
            except IndexError:
                return
            try:
                results[index] = work(item)
            except BaseException as error:
                failures[index] = error
                waiting.clear()

    helpers: list[Future[None]] = []
    try:
        for _ in range(min(pool_threads(), n_items) - 1):
            helpers.append(_pool().submit(take_items))
        take_items()
    finally:
        waiting.clear()
        wait([helper for helper in helpers if not helper.cancel()])
    if failures:
        raise failures[min(failures)]
    return [results[index] for index in range(n_items)]


def map_row_blocks(work: Callable[[slice], None], height: int) -> None:
    """Call a function with the rows of each block of an image, by ``parallel_map``."""
    parallel_map(work, [slice(top, min(top + BLOCK_ROWS, height)) for top in range(0, height, BLOCK_ROWS)])


def ordered_map(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Generator[Result, None, None]:
    """Yield the results of a function of each item, in order, while threads work on the next ones.

    At most twice as many results as threads are in memory; ``Executor.map`` would take all items at once. After an
    error, or if the generator is closed, no further item is begun, and those that run are waited for.

    Args:
        work: Function of an item. It gains from threads only if it releases the GIL, as numpy and GDAL do.
        items: Its arguments; taken as results are taken.
        threads: Number of threads.
    """
    pool = ThreadPoolExecutor(threads, "rrl-ordered")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= _RESULTS_PER_THREAD * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


_blas_lock = threading.Lock()
_blas_limits: list[AbstractContextManager[object]] = []
"""The limit that the first open block has set and the last one lifts."""
_n_open_blocks = 0


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread within a block: on two, products as small as ours take twice as long and more.

    Blocks may be nested and may overlap in other threads: the limit, which is the whole process's, holds until the last
    of them ends.
    """
    _count_blocks(1)
    try:
        yield
    finally:
        _count_blocks(-1)


def _count_blocks(step: int) -> None:
    global _n_open_blocks
    with _blas_lock:
        if _n_open_blocks == 0:
            _blas_limits.append(_blas_libraries().limit(limits=1, user_api="blas"))
        _n_open_blocks += step
        if _n_open_blocks == 0:
            _blas_limits.pop().__exit__(None, None, None)


@cache
def _blas_libraries() -> ThreadpoolController:
    """Return the libraries loaded at the first call; finding them takes longer than many a fit."""
    return ThreadpoolController()

"""Threads: pools that are kept, results in order, and BLAS kept to one thread."""

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


MOST_THREADS = 16
"""More would wait for memory."""


def parallel_map(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results of the work on each item, in the items' order; as many at a time as OpenCV has threads.

    The thread that calls does its share. So work may itself call this: where all others are busy, none is waited for.
    When an item fails, those that were not begun are left, those that were are waited for, and the first one's error is
    raised, as if they had been worked on in turn.

    Args:
        work: It has to release the GIL to gain from other threads, as numpy and OpenCV do.
        items: What to work on.
    """
    waiting = deque(enumerate(items))
    results: dict[int, Result] = {}
    failures: dict[int, BaseException] = {}
    n_items = len(waiting)

    def work_off() -> None:
        """Works on what is left, item by item."""
        while True:
            try:
                place, item = waiting.popleft()
            except IndexError:  # nothing is left
                return
            try:
                results[place] = work(item)
            except BaseException as error:
                failures[place] = error
                waiting.clear()

    helpers: list[Future[None]] = []
    try:
        for _ in range(min(n_threads(), n_items) - 1):
            helpers.append(_crew().submit(work_off))
        work_off()
    finally:
        waiting.clear()
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    if failures:
        raise failures[min(failures)]
    return [results[place] for place in range(n_items)]


def n_threads() -> int:
    """How many work at a time."""
    return max(1, min(cv2.getNumThreads(), MOST_THREADS))


@cache
def _crew() -> ThreadPoolExecutor:
    """The threads; each is started when there is work for it and no other is free."""
    return ThreadPoolExecutor(MOST_THREADS - 1, "rrl-crew")


if hasattr(os, "register_at_fork"):
    # A forked process has a copy of the executor, but none of its threads.
    os.register_at_fork(after_in_child=_crew.cache_clear)

STRIP_ROWS = 128
"""What is in between then stays near the processor's caches."""


def map_row_blocks(work: Callable[[slice], None], height: int) -> None:
    """Calls a function with the rows of each strip of an image, in threads where there are several."""
    parallel_map(work, [slice(first, min(first + STRIP_ROWS, height)) for first in range(0, height, STRIP_ROWS)])


_MOST_THREADS = 8
"""More would wait for the one that writes."""
_AHEAD = 2
"""Results for each thread that are under way or wait to be taken."""


def ordered_map(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Generator[Result, None, None]:
    """Results of the work on each item, in the items' order.

    At most twice as many results as threads are in memory. When one fails, or the generator is closed, nothing new is
    begun, and what was begun is waited for.

    Args:
        work: Called in a thread; it has to release the GIL to gain from that, as numpy and GDAL do.
        items: What to work on; taken as results are taken.
        threads: How many.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="rrl-register")
    under_way: deque[Future[Result]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= _AHEAD * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """As many threads as this process has cores, within reason."""
    return min(usable_cores(), _MOST_THREADS)


_lock = threading.Lock()
_limits: list[AbstractContextManager[object]] = []
"""Of the blocks that are open, in any thread: the first one's limit, which the last one takes away."""
_n_open = 0


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keeps BLAS to one thread within a block: on two, products this small take twice as long and more.

    Blocks may lie within each other and overlap in other threads: the limit, which is the whole process's, holds until
    the last of them ends.
    """
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(step: int) -> None:
    global _n_open
    with _lock:
        if _n_open == 0:
            _limits.append(_controller().limit(limits=1, user_api="blas"))
        _n_open += step
        if _n_open == 0:
            _limits.pop().__exit__(None, None, None)


@cache
def _controller() -> ThreadpoolController:
    """The libraries that are loaded at the first fit; to look for them takes longer than many a fit."""
    return ThreadpoolController()

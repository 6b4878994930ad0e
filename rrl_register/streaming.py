"""Work in threads whose results are taken in order, a bounded number of them at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_THREADS = 8
"""More would wait for the one that writes."""
_AHEAD = 2
"""Results for each thread that are under way or wait to be taken."""


def in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Generator[Result, None, None]:
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

"""Threads that are kept from one piece of work to the next: to start them takes longer than much of the work."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import cv2

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 16
"""More would wait for memory."""


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
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

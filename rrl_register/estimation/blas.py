"""Linear algebra on small matrices, as all fits here are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

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

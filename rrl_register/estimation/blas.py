"""Linear algebra on matrices of a few rows, as all fits here are."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[object]:
    """Keeps BLAS to one thread within a block: on two, products this small take twice as long."""
    limits: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limits


@cache
def _controller() -> ThreadpoolController:
    """The libraries that are loaded at the first fit; to look for them takes longer than many a fit."""
    return ThreadpoolController()

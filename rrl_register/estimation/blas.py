"""Linear algebra on matrices of a few rows, as all fits here are."""

from __future__ import annotations

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


def one_blas_thread() -> AbstractContextManager[object]:
    """Keeps BLAS to one thread within a block: on two, products this small take twice as long."""
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits

"""Linear algebra on matrices of a few rows, as all fits here are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keeps BLAS to one thread: on two, products this small take twice as long."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield

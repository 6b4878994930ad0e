"""Ends of a batch before its time: Ctrl-C, which this program handles, once, and its own death.

A terminal sends SIGINT to all processes of a command. Two things need more than Python's own handler: an interrupt that
Python drops, and workers, which would die with a traceback of their own.

A worker of ``ProcessPoolExecutor`` waits for tasks on a pipe whose other end it holds itself, so it never learns that
its parent was killed. A lifeline is a pipe whose other end only the parent holds.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from types import FrameType


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
        wait([lifeline])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""Ctrl-C, kept where Python would lose it.

A ``KeyboardInterrupt`` that is raised while a destructor runs is printed and dropped (``object.__del__`` in Python's
language reference), and the futures of Dask have destructors: without a note of it the batch would go on to its end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self._pressed = False

    def raise_missed(self) -> None:
        """Raise what was dropped on its way here.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed before.
        """
        if self._pressed:
            raise KeyboardInterrupt

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal as Python does, with a note that it came."""
        self._pressed = True
        signal.default_int_handler(number, frame)


@contextmanager
def noted_interrupts() -> Iterator[Interrupts]:
    """Note Ctrl-C within the block, beside the ``KeyboardInterrupt`` that it raises as ever.

    Signals are the main thread's, and whoever has a handler of their own knows better: in another thread, or beside
    such a handler, nothing is noted.
    """
    interrupts = Interrupts()
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupts
        return
    signal.signal(signal.SIGINT, interrupts.note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)

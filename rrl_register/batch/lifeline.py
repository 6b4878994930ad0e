"""Workers that end with their parent, even if it is killed.

A worker of ``ProcessPoolExecutor`` waits for tasks on a pipe whose other end it holds itself, so it never learns that
its parent was killed. A lifeline is a pipe whose other end only the parent holds.
"""

from __future__ import annotations

import os
import threading
from multiprocessing.connection import Connection, wait


def end_with_parent(lifeline: Connection) -> None:
    """End this process as soon as the other end of the lifeline closes, at once and in the middle of a scene."""

    def watch() -> None:
        """Wait in a thread; ``sys.exit`` would end no more than that thread."""
        wait([lifeline])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""Keeping freed memory in the process: a network allocates anew for every batch, and each new page costs a fault."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_GROWTH_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Set glibc's allocator to reuse large blocks instead of returning them to the system after each use.

    Training steps on the CPU have a tenth of the page faults and take 3 to 9 % less processor time on a virtual machine
    (``tests/nn/test_memory.py`` counts the faults). glibc reads its own environment variables only when a process
    starts, hence ctypes. Nothing happens on other systems.

    Returns:
        True if the allocator took the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return all(
        mallopt(setting, value)
        for setting, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _GROWTH_BYTES))
    )

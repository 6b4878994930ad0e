"""Keeping freed memory: what a network allocates anew for every batch is costly where each page has to be asked for."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_GROWTH_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to reuse large blocks instead of returning them to the system after each use.

    On virtual machines, where first touching a page is slow, this makes training on the CPU much faster.
    Does nothing on other systems.

    Returns:
        Whether the allocator took the settings.
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

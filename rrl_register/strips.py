"""Work on images strip by strip, on all cores."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2

STRIP_ROWS = 128
"""What is in between then stays near the processor's caches."""


def by_strips(work: Callable[[slice], None], height: int) -> None:
    """Calls a function with the rows of each strip of an image, in threads where there are several."""
    strips = [slice(first, min(first + STRIP_ROWS, height)) for first in range(0, height, STRIP_ROWS)]
    if len(strips) < 2:
        for strip in strips:
            work(strip)
        return
    with ThreadPoolExecutor(min(len(strips), max(1, cv2.getNumThreads()))) as pool:
        for _ in pool.map(work, strips):
            pass

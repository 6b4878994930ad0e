"""Work on images strip by strip, on all cores."""

from __future__ import annotations

from collections.abc import Callable

from rrl_register.crew import side_by_side

STRIP_ROWS = 128
"""What is in between then stays near the processor's caches."""


def by_strips(work: Callable[[slice], None], height: int) -> None:
    """Calls a function with the rows of each strip of an image, in threads where there are several."""
    side_by_side(work, [slice(first, min(first + STRIP_ROWS, height)) for first in range(0, height, STRIP_ROWS)])

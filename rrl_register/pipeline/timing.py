"""Where the time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Watch = Callable[[str], None]


class StageClock:
    """Adds up the seconds of named stages.

    Args:
        watch: Told the name of each stage as it begins; None: nobody is.
    """

    def __init__(self, watch: Watch | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._watch = watch
        self._within = 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Times what runs inside; the seconds of a stage within a stage are counted for the inner one alone."""
        if self._watch:
            self._watch(name)
        outer, self._within = self._within, 0.0
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed - self._within
            self._within = outer + elapsed

"""Stands in for the search: whatever two images are given, one known transform is found.

``python known_search.py KNOWN.pickle WORDS`` is ``python -m rrl_register WORDS`` with it; ``-m rrl_register`` before
the words is passed over, so that a script that starts this starts the program.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from rrl_register.exchange.registration import Registration
from rrl_register.raster.reader import open_info

ELSEWHERE = "ELSEWHERE"
"""Name of a moving image that nothing is found for."""


def known_search(known: Registration) -> Callable[..., Registration]:
    """Stand in for ``register``: the known result, on the images' own grids."""

    def register(fixed: Path, moving: Path, *arguments: object, **more: object) -> Registration:
        grids = {"fixed_grid": open_info(fixed).grid, "moving_grid": open_info(moving).grid}
        if moving.name == ELSEWHERE:
            return replace(known, **grids, status="failed", reason="another place", matrix=None)
        return replace(known, **grids)

    return register


def main() -> None:
    """Runs the program with the known search alone: what the search needs is not even imported."""
    pipeline = ModuleType("rrl_register.pipeline.register")
    pipeline.register = known_search(pickle.loads(Path(sys.argv[1]).read_bytes()))  # type: ignore[attr-defined]
    sys.modules[pipeline.__name__] = pipeline
    from rrl_register.cli import main as program

    words = sys.argv[2:]
    program(words[2:] if words[:2] == ["-m", "rrl_register"] else words, prog_name="rrl-register")


if __name__ == "__main__":
    main()

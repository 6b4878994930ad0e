"""Command line of every baseline: ``python METHOD.py FIXED MOVING RESULT.json``.

RESULT.json holds ``status`` ("ok" or "failed"), ``reason``, ``matrix`` (3 x 3, moving -> fixed pixels, (x, y), (0, 0) =
centre of the top-left pixel; null where it failed) and ``n_inliers`` (null where a method has none).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from images import Image, Matrix, prior, read_image, warped


@dataclass(frozen=True)
class Found:
    """Result of a method.

    Attributes:
        matrix: (3, 3), moving -> fixed pixels; None where it refuses.
        n_inliers: Matches that agree with it; None where a method has none.
        reason: Why it refuses.
    """

    matrix: Matrix | None
    n_inliers: int | None = None
    reason: str = ""


Register = Callable[[Image, Image], Found]


def run(register: Register, description: str | None) -> None:
    """Read the arguments and both images, register, write the result."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", type=Path, metavar="FIXED")
    parser.add_argument("moving", type=Path, metavar="MOVING")
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    arguments = parser.parse_args()
    try:
        found = register(read_image(arguments.fixed), read_image(arguments.moving))
    except ValueError as error:
        found = Found(None, reason=str(error))
    result = {
        "status": "failed" if found.matrix is None else "ok",
        "reason": found.reason,
        "matrix": None if found.matrix is None else np.asarray(found.matrix, float).tolist(),
        "n_inliers": found.n_inliers,
    }
    arguments.result.write_text(json.dumps(result))


def on_one_grid(register: Register) -> Register:
    """Put the moving image on the fixed one's grid, as far as is known beforehand, for methods that need that."""

    def registered(fixed: Image, moving: Image) -> Found:
        """Register the moving image from its prior position."""
        known = prior(fixed, moving)
        if fixed.grey.shape != moving.grey.shape or not np.allclose(known, np.eye(3)):
            moving = warped(moving, known, fixed.grey.shape)
        if not (fixed.valid & moving.valid).any():
            return Found(None, reason="the images do not overlap")
        found = register(fixed, moving)
        return found if found.matrix is None else replace(found, matrix=found.matrix @ known)

    return registered

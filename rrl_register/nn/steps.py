"""How numbers are written in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 255
"""Steps of a byte."""
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Step:
    """How numbers are written in bytes: ``(byte - zero) * scale``.

    Attributes:
        scale: Of all channels, or ``(C,)`` of each.
        zero: The byte of 0.
    """

    scale: float | Floats
    zero: int

    @classmethod
    def spanning(cls, low: float, high: float) -> Step:
        """The finest for numbers between two, one of which may be 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max(high - low, 1e-6) / LEVELS
        return cls(scale, round(-low / scale))

    @classmethod
    def up_to(cls, high: float, zero: int) -> Step:
        """For numbers from 0 up, with a zero that is given."""
        return cls(max(high, 1e-6) / (LEVELS - zero), zero)

"""Variants of RRL-Net: its width, its attention, and the comparison of two patches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from rrl_register.errors import InputError
from rrl_register.nn.encoder import STAGE_CHANNELS

FEWEST_CHANNELS = 4
"""Channels of the narrowest stage at any width."""
LARGEST_WIDTH = 16.0
"""Wider networks need gigabytes for their weights alone."""


class InteractionKind(StrEnum):
    """The comparison of two patches."""

    FIL = "fil"
    """Feature interaction learning: each patch gates the other (arXiv 2403.11751)."""
    DIFFERENCE = "difference"
    """The positive parts of both differences, without weights: the baseline of FIL."""


@dataclass(frozen=True)
class Architecture:
    """Architecture of an ``RRLNet``; the default is the paper's.

    Attributes:
        width: Channels as a multiple of the paper's 16, 32, 64, 128, 256.
        attention: MGLA in encoders and decoders.
        interaction: Comparison of two patches.

    Raises:
        InputError: If no network can be built from a value.
    """

    width: float = 1.0
    attention: bool = True
    interaction: InteractionKind = InteractionKind.FIL

    def __post_init__(self) -> None:
        width, attention = self.width, self.attention
        if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0 < width <= LARGEST_WIDTH:
            raise InputError(f"architecture: width {width!r}, a number above 0 and up to {LARGEST_WIDTH:g} needed")
        if not isinstance(attention, bool):
            raise InputError(f"architecture: attention {attention!r}, true or false needed")
        if self.interaction not in list(InteractionKind):
            raise InputError(f"architecture: interaction {self.interaction!r}, {' or '.join(InteractionKind)} needed")
        object.__setattr__(self, "width", float(width))
        object.__setattr__(self, "interaction", InteractionKind(self.interaction))

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the five stages, at least 4 each."""
        return tuple(max(FEWEST_CHANNELS, math.floor(self.width * c + 0.5)) for c in STAGE_CHANNELS)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """Read the output of ``to_dict``; keys left out keep the paper's values.

        Raises:
            InputError: If ``values`` is no mapping, or has an unknown key or value.
        """
        known = [f.name for f in fields(cls)]
        if not isinstance(values, Mapping):
            raise InputError(f"architecture: {values!r}, a mapping of {', '.join(known)} needed")
        unknown = sorted(str(key) for key in values if key not in known)
        if unknown:
            raise InputError(f"architecture: unknown {', '.join(unknown)}; known are {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, float | bool | str]:
        """Return plain values for files: ``{"width": 1.0, "attention": True, "interaction": "fil"}``."""
        return {**asdict(self), "interaction": self.interaction.value}


PAPER = Architecture()
"""The paper's network."""

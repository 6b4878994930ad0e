"""What became of one scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OK, FAILED = "ok", "failed"

FIGURES = (
    "model",
    "n_tie_points",
    "n_inliers",
    "rmse_px",
    "check_rmse_px",
    "uncertainty_px",
    "confidence",
    "fixed_kind",
    "moving_kind",
    "support_px",
)
"""Fields of a ``Registration`` that the journal and the summary repeat."""


@dataclass(frozen=True)
class Outcome:
    """What became of one scene.

    Attributes:
        id: Of the scene.
        status: ``ok`` or ``failed``.
        reason: Why it failed, in one line with what to try; empty if it did not.
        exit_code: What ``rrl-register register`` would have ended with.
        seconds: That it took.
        figures: Value, or None, of each of ``FIGURES``.
        traceback: Where an error arose that nobody foresaw; else empty.
    """

    id: str
    status: str
    reason: str = ""
    exit_code: int = 0
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(FIGURES))
    traceback: str = ""

    @property
    def ok(self) -> bool:
        """Whether the scene was registered."""
        return self.status == OK

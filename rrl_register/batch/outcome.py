"""Outcome of one scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OK, FAILED = "ok", "failed"
CRASHED = 1
"""Exit code of a bug or of a process that died."""

FIGURES = (
    "model", "n_tie_points", "n_inliers", "rmse_px", "check_rmse_px", "uncertainty_px", "confidence",
    "fixed_kind", "moving_kind", "support_px",
)  # fmt: skip
"""Fields of a ``Registration`` that journal and summary repeat."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of one scene.

    Attributes:
        id: Id of the scene.
        status: ``ok`` or ``failed``.
        reason: Reason of a failure and a remedy, in one line; else empty.
        exit_code: Exit code of ``rrl-register register`` for this scene.
        seconds: Time that it took.
        figures: Value, or None, of each of ``FIGURES``.
        traceback: Traceback of an unexpected error; else empty.
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
        """True if the scene was registered."""
        return self.status == OK

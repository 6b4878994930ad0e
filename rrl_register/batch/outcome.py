"""Outcomes: of one scene, and of a batch in its summary."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rrl_register.batch.manifest import BatchItem
from rrl_register.config import __version__

SUMMARY_FILE = "summary.json"
SUMMARY_SCHEMA = 1
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


def outputs_of(name: str, folder: Path) -> tuple[Path, Path]:
    """Return the paths of a scene's raster and RESULT.json."""
    return folder / f"{name}.tif", folder / f"{name}.json"


@dataclass(frozen=True)
class Summary:
    """Summary of a batch.

    Attributes:
        folder: Output folder.
        source: Source of the scenes.
        pairs: Each scene and its outcome, in the order of the manifest.
    """

    folder: Path
    source: str
    pairs: tuple[tuple[BatchItem, Outcome], ...]

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Outcomes of the scenes that were not registered."""
        return tuple(outcome for _, outcome in self.pairs if not outcome.ok)

    def counts(self) -> dict[str, int]:
        """Count the scenes: all, registered and failed."""
        found = Counter(outcome.status for _, outcome in self.pairs)
        return {"total": len(self.pairs), OK: found[OK], FAILED: found[FAILED]}

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``summary.json``, in JSON's types."""
        return {
            "schema": SUMMARY_SCHEMA,
            "version": __version__,
            "manifest": self.source,
            "counts": self.counts(),
            "pairs": [self._pair(scene, outcome) for scene, outcome in self.pairs],
        }

    def _pair(self, scene: BatchItem, outcome: Outcome) -> dict[str, Any]:
        raster, result = outputs_of(scene.id, self.folder)
        return {
            "id": scene.id,
            "status": outcome.status,
            "reason": outcome.reason,
            "exit_code": outcome.exit_code,
            "fixed": str(scene.fixed),
            "moving": str(scene.moving),
            "output": raster.name if outcome.ok else None,
            "result": result.name if result.exists() else None,
            "seconds": outcome.seconds,
            **outcome.figures,
        }

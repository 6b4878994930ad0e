"""Summary of a batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrl_register.batch.manifest import BatchItem
from rrl_register.batch.outcome import FAILED, OK, Outcome
from rrl_register.batch.work import outputs_of
from rrl_register.config import __version__

FILE_NAME = "summary.json"
SCHEMA = 1


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
            "schema": SCHEMA,
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

"""FPR95 and AUC of the network and of its descriptor, of all pairs and by scene."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrl_register.training.evaluation.patch_set import Flags
from rrl_register.training.metrics import auc, fpr95

Row = dict[str, Any]

_DIGITS = 4


@dataclass(frozen=True)
class Scores:
    """Scores of ``N`` pairs.

    Attributes:
        labels: (N,) bool, true for matching pairs.
        network: (N,) the network's probabilities.
        descriptor: (N,) cosines of the descriptors.
        scenes: (N,) name of the scene of each pair; None if unknown.
    """

    labels: Flags
    network: NDArray[np.float32]
    descriptor: NDArray[np.float32]
    scenes: NDArray[np.str_] | None = None

    def subset(self, chosen: Flags) -> Scores:
        """Select pairs by a mask (N,)."""
        scenes = None if self.scenes is None else self.scenes[chosen]
        return Scores(self.labels[chosen], self.network[chosen], self.descriptor[chosen], scenes)

    @property
    def has_both_classes(self) -> bool:
        """True if there are matching and non-matching pairs."""
        return bool(self.labels.any() and not self.labels.all())


def figures(scores: Scores) -> Row:
    """Compute numbers of pairs, FPR95 (per cent) and AUC (0 to 1); None if all pairs are of one class."""
    counts: Row = {"n": len(scores.labels), "n_matching": int(scores.labels.sum())}
    names = ("fpr95", "auc", "descriptor_fpr95", "descriptor_auc")
    if not scores.has_both_classes:
        return {**counts, **dict.fromkeys(names)}
    values = (measure(scores.labels, by) for by in (scores.network, scores.descriptor) for measure in (fpr95, auc))
    return {**counts, **{name: round(value, _DIGITS) for name, value in zip(names, values, strict=True)}}


def scene_rows(scores: Scores) -> list[Row]:
    """Compute the figures of each scene, sorted by name; empty if scenes are unknown."""
    if scores.scenes is None:
        return []
    return [{"name": str(name), **figures(scores.subset(scores.scenes == name))} for name in np.unique(scores.scenes)]


def mean_figures(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, float | None]:
    """Average figures over the rows that have them, such as the per-scene FPR95."""
    listed = list(rows)
    known = {key: [row[key] for row in listed if row[key] is not None] for key in keys}
    return {key: round(float(np.mean(values)), _DIGITS) if values else None for key, values in known.items()}

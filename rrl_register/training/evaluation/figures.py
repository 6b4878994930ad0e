"""From scores to figures: FPR95 and AUC of the network and of its descriptor, in all and scene by scene."""

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
    """What was said of some pairs.

    Attributes:
        labels: (N,) whether a pair matches.
        network: (N,) the network's probabilities.
        descriptor: (N,) cosines of the descriptors.
        scenes: (N,) name of the scene of each pair; None: not known.
    """

    labels: Flags
    network: NDArray[np.float32]
    descriptor: NDArray[np.float32]
    scenes: NDArray[np.str_] | None = None

    def subset(self, chosen: Flags) -> Scores:
        """Those of the chosen pairs, (N,) bool."""
        scenes = None if self.scenes is None else self.scenes[chosen]
        return Scores(self.labels[chosen], self.network[chosen], self.descriptor[chosen], scenes)

    @property
    def has_both_classes(self) -> bool:
        """Whether there is a curve at all."""
        return bool(self.labels.any() and not self.labels.all())


def figures(scores: Scores) -> Row:
    """Numbers of pairs, FPR95 (per cent) and AUC (0 to 1); null where the pairs are of one class."""
    counts: Row = {"n": len(scores.labels), "n_matching": int(scores.labels.sum())}
    names = ("fpr95", "auc", "descriptor_fpr95", "descriptor_auc")
    if not scores.has_both_classes:
        return {**counts, **dict.fromkeys(names)}
    values = (measure(scores.labels, by) for by in (scores.network, scores.descriptor) for measure in (fpr95, auc))
    return {**counts, **{name: round(value, _DIGITS) for name, value in zip(names, values, strict=True)}}


def scene_rows(scores: Scores) -> list[Row]:
    """Figures of each scene, in the order of their names; empty where scenes are not known."""
    if scores.scenes is None:
        return []
    return [{"name": str(name), **figures(scores.subset(scores.scenes == name))} for name in np.unique(scores.scenes)]


def mean_figures(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, float | None]:
    """Plain means over rows, such as the mean of the per-scene FPR95; rows without a figure do not count."""
    listed = list(rows)
    known = {key: [row[key] for row in listed if row[key] is not None] for key in keys}
    return {key: round(float(np.mean(values)), _DIGITS) if values else None for key, values in known.items()}

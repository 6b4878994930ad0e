"""FPR95, the measure of patch matching, and the ROC curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

RECALL = 0.95
"""True-positive rate of FPR95."""


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return false- and true-positive rates at every distinct score, from (0, 0) to (1, 1); ties share a point.

    Args:
        labels: ``(N,)``, non-zero where the pair matches.
        scores: ``(N,)``, higher for more likely matches.

    Raises:
        ValueError: If the lengths differ, a score is NaN, or one of the two classes is empty.
    """
    positive, value = np.asarray(labels).astype(bool), np.asarray(scores, float)
    if positive.shape != value.shape or positive.ndim != 1:
        raise ValueError(f"labels {positive.shape} and scores {value.shape}: two vectors of one length needed")
    if np.isnan(value).any():
        raise ValueError("scores contain NaN")
    if positive.all() or not positive.any():
        raise ValueError(f"{positive.sum()} of {positive.size} pairs match: both classes are needed")
    order = np.argsort(-value, kind="stable")
    last_of_tie = np.r_[value[order][1:] != value[order][:-1], True]
    true = np.cumsum(positive[order])[last_of_tie]
    false = np.cumsum(~positive[order])[last_of_tie]
    return np.r_[0, false / false[-1]], np.r_[0, true / true[-1]]


def fpr95(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the false-positive rate, per cent, at the true-positive rate 0.95, the ROC curve interpolated linearly.

    Raises:
        ValueError: As ``roc_curve``.
    """
    false, true = roc_curve(labels, scores)
    at = int(np.searchsorted(true, RECALL))
    if true[at] == RECALL or at == 0:
        return float(100 * false[at])
    part = (RECALL - true[at - 1]) / (true[at] - true[at - 1])
    return float(100 * (false[at - 1] + part * (false[at] - false[at - 1])))


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve: the chance that a matching pair scores above another; a tie counts half.

    Raises:
        ValueError: As ``roc_curve``.
    """
    false, true = roc_curve(labels, scores)
    return float(np.trapezoid(true, false))

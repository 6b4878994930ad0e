"""FPR95, and its measurement on pairs that training never sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.training.bank import SIMULATED
from rrl_register.training.sampling import PatchBatch, PatchSampler

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


VALIDATION_BATCH = 64


def draw_validation(sampler: PatchSampler, batches: int) -> dict[str, list[PatchBatch]]:
    """Draw a fixed set of batches of each group whose second spectrum is not simulated."""
    groups = [group for group in sampler.groups if not group.endswith(SIMULATED)]
    return {g: [sampler.draw(VALIDATION_BATCH, g) for _ in range(batches)] for g in groups}


@torch.no_grad()
def validate(net: RRLNet, batches: Mapping[str, Sequence[PatchBatch]], metric: bool) -> dict[str, float]:
    """Return FPR95 by group, per cent, named ``<group>/descriptor_far`` and so on.

    Scores are those of the descriptor and, if ``metric``, of the network (``match_far``, ``match_near``); negatives are
    distant places and near misses.
    """
    net.eval()
    result: dict[str, float] = {}
    for group, drawn in batches.items():
        scores = [_scores(net, batch, metric) for batch in drawn]
        for scorer in ("descriptor", "match") if metric else ("descriptor",):
            right = torch.cat([s[scorer] for s in scores])
            for kind in ("far", "near"):
                wrong = torch.cat([s[f"{scorer}_{kind}"] for s in scores])
                labels = [1] * len(right) + [0] * len(wrong)
                result[f"{group}/{scorer}_{kind}"] = round(fpr95(labels, torch.cat([right, wrong]).numpy()), 2)
    net.train()
    return result


def score_of(figures: Mapping[str, float]) -> float:
    """Return the score of weights, lower is better: the mean FPR95 over groups and kinds of negatives.

    It is the network's if that was validated, else the descriptor's.
    """
    match = [value for name, value in figures.items() if "/match_" in name]
    chosen = match or list(figures.values())
    return sum(chosen) / len(chosen)


def _scores(net: RRLNet, batch: PatchBatch, metric: bool) -> dict[str, torch.Tensor]:
    n = len(batch.visible)
    visible = net.encode(batch.visible, Spectrum.VISIBLE)
    moving = net.encode(torch.cat([batch.other, batch.near]), Spectrum.OTHER)
    rows = torch.arange(n, device=visible.descriptors.device)
    far = torch.roll(rows, n // 2)
    similarity = visible.descriptors @ moving.descriptors.T
    scores = {
        "descriptor": similarity[rows, rows],
        "descriptor_far": similarity[rows, far],
        "descriptor_near": similarity[rows, rows + n],
    }
    if metric:
        pairs = {"match": rows, "match_far": far, "match_near": rows + n}
        scores |= {name: net.logits(visible, moving, rows, right) for name, right in pairs.items()}
    return {name: value.float().cpu() for name, value in scores.items()}

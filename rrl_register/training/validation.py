"""FPR95 on pairs that training never sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rrl_register.nn import RRLNet, Spectrum
from rrl_register.training.metrics import fpr95
from rrl_register.training.sampling import PatchBatch, PatchSampler

VALIDATION_BATCH = 64


def draw_validation(sampler: PatchSampler, groups: Sequence[str], batches: int) -> dict[str, list[PatchBatch]]:
    """A fixed set of batches of each group."""
    return {g: [sampler.draw(VALIDATION_BATCH, g) for _ in range(batches)] for g in groups}


@torch.no_grad()
def validate(net: RRLNet, batches: dict[str, list[PatchBatch]], metric: bool) -> dict[str, float]:
    """FPR95 by group, per cent: of the descriptor and, if ``metric``, of the network, far and near negatives."""
    net.eval()
    result: dict[str, float] = {}
    for group, drawn in batches.items():
        scores = [_scores(net, b, metric) for b in drawn]
        for name in scores[0]:
            right = torch.cat([s["descriptor" if name.startswith("descriptor") else "match"] for s in scores])
            if name in ("descriptor", "match"):
                continue
            wrong = torch.cat([s[name] for s in scores])
            labels = [1] * len(right) + [0] * len(wrong)
            result[f"{group}/{name}"] = round(fpr95(labels, torch.cat([right, wrong]).numpy()), 2)
    net.train()
    return result


def _scores(net: RRLNet, batch: PatchBatch, metric: bool) -> dict[str, torch.Tensor]:
    n = len(batch.visible)
    visible = net.encode(batch.visible, Spectrum.VISIBLE)
    moving = net.encode(torch.cat([batch.other, batch.near]), Spectrum.OTHER)
    far = torch.roll(torch.arange(n), n // 2)
    similarity = visible.descriptors @ moving.descriptors.T
    rows = torch.arange(n)
    scores = {
        "descriptor": similarity[rows, rows].float().cpu(),
        "descriptor_far": similarity[rows, far].float().cpu(),
        "descriptor_near": similarity[rows, rows + n].float().cpu(),
    }
    if metric:
        scores["match"] = net.logits(visible, moving[rows]).cpu()
        scores["match_far"] = net.logits(visible, moving[far]).cpu()
        scores["match_near"] = net.logits(visible, moving[rows + n]).cpu()
    return scores

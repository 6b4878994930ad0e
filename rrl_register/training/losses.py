"""Losses of RRL-Net's training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rrl_register.nn.aggregation import HeadLogits


def descriptor_loss(visible: Tensor, other: Tensor, near: Tensor, ignore: Tensor, temperature: float) -> Tensor:
    """Softmax over the batch in both directions (InfoNCE), near misses as further negatives.

    Args:
        visible: Unit descriptors ``(N, D)``.
        other: Those of the patches that match.
        near: Those of the near misses.
        ignore: ``(N, N)`` bool, pairs that are no negatives although they differ in number.
        temperature: Divides the similarities.
    """
    target = torch.arange(len(visible), device=visible.device)
    similarity = visible @ other.T
    hidden = similarity.masked_fill(ignore & ~torch.eye(len(visible), dtype=torch.bool, device=visible.device), -1e4)
    beside = (visible * near).sum(1, keepdim=True)
    forward = functional.cross_entropy(torch.cat([hidden, beside], 1) / temperature, target)
    return (forward + functional.cross_entropy(hidden.T / temperature, target)) / 2


def hard_negatives(visible: Tensor, other: Tensor, ignore: Tensor, top: int, generator: torch.Generator) -> Tensor:
    """For each visible patch one of the ``top`` most similar wrong others, drawn at random; indices ``(N,)``.

    Where fewer than ``top`` are not ignored, one of those.
    """
    hidden = -2.0  # below any similarity of unit vectors
    best = (visible @ other.T).masked_fill(ignore, hidden).topk(min(top, len(other) - 1), dim=1)
    count = (best.values > hidden).sum(1).clamp(min=1)
    drawn = (torch.rand(len(count), generator=generator).to(count.device) * count).long()
    return best.indices.gather(1, drawn[:, None])[:, 0]


def match_loss(logits: Tensor, heads: HeadLogits, labels: Tensor, head_weight: float) -> Tensor:
    """Binary cross-entropy of the network and, weighted, of its MLPP heads."""
    loss = functional.binary_cross_entropy_with_logits(logits, labels)
    for extra in (*heads.stages, *heads.modules):
        loss = loss + head_weight * functional.binary_cross_entropy_with_logits(extra.float(), labels)
    return loss


def reconstruction_loss(rebuilt: Tensor, patches: Tensor, pixel_weight: float = 0.1) -> Tensor:
    """Mean absolute difference of gradients at three scales, plus ``pixel_weight`` times the pixel mean square.

    The paper's perceptual term compares VGG-19 features; this one needs no foreign weights.
    """
    rebuilt = rebuilt.float()
    loss = pixel_weight * functional.mse_loss(rebuilt, patches)
    for scale in (1, 2, 4):
        a, b = functional.avg_pool2d(rebuilt, scale), functional.avg_pool2d(patches, scale)
        loss = loss + (a.diff(dim=2) - b.diff(dim=2)).abs().mean() + (a.diff(dim=3) - b.diff(dim=3)).abs().mean()
    return loss

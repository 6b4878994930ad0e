"""Losses of RRL-Net's training."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from rrl_register.errors import UsageError
from rrl_register.nn.aggregation import HeadLogits

_SCALES = (1, 2, 4)
_SSIM_WINDOW = 7


class Reconstruction(StrEnum):
    """Measure between rebuilt and true patches, beside a tenth of their mean square difference.

    The paper compares features of a pretrained VGG-19; ``GRADIENT`` and ``SSIM`` (structural similarity, from kornia)
    need no foreign weights. ``PIXEL`` takes the mean square difference alone.
    """

    GRADIENT = "gradient"
    SSIM = "ssim"
    PIXEL = "pixel"


def descriptor_loss(visible: Tensor, other: Tensor, near: Tensor | None, ignore: Tensor, temperature: float) -> Tensor:
    """Return the softmax loss over the batch in both directions (InfoNCE), with near misses as further negatives.

    Args:
        visible: Unit descriptors ``(N, D)``.
        other: Descriptors of the matching patches.
        near: Descriptors of the near misses; None: there are none.
        ignore: ``(N, N)`` bool, pairs off the diagonal that are no negatives.
        temperature: Divides the similarities.
    """
    target = torch.arange(len(visible), device=visible.device)
    similarity = visible @ other.T
    hidden = similarity.masked_fill(ignore & ~torch.eye(len(visible), dtype=torch.bool, device=visible.device), -1e4)
    beside = [] if near is None else [(visible * near).sum(1, keepdim=True)]
    forward = functional.cross_entropy(torch.cat([hidden, *beside], 1) / temperature, target)
    return (forward + functional.cross_entropy(hidden.T / temperature, target)) / 2


def hard_negatives(visible: Tensor, other: Tensor, ignore: Tensor, top: int, generator: torch.Generator) -> Tensor:
    """Draw for each visible patch one of the ``top`` most similar wrong others; indices ``(N,)``.

    If fewer than ``top`` are not ignored, draw one of those.
    """
    hidden = -2.0  # below any similarity of unit vectors
    best = (visible @ other.T).masked_fill(ignore, hidden).topk(min(top, len(other) - 1), dim=1)
    count = (best.values > hidden).sum(1).clamp(min=1)
    drawn = (torch.rand(len(count), generator=generator).to(count.device) * count).long()
    return best.indices.gather(1, drawn[:, None])[:, 0]


def match_loss(logits: Tensor, heads: HeadLogits, labels: Tensor, stage_weight: float, module_weight: float) -> Tensor:
    """Return the binary cross-entropy of the network plus, weighted, that of its MLPP heads on stages and modules."""
    loss = functional.binary_cross_entropy_with_logits(logits, labels)
    for weight, extras in ((stage_weight, heads.stages), (module_weight, heads.modules)):
        for extra in extras:
            loss = loss + weight * functional.binary_cross_entropy_with_logits(extra.float(), labels)
    return loss


def reconstruction_loss(
    rebuilt: Tensor, patches: Tensor, kind: Reconstruction = Reconstruction.GRADIENT, pixel_weight: float = 0.1
) -> Tensor:
    """Compare rebuilt patches with the patches, both ``(N, 1, 64, 64)``, by ``kind`` and by pixel mean square.

    Raises:
        UsageError: If ``kind`` needs kornia and it is not installed.
    """
    rebuilt = rebuilt.float()
    pixels = functional.mse_loss(rebuilt, patches)
    if kind is Reconstruction.PIXEL:
        return pixels
    compare = _gradient_difference if kind is Reconstruction.GRADIENT else _structural_difference
    loss = pixel_weight * pixels
    for scale in _SCALES:
        loss = loss + compare(functional.avg_pool2d(rebuilt, scale), functional.avg_pool2d(patches, scale))
    return loss


def _gradient_difference(one: Tensor, other: Tensor) -> Tensor:
    return (one.diff(dim=2) - other.diff(dim=2)).abs().mean() + (one.diff(dim=3) - other.diff(dim=3)).abs().mean()


def _structural_difference(one: Tensor, other: Tensor) -> Tensor:
    try:
        from kornia.losses import ssim_loss
    except ImportError as error:
        raise UsageError(
            "losses.reconstruction_kind 'ssim' needs kornia, which is not installed: "
            "pip install 'rrl-register[train]', or take 'gradient'"
        ) from error
    loss: Tensor = ssim_loss(one, other, _SSIM_WINDOW)
    return loss

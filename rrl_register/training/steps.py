"""Losses, and the loss of one training step of each phase."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rrl_register.errors import UsageError
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.relation import HeadLogits
from rrl_register.nn.rrlnet import PatchFeatures, RRLNet
from rrl_register.training.augmentation import Radiometry
from rrl_register.training.config import LossConfig, Reconstruction
from rrl_register.training.sampling import PatchBatch

_SCALES = (1, 2, 4)
_SSIM_WINDOW = 7


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


NEAR_SHARE_OF_DESCRIPTORS = 3
"""One in so many descriptors has a near miss: each costs a run of the encoder."""


@dataclass(frozen=True)
class Losses:
    """The loss and its parts for the log, numbers on the device (reading one waits for it)."""

    total: Tensor
    parts: dict[str, Tensor]


def descriptor_step(net: RRLNet, batch: PatchBatch, radiometry: Radiometry, config: LossConfig) -> Losses:
    """Return the loss of encoders and descriptor heads alone, several times cheaper than that of whole pairs."""
    n = len(batch.visible)
    visible = net.describe(radiometry.visible(batch.visible), Spectrum.VISIBLE)
    some = n // NEAR_SHARE_OF_DESCRIPTORS if config.near_misses else 0
    moving = torch.cat([batch.other, batch.near[:some]])
    moving = net.describe(radiometry.other(moving, batch.family), Spectrum.OTHER)
    other = moving[:n]
    # Near misses are padded to the batch with descriptors that resemble nothing.
    near = torch.cat([moving[n:], torch.zeros_like(other[some:])]) if some else None
    loss = descriptor_loss(visible, other, near, batch.too_close(), config.temperature)
    accuracy = (visible @ other.T).argmax(1) == torch.arange(n, device=visible.device)
    return Losses(loss, {"descriptor": loss.detach(), "top1": accuracy.float().mean()})


def joint_step(
    net: RRLNet, batch: PatchBatch, radiometry: Radiometry, config: LossConfig, generator: torch.Generator
) -> Losses:
    """Return the loss of all: descriptors, metric network on positives, negatives and near misses, heads, decoders."""
    n = len(batch.visible)
    altered_visible = radiometry.visible(batch.visible)
    moving_patches = torch.cat([batch.other, batch.near]) if config.near_misses else batch.other
    altered_other = radiometry.other(moving_patches, batch.family)
    visible = net.encode(altered_visible, Spectrum.VISIBLE)
    moving = net.encode(altered_other, Spectrum.OTHER)
    ignore = batch.too_close()
    top = config.hard_top if config.hard_negatives else n
    with torch.no_grad():
        wrong = hard_negatives(visible.descriptors, moving.descriptors[:n], ignore, top, generator)
    logits, heads = _score(net, visible, moving, wrong, bool(config.stage_heads or config.module_heads))
    labels = torch.cat([torch.ones(n), torch.zeros(len(logits) - n)]).to(logits.device)
    parts = {"match": match_loss(logits, heads, labels, config.stage_heads, config.module_heads)}
    total = parts["match"]
    if config.descriptor:
        other, near = moving.descriptors[:n], moving.descriptors[n:]
        parts["descriptor"] = descriptor_loss(
            visible.descriptors, other, near if config.near_misses else None, ignore, config.temperature
        )
        total = total + config.descriptor * parts["descriptor"]
    if config.reconstruction:
        some, kind = slice(0, max(2, int(n * config.reconstructed_share))), config.reconstruction_kind
        visible_loss = reconstruction_loss(net.reconstruct(visible[some]), altered_visible[some], kind)
        parts["reconstruction"] = visible_loss + reconstruction_loss(
            net.reconstruct(moving[some]), altered_other[some], kind
        )
        total = total + config.reconstruction * parts["reconstruction"]
    hits = ((logits.detach() > 0) == (labels > 0.5)).float()
    parts |= {"recall": hits[:n].mean(), "rejected": hits[n:].mean()}
    return Losses(total, {name: part.detach() for name, part in parts.items()})


def _score(
    net: RRLNet, visible: PatchFeatures, moving: PatchFeatures, wrong: Tensor, heads: bool
) -> tuple[Tensor, HeadLogits]:
    """Return the logits of positives, then of negatives; ``moving`` holds the true patches, then any near misses."""
    n = len(visible)
    rows = torch.arange(n, device=wrong.device)
    left, right = [rows, rows], [rows, wrong]
    if len(moving) > n:
        left.append(rows)
        right.append(rows + n)
    chosen, others = visible[torch.cat(left)], moving[torch.cat(right)]
    return net.training_logits(chosen, others) if heads else (net.logits(chosen, others), HeadLogits([], []))

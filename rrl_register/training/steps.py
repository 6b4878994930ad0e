"""Losses of one training step of each phase."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rrl_register.nn.aggregation import HeadLogits
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import PatchFeatures, RRLNet
from rrl_register.training.augmentation import Radiometry
from rrl_register.training.config import LossConfig
from rrl_register.training.losses import descriptor_loss, hard_negatives, match_loss, reconstruction_loss
from rrl_register.training.sampling import PatchBatch

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
    other, near = moving[:n], moving[n:]
    ignore = batch.too_close()
    loss = descriptor_loss(visible, other, _padded(near, other), ignore, config.temperature)
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
    wrong = _negatives(visible.descriptors, moving.descriptors[:n], ignore, config, generator)
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
        parts["reconstruction"] = _reconstruction(net, visible, moving, altered_visible, altered_other, config)
        total = total + config.reconstruction * parts["reconstruction"]
    hits = ((logits.detach() > 0) == (labels > 0.5)).float()
    parts |= {"recall": hits[:n].mean(), "rejected": hits[n:].mean()}
    return Losses(total, {name: part.detach() for name, part in parts.items()})


def _padded(near: Tensor, other: Tensor) -> Tensor | None:
    """Pad near-miss descriptors to the batch with ones that resemble nothing."""
    return torch.cat([near, torch.zeros_like(other[len(near) :])]) if len(near) else None


def _negatives(
    visible: Tensor, other: Tensor, ignore: Tensor, config: LossConfig, generator: torch.Generator
) -> Tensor:
    top = config.hard_top if config.hard_negatives else len(other)
    with torch.no_grad():
        return hard_negatives(visible, other, ignore, top, generator)


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


def _reconstruction(
    net: RRLNet, visible: PatchFeatures, moving: PatchFeatures, patches: Tensor, others: Tensor, config: LossConfig
) -> Tensor:
    some = slice(0, max(2, int(len(visible) * config.reconstructed_share)))
    kind = config.reconstruction_kind
    return reconstruction_loss(net.reconstruct(visible[some]), patches[some], kind) + reconstruction_loss(
        net.reconstruct(moving[some]), others[some], kind
    )

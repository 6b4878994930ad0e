"""One training step of each phase: from a batch of patches to a loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rrl_register.nn import PatchFeatures, RRLNet, Spectrum
from rrl_register.nn.aggregation import HeadLogits
from rrl_register.training.augmentation import Radiometry
from rrl_register.training.config import LossConfig
from rrl_register.training.losses import descriptor_loss, hard_negatives, match_loss, reconstruction_loss
from rrl_register.training.sampling import PatchBatch


@dataclass(frozen=True)
class Losses:
    """The loss to descend and its parts for the log."""

    total: Tensor
    parts: dict[str, float]


def descriptor_step(net: RRLNet, batch: PatchBatch, radiometry: Radiometry, config: LossConfig) -> Losses:
    """Trains encoders and descriptor heads alone: several times cheaper than whole pairs.

    Near misses of a third of the batch are encoded too: the positives and these share the other encoder's batch.
    """
    n = len(batch.visible)
    visible = net.describe(radiometry.visible(batch.visible), Spectrum.VISIBLE)
    some = n // 3
    moving = torch.cat([batch.other, batch.near[:some]])
    moving = net.describe(radiometry.other(moving, batch.family), Spectrum.OTHER)
    other, near = moving[:n], moving[n:]
    ignore = batch.too_close()
    loss = descriptor_loss(visible, other, _padded(near, other), ignore, config.temperature)
    accuracy = (visible @ other.T).argmax(1) == torch.arange(n, device=visible.device)
    return Losses(loss, {"descriptor": float(loss.detach()), "top1": float(accuracy.float().mean())})


def joint_step(
    net: RRLNet, batch: PatchBatch, radiometry: Radiometry, config: LossConfig, generator: torch.Generator
) -> Losses:
    """Trains everything: descriptor, metric network on positives, hard negatives and near misses, heads, decoders."""
    n = len(batch.visible)
    altered_visible = radiometry.visible(batch.visible)
    altered_other = radiometry.other(torch.cat([batch.other, batch.near]), batch.family)
    visible = net.encode(altered_visible, Spectrum.VISIBLE)
    moving = net.encode(altered_other, Spectrum.OTHER)
    other, near = moving[:n], moving[n:]
    ignore = batch.too_close()
    wrong = _negatives(visible, other, ignore, config, generator)
    logits, heads = _score(net, visible, moving, wrong, config.near_misses)
    labels = torch.cat([torch.ones(n), torch.zeros(len(logits) - n)]).to(logits.device)
    match = match_loss(logits, heads, labels, config.heads)
    describe = descriptor_loss(visible.descriptors, other.descriptors, near.descriptors, ignore, config.temperature)
    rebuilt = _reconstruction(net, visible, moving, altered_visible, altered_other, config)
    total = match + config.descriptor * describe + config.reconstruction * rebuilt
    hits = (logits.detach() > 0) == (labels > 0.5)
    parts = {
        "match": float(match.detach()),
        "descriptor": float(describe.detach()),
        "reconstruction": float(rebuilt.detach()),
        "recall": float(hits[:n].float().mean()),
        "rejected": float(hits[n:].float().mean()),
    }
    return Losses(total, parts)


def _padded(near: Tensor, other: Tensor) -> Tensor:
    """Near-miss descriptors for all of the batch: where none was encoded, one that resembles nothing."""
    return torch.cat([near, torch.zeros_like(other[len(near) :])])


def _negatives(
    visible: PatchFeatures, other: PatchFeatures, ignore: Tensor, config: LossConfig, generator: torch.Generator
) -> Tensor:
    top = config.hard_top if config.hard_negatives else len(other)
    with torch.no_grad():
        return hard_negatives(visible.descriptors, other.descriptors, ignore, top, generator)


def _score(
    net: RRLNet, visible: PatchFeatures, moving: PatchFeatures, wrong: Tensor, near_misses: bool
) -> tuple[Tensor, HeadLogits]:
    """Logits of the positives, then of all negatives; ``moving`` holds the right patches, then the near misses."""
    n = len(visible)
    rows = torch.arange(n, device=wrong.device)
    left, right = [rows, rows], [rows, wrong]
    if near_misses:
        left.append(rows)
        right.append(rows + n)
    return net.training_logits(visible[torch.cat(left)], moving[torch.cat(right)])


def _reconstruction(
    net: RRLNet, visible: PatchFeatures, moving: PatchFeatures, patches: Tensor, others: Tensor, config: LossConfig
) -> Tensor:
    if not config.reconstruction:
        return torch.zeros((), device=patches.device)
    some = slice(0, max(2, int(len(visible) * config.reconstructed_share)))
    return reconstruction_loss(net.reconstruct(visible[some]), patches[some]) + reconstruction_loss(
        net.reconstruct(moving[some]), others[some]
    )

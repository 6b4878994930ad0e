"""RRL-Net written as the paper draws it (arXiv 2403.11751): what the product's faster form is measured against.

It computes the same numbers from the same weights: batch norms by themselves, MGLA by permuted copies of the map, all
of FIL's features, and nothing kept from one pair to the next.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from rrl_register.nn.encoder import MGLA
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.relation import interact
from rrl_register.nn.rrlnet import PatchFeatures, RRLNet, standardise

DIMENSIONS = (1, 2, 3)
"""Channel, height and width of a map ``(N, C, H, W)``."""


class PlainMGLA(nn.Module):
    """MGLA as its recipe reads: for each dimension the map is turned until that dimension comes first.

    Args:
        attention: Whose parameters to share.
    """

    def __init__(self, attention: MGLA) -> None:
        super().__init__()
        self.local = nn.ModuleList([attention.local_channel, attention.local_height, attention.local_width])

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times its three gates; ``(N, C, H, W)`` in and out."""
        gated = x
        for dimension, local in zip(DIMENSIONS, self.local, strict=True):
            shape = [len(x), *(x.shape[d] if d == dimension else 1 for d in DIMENSIONS)]
            gated = gated * _gate(x, dimension, local).reshape(shape)
        return gated


def _gate(x: Tensor, dimension: int, local: nn.Module) -> Tensor:
    """Compute a dimension's gate ``(N, length)``."""
    others = [d for d in DIMENSIONS if d != dimension]
    along = x.permute(0, dimension, *others).contiguous().flatten(2)
    weights = along.mean(1, keepdim=True).softmax(2)
    gate: Tensor = torch.sigmoid(local((along * weights).sum(2)[:, None])[:, 0])
    return gate


def plain_form(network: RRLNet) -> RRLNet:
    """Copy a network, in evaluation mode, with plain attention and the layout that PyTorch has by itself."""
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, MGLA):
                setattr(module, name, PlainMGLA(child))
    return plain


def plain_encode(network: RRLNet, patches: Tensor, spectrum: Spectrum) -> PatchFeatures:
    """``RRLNet.encode`` of a plain network."""
    branch = network.branch(spectrum)
    stages = branch.encoder(standardise(patches).contiguous())
    gated = tuple(gate(stage) for gate, stage in zip(branch.gates, stages, strict=True))
    return PatchFeatures(spectrum, gated, branch.descriptor(stages[-1]), stages[-1])


def plain_relation(network: RRLNet, visible: PatchFeatures, other: PatchFeatures) -> Tensor:
    """Probabilities ``(N,)`` of pairs of encoded patches, with all that FIL computes."""
    interactions = [interact(a, b) for a, b in zip(visible.stages, other.stages, strict=True)]
    *_, last = network.aggregation(interactions)
    return torch.sigmoid(network.metric(last)[:, 0])

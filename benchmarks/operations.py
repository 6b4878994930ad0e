"""Operations that the network takes, counted and not timed: two for each multiplication with its addition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rrl_register.nn.encoder import PATCH_SIZE
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import PatchFeatures, RRLNet


@dataclass(frozen=True)
class Operations:
    """Operations of the network.

    Attributes:
        patch: To encode a patch.
        pair: To score a pair of encoded patches.
    """

    patch: float
    pair: float

    @classmethod
    def count(
        cls,
        encode: Callable[[Tensor, Spectrum], PatchFeatures],
        relate: Callable[[PatchFeatures, PatchFeatures], Tensor],
        patches: Tensor,
    ) -> Operations:
        """Count them while patches, ``(2, N, 1, 64, 64)``, are encoded and scored."""
        with FlopCounterMode(display=False) as encoding:
            features = encode(patches[0], Spectrum.VISIBLE), encode(patches[1], Spectrum.OTHER)
        with FlopCounterMode(display=False) as relating:
            relate(*features)
        n_pairs = patches.shape[1]
        return cls(encoding.get_total_flops() / (2 * n_pairs), relating.get_total_flops() / n_pairs)

    @classmethod
    def of_network(cls) -> Operations:
        """Count those of the network as it runs on a GPU; its weights do not matter."""
        network = RRLNet(training_heads=False).eval()
        with torch.inference_mode():
            return cls.count(network.encode, network.score, torch.rand(2, 2, 1, PATCH_SIZE, PATCH_SIZE))

"""RRL-Net run by PyTorch: descriptors of patches and probabilities of pairs, in batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rrl_register.config import Device
from rrl_register.errors import UsageError
from rrl_register.geometry.arrays import Patches
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.runtime import autocast, fastest_dtype, fold_batch_norms
from rrl_register.nn.weights import load_weights

PATCHES_PER_BATCH = {"cpu": 64, "cuda": 2048}
PAIRS_PER_BATCH = {"cpu": 32, "cuda": 2048}


class Scorer:
    """RRL-Net for inference.

    Args:
        weights: Weights file; None: those shipped.
        device: Device to run on.
        network: Used instead of weights; its batch norms are folded in place.
        name: Of the weights of ``network``.

    Raises:
        UsageError: If a GPU is requested and there is none.
        InputError: If the weights cannot be used.
    """

    def __init__(
        self,
        weights: Path | None = None,
        device: Device = Device.AUTO,
        network: RRLNet | None = None,
        name: str = "given",
    ) -> None:
        has_gpu = device is not Device.CPU and torch.cuda.is_available()
        if device is Device.CUDA and not has_gpu:
            raise UsageError(
                "--device cuda, but torch sees no GPU: take --device auto or cpu, or install torch with CUDA"
            )
        self.device = torch.device("cuda" if has_gpu else "cpu")
        net, self.name = (network, name) if network is not None else load_weights(weights)
        self._net = net.eval()
        fold_batch_norms(self._net)
        self._net.on(self.device, fastest_dtype(self.device) if self.device.type == "cuda" else None)
        self._batch = PATCHES_PER_BATCH[self.device.type]
        self._pairs = PAIRS_PER_BATCH[self.device.type]

    def describe(self, patches: Patches, spectrum: Spectrum) -> NDArray[np.float32]:
        """Return unit descriptors ``(N, 128)`` of patches ``(N, 1, 64, 64)``."""
        with torch.inference_mode(), autocast(self.device):
            parts = [
                self._net.describe(self._tensor(patches[i : i + self._batch]), spectrum).float().cpu()
                for i in range(0, len(patches), self._batch)
            ]
        return torch.cat(parts).numpy() if parts else np.empty((0, 128), np.float32)

    def score(
        self, visible: Patches, other: Patches, left: NDArray[np.int64], right: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Score pairs of patches.

        Pairs are taken in the order of ``left``, so that each visible patch is encoded once. Features of the other
        spectrum are held for one batch only, which bounds the memory.

        Args:
            visible: Patches ``(N, 1, 64, 64)``.
            other: Patches ``(M, 1, 64, 64)``.
            left: ``(P,)`` index of the visible patch of each pair.
            right: ``(P,)`` index of its patch of the other spectrum.

        Returns:
            Probabilities ``(P,)`` that the pairs match.
        """
        scores = np.empty(len(left), np.float32)
        order = np.argsort(left, kind="stable")
        with torch.inference_mode(), autocast(self.device):
            for i in range(0, len(order), self._pairs):
                rows = order[i : i + self._pairs]
                a, at_a = _distinct(left[rows])
                b, at_b = _distinct(right[rows])
                encoded = self._net.encode(self._tensor(visible[a]), Spectrum.VISIBLE)
                score = self._net.score(encoded, self._net.encode(self._tensor(other[b]), Spectrum.OTHER), at_a, at_b)
                scores[rows] = score.float().cpu().numpy()
        return scores

    def _tensor(self, patches: Patches) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(patches)).to(self.device)


def _distinct(index: NDArray[np.int64]) -> tuple[NDArray[np.int64], torch.Tensor | None]:
    """Return each patch once, and the place of each pair's; None if no two share one, so that nothing is copied."""
    patches, place = np.unique(index, return_inverse=True)
    return (index, None) if len(patches) == len(index) else (patches, torch.from_numpy(place))

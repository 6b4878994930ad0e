"""MGLA, multi-dimensional global-to-local attention (arXiv 2403.11751)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def mgla_kernel_size(length: int) -> int:
    """Return the width of the 1-D convolution along a dimension: int((log2 length + 1) / 2), plus 1 if even."""
    k = int((math.log2(length) + 1) / 2)
    return k if k % 2 else k + 1


class MGLA(nn.Module):
    """Gate a feature map along channel, height and width.

    For each dimension d: a softmax of the mean over d, taken over all its positions, makes global weights; the weighted
    sum over those positions is one number per index of d; a 1-D convolution along d captures local dependence; a
    sigmoid makes it a gate.

    The weighted sums are batched matrix-vector products that read a channels-last map in place, without a copy.

    Args:
        channels: Channels of the feature map.
        size: Height and width of the feature map, px.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.local_channel = _local(channels)
        self.local_height = _local(size)
        self.local_width = _local(size)

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gates of a map ``(N, C, H, W)``: ``(N, C)``, ``(N, H)`` and ``(N, W)``, values in (0, 1)."""
        n, c, h, w = x.shape
        last = x.permute(0, 2, 3, 1)
        over_channel = _soft(last.mean(3)).reshape(n, 1, h * w)
        over_height = _soft(last.mean(1)).reshape(n, w * c, 1)
        over_width = _soft(last.mean(2)).reshape(n * h, c, 1)
        by_channel = torch.bmm(over_channel, last.reshape(n, h * w, c)).reshape(n, c)
        by_height = torch.bmm(last.reshape(n, h, w * c), over_height).reshape(n, h)
        by_width = torch.bmm(last.reshape(n * h, w, c), over_width).reshape(n, h, w).sum(1)
        return (
            _gate(self.local_channel, by_channel),
            _gate(self.local_height, by_height),
            _gate(self.local_width, by_width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times its three gates; ``(N, C, H, W)`` in and out."""
        channel, height, width = self.gates(x)
        position = height[:, None, :, None] * width[:, None, None, :]
        return x * position * channel[:, :, None, None]


def _local(length: int) -> nn.Conv1d:
    k = mgla_kernel_size(length)
    return nn.Conv1d(1, 1, k, padding=k // 2, bias=False)


def _soft(mean: Tensor) -> Tensor:
    """Return the softmax over all positions of a map ``(N, A, B)``, computed in single precision."""
    return mean.flatten(1).softmax(1, dtype=torch.float32).to(mean.dtype).reshape(mean.shape)


def _gate(local: nn.Conv1d, values: Tensor) -> Tensor:
    """Return the gate of a dimension from its weighted sums ``(N, length)``; values in (0, 1)."""
    return torch.sigmoid(local(values[:, None])[:, 0]).to(values.dtype)

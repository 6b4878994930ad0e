"""The network's layers in the forms that a CPU computes fastest in single precision: the same numbers for inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rrl_register.nn.mgla import MGLA, gate, soft
from rrl_register.nn.winograd import quicken_convolutions

VALUES_PER_CHUNK = 2**19
"""Of a feature map: 2 MiB, which together with what is computed from them stay in the cache."""


class QuickMGLA(nn.Module):
    """MGLA, some patches at a time, so that the map is read from the cache again and again.

    The weighted sums over height and width are products and sums: as batched products of a matrix with one column, as
    ``MGLA`` has them, they are several times slower on a CPU, though better in half precision.

    Args:
        attention: The attention to stand in for; its parameters are shared.
    """

    def __init__(self, attention: MGLA) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``x`` times its three gates; ``(N, C, H, W)`` in and out, channels-last."""
        last = x.permute(0, 2, 3, 1).contiguous()
        out = torch.empty_like(last)
        patches = max(1, VALUES_PER_CHUNK // x.shape[1:].numel())
        for start in range(0, len(last), patches):
            self._gated(last[start : start + patches], out[start : start + patches])
        return out.permute(0, 3, 1, 2)

    def _gated(self, last: Tensor, out: Tensor) -> None:
        channel, height, width = self._gates(last)
        torch.mul(last, height[:, :, None, None] * width[:, None, :, None], out=out)
        out.mul_(channel[:, None, None, :])

    def _gates(self, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gates of a map ``(N, H, W, C)``, as ``MGLA.gates``."""
        n, h, w, c = last.shape
        over_channel = soft(torch.mv(last.reshape(-1, c), last.new_full((c,), 1 / c)).view(n, h * w))
        over_height = soft(torch.matmul(last.new_full((1, h), 1 / h), last.view(n, h, w * c)))
        over_width = soft(last.mean(2)).unsqueeze(2)
        by_channel = torch.bmm(over_channel.unsqueeze(1), last.view(n, h * w, c)).squeeze(1)
        by_height = (last.view(n, h, w * c) * over_height).sum(2)
        by_width = (last * over_width).sum(1).sum(2)
        attention = self.attention
        return (
            gate(attention.local_channel, by_channel),
            gate(attention.local_height, by_height),
            gate(attention.local_width, by_width),
        )


def quicken(network: nn.Module) -> nn.Module:
    """Replaces the attention and the wide convolutions of a network by their quick forms, in place.

    Args:
        network: With folded batch norms, on the CPU, in single precision; cannot be trained afterwards.

    Returns:
        The same network.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, MGLA):
                setattr(module, name, QuickMGLA(child))
    return quicken_convolutions(network)

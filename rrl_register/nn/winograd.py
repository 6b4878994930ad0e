"""Convolutions 3 x 3 with a quarter of the multiplications: Winograd's minimal filtering.

Source: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016 (arXiv 1509.09308).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

TILE = 4
"""Side of the square of outputs that is computed at once."""
WINDOW = TILE + 2
"""Side of the square of inputs that those outputs depend on."""
FEWEST_CHANNELS = 64
"""Below this the transforms cost more than the multiplications that they save (measured on AVX2)."""
TILES_PER_CHUNK = 512
"""Enough for matrix products at full speed, few enough for the transformed maps to stay in the cache."""

_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


class WinogradConv(nn.Module):
    """A convolution 3 x 3 with padding 1, for inference: F(4 x 4, 3 x 3) of Lavin and Gray.

    Windows of 6 x 6 inputs and the kernel are transformed, multiplied position by position, which for all channels
    and windows is one matrix product per position, and transformed back to 4 x 4 outputs. Both transforms of a map
    are a matrix product, too: their two dimensions are taken as one.

    Args:
        conv: The convolution to stand in for; in single precision the outputs agree to about 1e-5 of their spread.

    Raises:
        ValueError: If it is none of kernel 3 x 3, padding 1, stride 1, without dilation and groups.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if not _is_plain(conv):
            raise ValueError(f"{conv}: kernel 3 x 3, padding 1, stride 1, no dilation, no groups needed")
        kernel = conv.weight.detach().permute(2, 3, 1, 0)
        into, across, back = (_squared(transform, conv.weight) for transform in (_INPUT, _KERNEL, _OUTPUT))
        self.into: Tensor
        self.register_buffer("into", into)
        self.kernel: Tensor
        self.register_buffer("kernel", (across @ kernel.reshape(9, -1)).view(WINDOW**2, *kernel.shape[2:]))
        self.back: Tensor
        self.register_buffer("back", back)
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """Convolves ``(N, C, H, W)``; the result ``(N, K, H, W)`` is channels-last."""
        patches = max(1, TILES_PER_CHUNK // (_tiles(x.shape[2]) * _tiles(x.shape[3])))
        out = x.new_empty(len(x), *x.shape[2:], self.kernel.shape[2])
        for start in range(0, len(x), patches):
            self._convolve(x[start : start + patches], out[start : start + patches])
        return out.permute(0, 3, 1, 2)

    def _convolve(self, x: Tensor, out: Tensor) -> None:
        n, c, h, w = x.shape
        high, wide = _tiles(h), _tiles(w)
        padding = (0, 0, 1, 1 + TILE * wide - w, 1, 1 + TILE * high - h)
        padded = functional.pad(x.permute(0, 2, 3, 1), padding)
        windows = padded.unfold(1, WINDOW, TILE).unfold(2, WINDOW, TILE).permute(4, 5, 0, 1, 2, 3)
        products = torch.bmm((self.into @ windows.reshape(WINDOW**2, -1)).view(WINDOW**2, -1, c), self.kernel)
        tiles = (self.back @ products.view(WINDOW**2, -1)).view(TILE, TILE, n, high, wide, -1)
        result = tiles.permute(2, 3, 0, 4, 1, 5).reshape(n, TILE * high, TILE * wide, -1)[:, :h, :w]
        if self.bias is None:
            out.copy_(result)
        else:
            torch.add(result, self.bias, out=out)


def quicken_convolutions(network: nn.Module) -> nn.Module:
    """Replaces the convolutions 3 x 3 of many channels by ``WinogradConv``, in place.

    Args:
        network: With folded batch norms, in single precision; cannot be trained afterwards.

    Returns:
        The same network.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and _is_plain(child) and _is_wide(child):
                setattr(module, name, WinogradConv(child))
    return network


def _is_plain(conv: nn.Conv2d) -> bool:
    settings = conv.kernel_size, conv.padding, conv.stride, conv.dilation, conv.groups
    return settings == ((3, 3), (1, 1), (1, 1), (1, 1), 1)


def _is_wide(conv: nn.Conv2d) -> bool:
    return min(conv.in_channels, conv.out_channels) >= FEWEST_CHANNELS


def _tiles(length: int) -> int:
    return -(-length // TILE)


def _squared(transform: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    """A transform of one dimension as one of both dimensions of a square."""
    matrix = torch.tensor(transform, dtype=torch.float64, device=like.device)
    return torch.kron(matrix, matrix).to(like.dtype)

"""ALFE, the encoder of one spectrum, with its attention (MGLA) and the decoder that training attaches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAK = 0.1
STAGE_CHANNELS = (16, 32, 64, 128, 256)
STAGE_SIZES = (64, 32, 16, 8, 4)
PATCH_SIZE = 64
DESCRIPTOR_SIZE = 128
DECODER_SIZES = (8, 16, 32, 64)


def conv_block(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Return convolution (He-normal) -> batch norm -> LeakyReLU(0.1), of the same size."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    if not conv.weight.is_meta:  # has no memory to fill, and PyTorch would load its compiler, which takes seconds
        nn.init.kaiming_normal_(conv.weight, a=LEAK, nonlinearity="leaky_relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(LEAK, inplace=True))


def dense_head(inputs: int) -> nn.Sequential:
    """Return global average pool -> dense 512 ReLU -> dense 256 ReLU -> dense 1, the logit of a match."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(inputs, 512),
        nn.ReLU(inplace=True),
        nn.Linear(512, 256),
        nn.ReLU(inplace=True),
        nn.Linear(256, 1),
    )


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


class ALFE(nn.Module):
    """Five stages of convolution, batch norm, LeakyReLU, max-pool (from the second on) and MGLA (arXiv 2403.11751).

    Args:
        attention: Use MGLA; without it the stages are plain convolutions.
        channels: Channels of the five stages.
    """

    def __init__(self, attention: bool = True, channels: Sequence[int] = STAGE_CHANNELS) -> None:
        super().__init__()
        inputs = (1, *channels[:-1])
        self.convs = nn.ModuleList(conv_block(i, o) for i, o in zip(inputs, channels, strict=True))
        self.attentions = nn.ModuleList(
            MGLA(c, s) if attention else nn.Identity() for c, s in zip(channels, STAGE_SIZES, strict=True)
        )

    def forward(self, patches: Tensor) -> list[Tensor]:
        """Encode ``(N, 1, 64, 64)`` into the five stage outputs, from ``(N, 16, 64, 64)`` to ``(N, 256, 4, 4)``.

        The channels are the paper's.
        """
        stages: list[Tensor] = []
        x = patches
        for index, (conv, attention) in enumerate(zip(self.convs, self.attentions, strict=True)):
            x = conv(x)
            if index:
                x = functional.max_pool2d(x, 2)
            x = attention(x)
            stages.append(x)
        return stages


class DescriptorHead(nn.Module):
    """A unit-length descriptor from ALFE's last stage, to find candidates in feature space.

    Not in the paper, which scores given pairs only.

    Args:
        dimensions: Numbers in a descriptor.
        channels: Channels of the last stage; half of them remain at each of its positions.
    """

    def __init__(self, dimensions: int = DESCRIPTOR_SIZE, channels: int = STAGE_CHANNELS[-1]) -> None:
        super().__init__()
        width = channels // 2
        self.reduce = conv_block(channels, width, kernel=1)
        self.project = nn.Linear(width * STAGE_SIZES[-1] ** 2, dimensions, bias=False)

    def forward(self, last_stage: Tensor) -> Tensor:
        """Turn ``(N, 256, 4, 4)`` into unit vectors ``(N, dimensions)``, single precision."""
        return functional.normalize(self.project(self.reduce(last_stage).flatten(1)).float(), dim=1)


class Decoder(nn.Module):
    """Four stages of convolution, batch norm, LeakyReLU, bilinear x2 and MGLA, then one channel through a sigmoid.

    Args:
        attention: Use MGLA.
        channels: Channels of the encoder's five stages, from fine to coarse; the decoder takes them in reverse.
    """

    def __init__(self, attention: bool = True, channels: Sequence[int] = STAGE_CHANNELS) -> None:
        super().__init__()
        inputs, outputs = channels[:0:-1], channels[-2::-1]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    conv_block(i, o),
                    nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                    MGLA(o, size) if attention else nn.Identity(),
                )
                for i, o, size in zip(inputs, outputs, DECODER_SIZES, strict=True)
            )
        )
        self.output = nn.Sequential(nn.Conv2d(channels[0], 1, 3, padding=1), nn.Sigmoid())

    def forward(self, last_stage: Tensor) -> Tensor:
        """Rebuild patches ``(N, 1, 64, 64)``, values in (0, 1), from ALFE's last stage ``(N, 256, 4, 4)``."""
        rebuilt: Tensor = self.output(self.stages(last_stage))
        return rebuilt

"""ALFE, the encoder of one spectrum, and the descriptor head on it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from rrl_register.nn.blocks import STAGE_CHANNELS, STAGE_SIZES, conv_block
from rrl_register.nn.mgla import MGLA

DESCRIPTOR_SIZE = 128


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

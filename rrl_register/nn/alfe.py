"""ALFE, the encoder of one spectrum, and the descriptor head on it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from rrl_register.nn.blocks import STAGE_CHANNELS, STAGE_SIZES, conv_block
from rrl_register.nn.mgla import MGLA


class ALFE(nn.Module):
    """Five stages of convolution, batch norm, LeakyReLU, max-pool (from the second on) and MGLA (arXiv 2403.11751).

    ``attention=False`` leaves MGLA out, for ablations.
    """

    def __init__(self, attention: bool = True) -> None:
        super().__init__()
        inputs = (1, *STAGE_CHANNELS[:-1])
        self.convs = nn.ModuleList(conv_block(i, o) for i, o in zip(inputs, STAGE_CHANNELS, strict=True))
        self.attentions = nn.ModuleList(
            MGLA(c, s) if attention else nn.Identity() for c, s in zip(STAGE_CHANNELS, STAGE_SIZES, strict=True)
        )

    def forward(self, patches: Tensor) -> list[Tensor]:
        """Encodes ``(N, 1, 64, 64)`` into the five stage outputs, from ``(N, 16, 64, 64)`` to ``(N, 256, 4, 4)``."""
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
    """A unit-length descriptor out of ALFE's last stage, for finding candidates in feature space.

    Not in the paper, which scores given pairs only: a scene needs its candidates found first.
    """

    def __init__(self, dimensions: int = 128, width: int = 128) -> None:
        super().__init__()
        self.reduce = conv_block(STAGE_CHANNELS[-1], width, kernel=1)
        self.project = nn.Linear(width * STAGE_SIZES[-1] ** 2, dimensions, bias=False)

    def forward(self, last_stage: Tensor) -> Tensor:
        """Turns ``(N, 256, 4, 4)`` into unit vectors ``(N, dimensions)``, single precision."""
        return functional.normalize(self.project(self.reduce(last_stage).flatten(1)).float(), dim=1)

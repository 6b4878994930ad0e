"""The feature reconstruction branch: a decoder that makes ALFE an autoencoder while training (arXiv 2403.11751)."""

from __future__ import annotations

from torch import Tensor, nn

from rrl_register.nn.blocks import STAGE_CHANNELS, conv_block
from rrl_register.nn.mgla import MGLA

DECODER_CHANNELS = (128, 64, 32, 16)
DECODER_SIZES = (8, 16, 32, 64)


class Decoder(nn.Module):
    """Four stages of convolution, batch norm, LeakyReLU, bilinear x2 and MGLA, then one channel through a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (STAGE_CHANNELS[-1], *DECODER_CHANNELS[:-1])
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    conv_block(i, o),
                    nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                    MGLA(o, size),
                )
                for i, o, size in zip(inputs, DECODER_CHANNELS, DECODER_SIZES, strict=True)
            )
        )
        self.output = nn.Sequential(nn.Conv2d(DECODER_CHANNELS[-1], 1, 3, padding=1), nn.Sigmoid())

    def forward(self, last_stage: Tensor) -> Tensor:
        """Rebuilds patches ``(N, 1, 64, 64)``, values in (0, 1), from ALFE's last stage ``(N, 256, 4, 4)``."""
        rebuilt: Tensor = self.output(self.stages(last_stage))
        return rebuilt

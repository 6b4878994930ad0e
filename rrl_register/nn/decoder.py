"""Feature reconstruction branch: a decoder that makes ALFE an autoencoder in training (arXiv 2403.11751)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from rrl_register.nn.blocks import STAGE_CHANNELS, conv_block
from rrl_register.nn.mgla import MGLA

DECODER_SIZES = (8, 16, 32, 64)


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

"""Convolution block and dense head, the parts of RRL-Net."""

from __future__ import annotations

from torch import nn

LEAK = 0.1
STAGE_CHANNELS = (16, 32, 64, 128, 256)
STAGE_SIZES = (64, 32, 16, 8, 4)
PATCH_SIZE = 64


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

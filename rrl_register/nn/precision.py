"""The number format that a device computes fastest in."""

from __future__ import annotations

import torch


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the hardware multiplies it, else single precision, which beats emulated bfloat16."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """Return a context in which networks compute in the device's fastest format."""
    dtype = fastest_dtype(device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)

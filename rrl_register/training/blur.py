"""Gaussian blur by kornia, with a clear line if it is not installed."""

from __future__ import annotations

from torch import Tensor

from rrl_register.errors import UsageError


def gaussian_blur(planes: Tensor, sigma: float, window: int) -> Tensor:
    """Blur planes ``(N, K, H, W)`` by a Gaussian of ``sigma`` px in a window of odd side, edges repeated.

    Raises:
        UsageError: If kornia is not installed.
    """
    try:
        from kornia.filters import gaussian_blur2d
    except ImportError as error:
        raise UsageError("training needs kornia, which is not installed: pip install 'rrl-register[train]'") from error
    blurred: Tensor = gaussian_blur2d(planes, (window, window), (sigma, sigma), "replicate")
    return blurred

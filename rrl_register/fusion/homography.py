"""Registration of batches of tensors: homographies as kornia's ``warp_perspective`` takes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import nn

from rrl_register.config import Device, ModelChoice, RegisterConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.nn.weights import load_weights
from rrl_register.pipeline.register import register

_MATRICES = (ModelChoice.TRANSLATION, ModelChoice.SIMILARITY, ModelChoice.AFFINE, ModelChoice.HOMOGRAPHY)


class Homographies(NamedTuple):
    """Result of registering a batch.

    Attributes:
        matrix: (N, 3, 3), moving pixel -> fixed pixel, (x, y) with (0, 0) the centre of the top-left pixel; NaN for
            pairs that could not be registered. In the moving images' type, float32 at least.
        ok: (N,) bool, true for registered pairs.
        confidence: (N,) float32, probability that the matrix is right.
        reasons: Reason of each failure; empty for registered pairs.
    """

    matrix: torch.Tensor
    ok: torch.Tensor
    confidence: torch.Tensor
    reasons: tuple[str, ...]


class RRLHomography(nn.Module):
    """Estimate homographies from moving to fixed images.

    The module runs on the device of its weights (``.to("cuda")``). It calls ``register`` for one pair after the other,
    and is not differentiable.

    Args:
        config: Settings; None: the defaults. The model ``auto`` means a homography here.

    Raises:
        UsageError: The model is not a matrix.
        InputError: The weights cannot be used.
    """

    def __init__(self, config: RegisterConfig | None = None) -> None:
        super().__init__()
        self.config = config or RegisterConfig()
        estimate = self.config.estimate
        if estimate.model is ModelChoice.AUTO:
            self.config = replace(self.config, estimate=replace(estimate, model=ModelChoice.HOMOGRAPHY))
        elif estimate.model not in _MATRICES:
            raise UsageError(f"the model {estimate.model.value} is not a matrix; needed one of {', '.join(_MATRICES)}")
        network, self.weights_name = load_weights(self.config.match.weights)
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> Homographies:
        """Register each moving image onto its fixed one.

        Args:
            fixed: (N, C, H, W), real; NaN marks missing data.
            moving: (N, c, h, w), real; sizes and channels may differ from those of the fixed images.

        Returns:
            Homographies for ``kornia.geometry.transform.warp_perspective(moving, matrix, (H, W))``, on the moving
            images' device.

        Raises:
            UsageError: The tensors have other shapes.
        """
        if fixed.ndim != 4 or moving.ndim != 4 or len(fixed) != len(moving):
            raise UsageError(
                f"tensors {tuple(fixed.shape)} and {tuple(moving.shape)}; needed (N, C, H, W) and (N, c, h, w)"
            )
        device = Device.CUDA if next(self.network.parameters()).is_cuda else Device.CPU
        scorer = Scorer(device=device, network=self.network, name=self.weights_name)
        found = [self._pair(one, other, scorer) for one, other in zip(fixed, moving, strict=True)]
        matrices = torch.stack([item[0] for item in found]) if found else torch.empty(0, 3, 3)
        dtype = torch.promote_types(moving.dtype, torch.float32) if moving.is_floating_point() else torch.float32
        confidence = torch.tensor([item[1] for item in found], dtype=torch.float32, device=moving.device)
        matrix = matrices.to(moving.device, dtype)
        return Homographies(matrix, matrix.isfinite().all(dim=(1, 2)), confidence, tuple(item[2] for item in found))

    def _pair(self, fixed: torch.Tensor, moving: torch.Tensor, scorer: Scorer) -> tuple[torch.Tensor, float, str]:
        """Register one pair; return the matrix, the confidence, and the reason of a failure."""
        nothing = torch.full((3, 3), torch.nan, dtype=torch.float64)
        try:
            found = register(_array(fixed), _array(moving), self.config, scorer=scorer)
        except InputError as error:
            return nothing, 0.0, str(error)
        matrix = nothing if found.matrix is None else torch.from_numpy(found.matrix)
        return matrix, found.confidence or 0.0, found.reason


def _array(image: torch.Tensor) -> NDArray[Any]:
    """Convert a tensor (C, H, W) to an array; bfloat16, which numpy lacks, to float32."""
    return (image.float() if image.dtype is torch.bfloat16 else image).cpu().numpy()

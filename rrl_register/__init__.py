"""Registration of images of different spectra: visible, infrared, SAR.

Settings and errors are loaded at once, the other public names when they are first used, so that importing the package
does not load PyTorch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rrl_register.config import (
    Crop,
    Device,
    EstimateConfig,
    Kind,
    MatchConfig,
    ModelChoice,
    OutputGrid,
    RasterFormat,
    ReadConfig,
    RegisterConfig,
    Resampling,
    ResourceConfig,
    WarpConfig,
    __version__,
)
from rrl_register.errors import RegistrationError

if TYPE_CHECKING:
    from rrl_register.exchange.registration import Registration, apply_transform, read_registration
    from rrl_register.fusion.aligned_stack import AlignedStack
    from rrl_register.fusion.homography import RRLHomography
    from rrl_register.fusion.patches import iter_patches
    from rrl_register.fusion.stack import align_stack
    from rrl_register.fusion.torch_patches import PatchDataset
    from rrl_register.pipeline.register import register
    from rrl_register.raster.grid import Grid
    from rrl_register.raster.sources import ImageArray

__all__ = [
    "AlignedStack", "Crop", "Device", "EstimateConfig", "Grid", "ImageArray", "Kind", "MatchConfig", "ModelChoice",
    "OutputGrid", "PatchDataset", "RRLHomography", "RasterFormat", "ReadConfig", "RegisterConfig", "Registration",
    "RegistrationError", "Resampling", "ResourceConfig", "WarpConfig", "__version__", "align_stack", "apply_transform",
    "iter_patches", "read_registration", "register",
]  # fmt: skip

# Read when ONNX Runtime and PROJ are loaded: neither may use the network.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("PROJ_NETWORK", "OFF")

_HOMES = {
    "AlignedStack": "fusion.aligned_stack",
    "Grid": "raster.grid",
    "ImageArray": "raster.sources",
    "PatchDataset": "fusion.torch_patches",
    "RRLHomography": "fusion.homography",
    "Registration": "exchange.registration",
    "align_stack": "fusion.stack",
    "apply_transform": "exchange.registration",
    "iter_patches": "fusion.patches",
    "read_registration": "exchange.registration",
    "register": "pipeline.register",
}
"""Modules of the names that are loaded when they are first used."""


def __getattr__(name: str) -> Any:
    """Load a public name from the module that holds it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__

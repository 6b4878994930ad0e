"""Settings of every stage, and how the command line and YAML files fill them."""

from rrl_register.config.settings import (
    BatchConfig,
    Crop,
    Device,
    Effort,
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
)

__all__ = [
    "BatchConfig",
    "Crop",
    "Device",
    "Effort",
    "EstimateConfig",
    "Kind",
    "MatchConfig",
    "ModelChoice",
    "OutputGrid",
    "RasterFormat",
    "ReadConfig",
    "RegisterConfig",
    "Resampling",
    "ResourceConfig",
    "WarpConfig",
]

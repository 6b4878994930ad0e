"""Settings of every stage, and their options on the command line and in YAML files."""

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

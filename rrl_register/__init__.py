"""Registration of images of different spectra: visible, infrared, SAR.

The public names are loaded when they are first used, so that importing the package does not load PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rrl_register.applying import apply_transform, read_registration
    from rrl_register.config import (
        Device,
        EstimateConfig,
        Kind,
        MatchConfig,
        ModelChoice,
        ReadConfig,
        RegisterConfig,
        Resampling,
        ResourceConfig,
        WarpConfig,
    )
    from rrl_register.errors import RegistrationError
    from rrl_register.pipeline import register
    from rrl_register.registration import Registration

__version__ = "0.1.0"

_HOMES = {
    "Device": "config",
    "EstimateConfig": "config",
    "Kind": "config",
    "MatchConfig": "config",
    "ModelChoice": "config",
    "ReadConfig": "config",
    "RegisterConfig": "config",
    "Registration": "registration",
    "RegistrationError": "errors",
    "Resampling": "config",
    "ResourceConfig": "config",
    "WarpConfig": "config",
    "apply_transform": "applying",
    "read_registration": "applying",
    "register": "pipeline",
}

__all__ = [
    "Device",
    "EstimateConfig",
    "Kind",
    "MatchConfig",
    "ModelChoice",
    "ReadConfig",
    "RegisterConfig",
    "Registration",
    "RegistrationError",
    "Resampling",
    "ResourceConfig",
    "WarpConfig",
    "__version__",
    "apply_transform",
    "read_registration",
    "register",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module that holds it (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__

"""Settings of a training run, read from YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rrl_register.errors import InputError
from rrl_register.training.augmentation import RadiometryConfig
from rrl_register.training.sampling import GeometryConfig


@dataclass(frozen=True)
class PhaseConfig:
    """One stretch of training with a learning rate that rises, then falls along a cosine."""

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses; 0 switches one off."""

    descriptor: float = 0.5
    temperature: float = 0.06
    heads: float = 0.3
    reconstruction: float = 0.5
    reconstructed_share: float = 0.25
    """Share of each batch that the decoders rebuild: they cost as much as the encoders."""
    hard_negatives: bool = True
    hard_top: int = 8
    near_misses: bool = True


@dataclass(frozen=True)
class TrainingConfig:
    """A whole run."""

    data: Path
    output: Path
    descriptor_phase: PhaseConfig = PhaseConfig(1000, 192, 1e-3)
    joint_phase: PhaseConfig = PhaseConfig(1500, 64, 6e-4)
    group_weights: dict[str, float] = field(
        default_factory=lambda: {
            "sar_s1s2": 2.5,
            "sar_1m": 0.7,
            "nir_ground": 1.5,
            "nir_naip": 0.5,
            "lwir_road": 4.0,
            "ir_satellite": 1.2,
            "nir_ground+simulated": 0.7,
            "lwir_road+simulated": 0.4,
            "sar_s1s2+simulated": 0.4,
        }
    )
    geometry: GeometryConfig = field(default_factory=GeometryConfig)
    radiometry: RadiometryConfig = field(default_factory=RadiometryConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    """CPU threads of torch; 0: as many as there are cores."""
    ema: float = 0.995
    log_every: int = 10
    validate_every: int = 200
    checkpoint_every: int = 50


def load_training_config(path: Path, **overrides: Any) -> TrainingConfig:
    """Reads a run's settings.

    Args:
        path: A YAML file with the fields of ``TrainingConfig``; those left out keep their defaults. ``data`` and
            ``output`` are relative to the working directory.
        overrides: Fields that replace those of the file.

    Raises:
        InputError: If the file cannot be read, or names a field that does not exist.
    """
    try:
        settings = (yaml.safe_load(path.read_text()) or {}) | {k: v for k, v in overrides.items() if v is not None}
        return _build(settings)
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
        seen = " ".join(str(error).split())
        raise InputError(
            f"{path} is no training configuration ({seen}): "
            "give the fields of TrainingConfig as YAML, data and output at least"
        ) from error


_PARTS = {
    "descriptor_phase": PhaseConfig,
    "joint_phase": PhaseConfig,
    "geometry": GeometryConfig,
    "radiometry": RadiometryConfig,
    "losses": LossConfig,
}


def _build(settings: dict[str, Any]) -> TrainingConfig:
    fields: dict[str, Any] = {}
    for name, value in settings.items():
        if name in _PARTS:
            fields[name] = _PARTS[name](**{k: _plain(v) for k, v in value.items()})
        else:
            fields[name] = Path(value) if name in ("data", "output") else value
    return TrainingConfig(**fields)


def _plain(value: Any) -> Any:
    """Lists as tuples; ``1e-3``, which YAML takes for text because it has no point, as a number."""
    if isinstance(value, list):
        return tuple(_plain(v) for v in value)
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value

"""Settings of a training run, read from YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from rrl_register.errors import InputError, RegistrationError
from rrl_register.nn.architecture import Architecture
from rrl_register.training.augmentation import RadiometryConfig
from rrl_register.training.datasets import Source, parse_sources, source_settings
from rrl_register.training.losses import Reconstruction
from rrl_register.training.sampling import GeometryConfig
from rrl_register.training.settings import build, merged, plain


@dataclass(frozen=True)
class PhaseConfig:
    """One stretch of training with a learning rate that rises, then falls along a cosine."""

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses, and what they are taken of; a weight of 0 switches a loss off.

    Attributes:
        descriptor: Of the descriptor's softmax over the batch.
        temperature: That divides its cosines.
        stage_heads: Of each MLPP head on aggregated features.
        module_heads: Of each MLPP head on common features.
        reconstruction: Of the decoders.
        reconstruction_kind: What their pictures are compared by.
        reconstructed_share: Share of each batch that they rebuild: they cost as much as the encoders.
        hard_negatives: Wrong pairs are mined by descriptor, or else drawn at random.
        hard_top: Mined among so many most similar ones.
        near_misses: The right place missed by some px is a negative, too.
    """

    descriptor: float = 0.5
    temperature: float = 0.06
    stage_heads: float = 0.3
    module_heads: float = 0.3
    reconstruction: float = 0.5
    reconstruction_kind: Reconstruction = Reconstruction.GRADIENT
    reconstructed_share: float = 0.25
    hard_negatives: bool = True
    hard_top: int = 8
    near_misses: bool = True


class OptimizerKind(StrEnum):
    """What descends the loss; the paper takes NAdam."""

    ADAMW = "adamw"
    NADAM = "nadam"


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and what guards it."""

    kind: OptimizerKind = OptimizerKind.ADAMW
    weight_decay: float = 1e-2
    beta2: float = 0.98
    largest_gradient: float = 5.0


class Precision(StrEnum):
    """Numbers that the network computes in while it trains; ``AUTO`` takes what the device multiplies fastest."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True)
class TrainingConfig:
    """A whole run.

    Attributes:
        data: What to train on; a share of it is kept for validation.
        output: Folder of checkpoints and logs.
        initial: Weights to start from: ``none``, ``shipped``, or a file.
        architecture: How the network is built.
        descriptor_phase: Encoders and descriptors alone, first.
        joint_phase: Everything together, then.
        families: Families of images to train on; empty: all.
        group_weights: How often each set of images is drawn; ``<set>+simulated`` are spectra simulated from its
            colours. Empty: all sets alike.
        images_per_batch: Scenes that a batch is drawn from.
        geometry: How patches are cut.
        radiometry: How they are altered.
        losses: What is minimised.
        optimizer: By what.
        ema: Share that the running mean of the weights keeps at each step.
        patience: Validations without a better one after which the run ends early; 0: it never does.
        seed: Of everything drawn at random.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: Of the network's arithmetic.
        threads: CPU threads of torch; 0: as many as there are cores.
        log_every, validate_every, checkpoint_every: Steps between log lines, validations and checkpoints.
        validation_batches: Batches of each set that a validation looks at.
        tensorboard: Write curves for TensorBoard, too.
    """

    data: tuple[Source, ...]
    output: Path
    initial: str = "none"
    architecture: Architecture = field(default_factory=Architecture)
    descriptor_phase: PhaseConfig = PhaseConfig(1000, 192, 1e-3)
    joint_phase: PhaseConfig = PhaseConfig(1500, 64, 6e-4)
    families: tuple[str, ...] = ()
    group_weights: dict[str, float] = field(default_factory=dict)
    images_per_batch: int = 8
    geometry: GeometryConfig = field(default_factory=GeometryConfig)
    radiometry: RadiometryConfig = field(default_factory=RadiometryConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: float = 0.995
    patience: int = 0
    seed: int = 0
    device: str = "auto"
    precision: Precision = Precision.AUTO
    threads: int = 0
    log_every: int = 10
    validate_every: int = 200
    checkpoint_every: int = 50
    validation_batches: int = 6
    tensorboard: bool = False

    @property
    def total_steps(self) -> int:
        """Steps of both phases together."""
        return self.descriptor_phase.steps + self.joint_phase.steps

    def settings(self) -> dict[str, Any]:
        """All settings as plain values; ``make_training_config`` makes the same configuration of them."""
        return {**plain(self), "data": [source_settings(source) for source in self.data]}

    def recipe(self) -> dict[str, Any]:
        """What the weights depend on, as plain values: all but where and how fast the run goes.

        A pack may lie anywhere: it travels to the machines that train.
        """
        settings = self.settings()
        settings["data"] = [{"type": "pack"} if d["type"] == "pack" else d for d in settings["data"]]
        return {name: value for name, value in settings.items() if name not in _ELSEWHERE}


_ELSEWHERE = frozenset(
    {
        "output",
        "device",
        "threads",
        "log_every",
        "validate_every",
        "checkpoint_every",
        "validation_batches",
        "tensorboard",
    }
)

FINE_TUNING: Mapping[str, Any] = {
    "initial": "shipped",
    "descriptor_phase": {"steps": 0, "batch": 192, "learning_rate": 0.0},
    "joint_phase": {"steps": 300, "batch": 48, "learning_rate": 2e-4, "warmup": 30},
    "ema": 0.98,
    "patience": 4,
    "validate_every": 50,
}
"""Settings for going on from the shipped weights with a few pairs of one's own."""


def load_training_config(path: Path, changes: Mapping[str, Any] | None = None, **overrides: Any) -> TrainingConfig:
    """Reads a run's settings.

    Args:
        path: A YAML file with the fields of ``TrainingConfig``; those left out keep their defaults. ``data`` and
            ``output`` are relative to the working directory.
        changes: Nested settings that replace those of the file.
        overrides: Fields that replace those of the file; None: left as they are.

    Raises:
        InputError: If the file cannot be read, or has a setting that does not exist or fit.
    """
    try:
        settings = yaml.safe_load(path.read_text()) or {}
        given = {name: value for name, value in overrides.items() if value is not None}
        return make_training_config(merged(merged(settings, changes or {}), given))
    except (OSError, yaml.YAMLError, TypeError, AttributeError, ValueError, RegistrationError) as error:
        seen = " ".join(str(error).split())
        raise InputError(
            f"{path} is no training configuration ({seen}): "
            "give the fields of TrainingConfig as YAML, data and output at least"
        ) from error


def make_training_config(settings: Mapping[str, Any]) -> TrainingConfig:
    """Settings of a run from plain, nested values.

    Raises:
        UsageError, InputError: If a setting does not exist or does not fit.
    """
    values = dict(settings)
    if "data" in values:
        values["data"] = parse_sources(values["data"])
    return build(TrainingConfig, values)


def parse_changes(assignments: Sequence[str]) -> dict[str, Any]:
    """Settings written as ``losses.near_misses=false``: names with points between, values as YAML.

    Raises:
        InputError: If one is not of this form.
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not (name and equals):
            raise InputError(f"{assignment!r} is no setting: NAME=VALUE needed, such as losses.near_misses=false")
        try:
            value: Any = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"{assignment!r}: the value is no YAML ({' '.join(str(error).split())})") from error
        for part in reversed(name.split(".")):
            value = {part: value}
        changes = merged(changes, value)
    return changes

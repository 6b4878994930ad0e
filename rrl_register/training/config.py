"""Settings of a training run, read from YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import InstanceOf
from pydantic.dataclasses import dataclass

from rrl_register.config.files import MOST_SETTINGS, read_text
from rrl_register.errors import InputError, RegistrationError
from rrl_register.nn.architecture import Architecture
from rrl_register.training.augmentation import RadiometryConfig
from rrl_register.training.bank import Source
from rrl_register.training.datasets import parse_sources
from rrl_register.training.sampling import GeometryConfig
from rrl_register.training.settings import KNOWN_ONLY, Count, Number, build, merged, plain


class Reconstruction(StrEnum):
    """Measure between rebuilt and true patches, beside a tenth of their mean square difference.

    The paper compares features of a pretrained VGG-19; ``GRADIENT`` and ``SSIM`` (structural similarity, from kornia)
    need no foreign weights. ``PIXEL`` takes the mean square difference alone.
    """

    GRADIENT = "gradient"
    SSIM = "ssim"
    PIXEL = "pixel"


@dataclass(frozen=True, config=KNOWN_ONLY)
class PhaseConfig:
    """A phase of training: its learning rate rises, then falls along a cosine."""

    steps: Count
    batch: Count
    learning_rate: Number
    warmup: Count = 100


@dataclass(frozen=True, config=KNOWN_ONLY)
class LossConfig:
    """Weights of the losses and their inputs; a weight of 0 switches a loss off.

    Attributes:
        descriptor: Weight of the descriptors' softmax over the batch.
        temperature: Divides their cosines.
        stage_heads: Weight of each MLPP head on aggregated features.
        module_heads: Weight of each MLPP head on common features.
        reconstruction: Weight of the decoders.
        reconstruction_kind: Measure of their error.
        reconstructed_share: Share of each batch that they rebuild: they cost as much as the encoders.
        hard_negatives: Mine wrong pairs by descriptor, or else draw them at random.
        hard_top: Number of most similar patches to mine among.
        near_misses: Use places some px beside the true one as negatives, too.
    """

    descriptor: Number = 0.5
    temperature: Number = 0.06
    stage_heads: Number = 0.3
    module_heads: Number = 0.3
    reconstruction: Number = 0.5
    reconstruction_kind: Reconstruction = Reconstruction.GRADIENT
    reconstructed_share: Number = 0.25
    hard_negatives: bool = True
    hard_top: Count = 8
    near_misses: bool = True


class OptimizerKind(StrEnum):
    """Optimizer; the paper's is NAdam."""

    ADAMW = "adamw"
    NADAM = "nadam"


@dataclass(frozen=True, config=KNOWN_ONLY)
class OptimizerConfig:
    """Optimizer and its limits."""

    kind: OptimizerKind = OptimizerKind.ADAMW
    weight_decay: Number = 1e-2
    beta2: Number = 0.98
    largest_gradient: Number = 5.0


class Precision(StrEnum):
    """Number format of the network in training; ``AUTO``: the device's fastest."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, config=KNOWN_ONLY)
class TrainingConfig:
    """A whole run.

    Attributes:
        data: Data sets; a share of them is kept for validation.
        output: Folder of checkpoints and logs.
        initial: Weights to start from: ``none``, ``shipped``, or a file.
        architecture: Architecture of the network.
        descriptor_phase: First phase, for encoders and descriptors alone.
        joint_phase: Second phase, for the whole network.
        families: Families of images to train on; empty: all.
        group_weights: Weight of each set of images in the draw; ``<set>+simulated`` are spectra simulated from its
            colours. Empty: all sets alike.
        images_per_batch: Scenes that a batch is drawn from.
        geometry: Geometry of cutting patches.
        radiometry: Radiometric augmentation.
        losses: Losses.
        optimizer: Optimizer.
        ema: Share that the running mean of the weights keeps at each step.
        patience: Validations without improvement after which the run ends early; 0: never.
        seed: Seed of all random numbers.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: Number format of the network.
        threads: CPU threads of torch; 0: as many as there are cores.
        log_every, validate_every, checkpoint_every: Steps between log lines, validations and checkpoints.
        validation_batches: Batches of each set in a validation.
        tensorboard: Write curves for TensorBoard, too.
    """

    data: tuple[InstanceOf[Source], ...]
    output: Path
    initial: str = "none"
    architecture: Architecture = field(default_factory=Architecture)
    descriptor_phase: PhaseConfig = PhaseConfig(1000, 192, 1e-3)
    joint_phase: PhaseConfig = PhaseConfig(1500, 64, 6e-4)
    families: tuple[str, ...] = ()
    group_weights: dict[str, Number] = field(default_factory=dict)
    images_per_batch: Count = 8
    geometry: GeometryConfig = field(default_factory=GeometryConfig)
    radiometry: RadiometryConfig = field(default_factory=RadiometryConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: Number = 0.995
    patience: Count = 0
    seed: Count = 0
    device: str = "auto"
    precision: Precision = Precision.AUTO
    threads: Count = 0
    log_every: Count = 10
    validate_every: Count = 200
    checkpoint_every: Count = 50
    validation_batches: Count = 6
    tensorboard: bool = False

    @property
    def total_steps(self) -> int:
        """Steps of both phases together."""
        return self.descriptor_phase.steps + self.joint_phase.steps

    def settings(self) -> dict[str, Any]:
        """Return all settings as plain values, from which ``make_training_config`` makes the same configuration."""
        return {**plain(self), "data": [plain(source) for source in self.data]}

    def recipe(self) -> dict[str, Any]:
        """Return the settings that the weights depend on: all but the place and speed of the run."""
        settings = {**self.settings(), "data": [source.recipe() for source in self.data]}
        return {name: value for name, value in settings.items() if name not in _MACHINE | _REPORTING}


_MACHINE = {"output", "device", "threads"}
_REPORTING = {"log_every", "validate_every", "checkpoint_every", "validation_batches", "tensorboard"}

FINE_TUNING: Mapping[str, Any] = {
    "initial": "shipped",
    "descriptor_phase": {"steps": 0, "batch": 192, "learning_rate": 0.0},
    "joint_phase": {"steps": 300, "batch": 48, "learning_rate": 2e-4, "warmup": 30},
    "ema": 0.98,
    "patience": 4,
    "validate_every": 50,
}
"""Settings to continue from the shipped weights with a few pairs of one's own."""


def load_training_config(path: Path, changes: Mapping[str, Any] | None = None, **overrides: Any) -> TrainingConfig:
    """Read a run's settings.

    Args:
        path: A YAML file with the fields of ``TrainingConfig``; those left out keep their defaults. ``data`` and
            ``output`` are relative to the working directory.
        changes: Nested settings that replace those of the file.
        overrides: Fields that replace those of the file; None: left as they are.

    Raises:
        InputError: If the file cannot be read, or has a setting that does not exist or fit.
    """
    try:
        settings = yaml.safe_load(read_text(path, MOST_SETTINGS)) or {}
        given = {name: value for name, value in overrides.items() if value is not None}
        return make_training_config(merged(merged(settings, changes or {}), given))
    except (OSError, yaml.YAMLError, TypeError, AttributeError, ValueError, RecursionError, RegistrationError) as error:
        seen = " ".join(str(error).split())
        raise InputError(
            f"{path} is no training configuration ({seen}): "
            "give the fields of TrainingConfig as YAML, data and output at least"
        ) from error


def make_training_config(settings: Mapping[str, Any]) -> TrainingConfig:
    """Make settings of a run from plain, nested values.

    Raises:
        UsageError, InputError: If a setting does not exist or does not fit.
    """
    values = dict(settings)
    if "data" in values:
        values["data"] = parse_sources(values["data"])
    return build(TrainingConfig, values)


def parse_changes(assignments: Sequence[str]) -> dict[str, Any]:
    """Read settings written as ``losses.near_misses=false``: dotted names, values as YAML.

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

"""As many steps as there is time for: a schedule has to end, and how fast a machine trains is not known beforehand."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path

from rrl_register.training.config import PhaseConfig, TrainingConfig
from rrl_register.training.loop import Trainer

WARM_UP_STEPS, TIMED_STEPS = 10, 30
SHARE = 0.93
"""Of the time; what is left is for validations and checkpoints."""


def fit_steps(config: TrainingConfig, seconds: float) -> TrainingConfig:
    """A run that ends in time: the steps of both phases, in their proportion, as measured on this machine.

    Args:
        config: Of the run; its steps say only how the phases are to share the time.
        seconds: For the whole run.

    Raises:
        InputError, UsageError: As ``Trainer``.
    """
    phases = config.descriptor_phase, config.joint_phase
    each = [_seconds_per_step(config, index) if phase.steps else 0.0 for index, phase in enumerate(phases)]
    needed = sum(phase.steps * step for phase, step in zip(phases, each, strict=True))
    share = SHARE * seconds / needed
    first, second = (replace(phase, steps=math.ceil(phase.steps * share)) for phase in phases)
    return replace(config, descriptor_phase=first, joint_phase=second)


def _seconds_per_step(config: TrainingConfig, index: int) -> float:
    """Of one of the phases, on scratch weights."""
    phases: list[PhaseConfig] = [
        replace(phase, steps=WARM_UP_STEPS + TIMED_STEPS if index == i else 0)
        for i, phase in enumerate((config.descriptor_phase, config.joint_phase))
    ]
    with tempfile.TemporaryDirectory() as folder:
        scratch = replace(config, output=Path(folder), descriptor_phase=phases[0], joint_phase=phases[1])
        trainer = Trainer(scratch)
        trainer.advance(WARM_UP_STEPS)
        return trainer.advance(TIMED_STEPS) / TIMED_STEPS

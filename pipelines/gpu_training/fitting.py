"""Fit the number of steps to the time: a schedule has to end, and the speed of a machine is not known beforehand."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path

from rrl_register.training.config import PhaseConfig, TrainingConfig
from rrl_register.training.loop import Trainer

WARM_UP_STEPS, TIMED_STEPS = 10, 30
SHARE = 0.93
"""Share of the time for steps; the rest is for validations and checkpoints."""


def fit_steps(config: TrainingConfig, seconds: float) -> TrainingConfig:
    """Return settings of a run that ends in time, from the seconds per step on this machine.

    Args:
        config: Settings; the steps of the phases only set their proportion.
        seconds: Time of the whole run.

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
    """Time one of the phases, with scratch weights."""
    phases: list[PhaseConfig] = [
        replace(phase, steps=WARM_UP_STEPS + TIMED_STEPS if index == i else 0)
        for i, phase in enumerate((config.descriptor_phase, config.joint_phase))
    ]
    with tempfile.TemporaryDirectory() as folder:
        scratch = replace(config, output=Path(folder), descriptor_phase=phases[0], joint_phase=phases[1])
        trainer = Trainer(scratch)
        trainer.advance(WARM_UP_STEPS)
        return trainer.advance(TIMED_STEPS) / TIMED_STEPS

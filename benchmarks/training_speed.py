"""Time of a training step by part: drawing and cutting patches, altering them, the network forward and backward.

    python benchmarks/training_speed.py RECIPE.yaml [--steps N] [--set NAME=VALUE]...

The recipe is what ``rrl-register train`` reads; nothing is kept. Times are medians over the steps, the device
waited for after each part; the loader is what the network would not need if its patches were there already.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from tables import markdown_table

from rrl_register.errors import RegistrationError
from rrl_register.nn.runtime import autocast
from rrl_register.training.config import PhaseConfig, TrainingConfig, load_training_config, parse_changes
from rrl_register.training.loop import Trainer
from rrl_register.training.steps import descriptor_step, joint_step

PARTS = ("draw and cut", "alter", "whole step")


def main() -> None:
    """Read the arguments, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="changes")
    arguments = parser.parse_args()
    try:
        config = load_training_config(arguments.recipe, parse_changes(arguments.changes))
        with tempfile.TemporaryDirectory() as folder:
            print(report(replace(config, output=Path(folder), validation_batches=1), arguments.steps))
    except RegistrationError as error:
        sys.exit(f"Error: {error}")


def report(config: TrainingConfig, steps: int) -> str:
    """Lay out a row for each phase: pairs a step, milliseconds by part, and the loader's share of the whole."""
    trainer = Trainer(config)
    rows = []
    for name, phase in (("descriptor", config.descriptor_phase), ("joint", config.joint_phase)):
        clock = Clock(trainer.device)
        for _ in range(steps + 1):
            step(trainer, phase, name, clock)
        median = {part: statistics.median(clock.seconds[part][1:]) for part in PARTS}
        share = (median["draw and cut"] + median["alter"]) / median["whole step"]
        rows.append([name, str(phase.batch), *(f"{1e3 * median[part]:.1f}" for part in PARTS), f"{100 * share:.1f}"])
    return markdown_table(["phase", "pairs", *(f"{part}, ms" for part in PARTS), "loader, %"], rows)


def step(trainer: Trainer, phase: PhaseConfig, name: str, clock: Clock) -> None:
    """One step without an optimizer's update, its parts timed."""
    losses = trainer.config.losses
    with clock("whole step"):
        with clock("draw and cut"):
            batch = trainer.sampler.draw(phase.batch)
        with autocast(trainer.device):
            if name == "descriptor":
                result = descriptor_step(trainer.net, batch, trainer.radiometry, losses)
            else:
                result = joint_step(trainer.net, batch, trainer.radiometry, losses, trainer.generator)
        trainer.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(result.total)
    with clock("alter"):
        trainer.radiometry.visible(batch.visible)
        trainer.radiometry.other(torch.cat([batch.other, batch.near]), batch.family)


class Clock:
    """Collects the seconds of named parts, waiting for the device on either side."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.seconds[name].append(time.perf_counter() - start)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


if __name__ == "__main__":
    main()

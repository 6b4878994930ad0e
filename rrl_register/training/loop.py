"""The training loop: two phases, one checkpoint, one log."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from torch import nn

from rrl_register.nn import RRLNet
from rrl_register.nn.memory import keep_freed_memory
from rrl_register.nn.precision import autocast
from rrl_register.training.augmentation import Radiometry
from rrl_register.training.bank import load_bank
from rrl_register.training.checkpoint import (
    ExponentialMovingAverage,
    JsonLines,
    detached,
    load_checkpoint,
    save_checkpoint,
)
from rrl_register.training.config import PhaseConfig, TrainingConfig
from rrl_register.training.sampling import PatchBatch, PatchSampler
from rrl_register.training.steps import Losses, descriptor_step, joint_step
from rrl_register.training.validation import draw_validation, validate

VALIDATION_BATCHES = 6


class Trainer:
    """Trains RRL-Net as a configuration says; a second call with the same output folder goes on where it stopped."""

    def __init__(self, config: TrainingConfig) -> None:
        keep_freed_memory()
        self.config = config
        self.device = torch.device(_device(config.device))
        if config.threads:
            torch.set_num_threads(config.threads)
        config.output.mkdir(parents=True, exist_ok=True)
        self.log = JsonLines(config.output / "log.jsonl")
        self.checkpoint = config.output / "checkpoint.pt"
        torch.manual_seed(config.seed)
        self.net = RRLNet().on(self.device)
        self.mean = ExponentialMovingAverage(self.net, config.ema)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=0.0, weight_decay=1e-2, betas=(0.9, 0.98))
        self.step = 0
        self._resume()
        self.generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        self.radiometry = Radiometry(config.radiometry, self.generator)
        bank = load_bank(config.data, validation=False, device=self.device)
        self.sampler = PatchSampler(bank, config.group_weights, config.geometry, self.generator)
        self.validation = self._draw_validation()

    @property
    def total_steps(self) -> int:
        """Steps of both phases together."""
        return self.config.descriptor_phase.steps + self.config.joint_phase.steps

    def run(self, seconds: float = math.inf) -> bool:
        """Trains until the end or until the time is over; returns whether the run is finished."""
        start = time.monotonic()
        while self.step < self.total_steps:
            if time.monotonic() - start > seconds:
                self._save()
                return False
            self._train_step()
            if self.step % self.config.validate_every == 0 or self.step == self.total_steps:
                self._validate()
            if self.step % self.config.checkpoint_every == 0:
                self._save()
        self._save()
        return True

    def _train_step(self) -> None:
        began = time.monotonic()
        phase, at = self._phase()
        if at == 0:
            # The metric network is at its random start until now: its mean would remember that for long.
            self.mean.restart(self.net)
        rate = learning_rate(phase, at)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.sampler.draw(phase.batch)
        with autocast(self.device):
            losses = self._losses(batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(losses.total)
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        self.mean.update(self.net)
        self.step += 1
        if self.step % self.config.log_every == 0:
            self.log.write(
                step=self.step, family=batch.family, lr=rate, seconds=time.monotonic() - began, **losses.parts
            )

    def _phase(self) -> tuple[PhaseConfig, int]:
        first = self.config.descriptor_phase
        if self.step < first.steps:
            return first, self.step
        return self.config.joint_phase, self.step - first.steps

    def _losses(self, batch: PatchBatch) -> Losses:
        if self.step < self.config.descriptor_phase.steps:
            return descriptor_step(self.net, batch, self.radiometry, self.config.losses)
        return joint_step(self.net, batch, self.radiometry, self.config.losses, self.generator)

    def _draw_validation(self) -> dict[str, list[PatchBatch]]:
        bank = load_bank(self.config.data, validation=True, device=self.device)
        generator = torch.Generator().manual_seed(95)
        sampler = PatchSampler(bank, self.config.group_weights, self.config.geometry, generator)
        groups = [g for g in sampler.groups if g in {p.group for p in bank}]
        return draw_validation(sampler, groups, VALIDATION_BATCHES)

    def _validate(self) -> None:
        averaged = RRLNet().on(self.device)
        averaged.load_state_dict(self.mean.state)
        metric = self.step > self.config.descriptor_phase.steps
        with autocast(self.device):
            self.log.write(step=self.step, fpr95=validate(averaged, self.validation, metric))

    def _save(self) -> None:
        save_checkpoint(
            self.checkpoint,
            {
                "step": self.step,
                "network": detached(self.net.state_dict()),
                "mean": detached(self.mean.state),
                "mean_updates": self.mean.updates,
                "optimizer": self.optimizer.state_dict(),
            },
        )

    def _resume(self) -> None:
        content = load_checkpoint(self.checkpoint)
        if content is None:
            return
        self.step = content["step"]
        self.net.load_state_dict(content["network"])
        self.mean.state = {k: v.to(self.device) for k, v in content["mean"].items()}
        self.mean.updates = content["mean_updates"]
        self.optimizer.load_state_dict(content["optimizer"])


def learning_rate(phase: PhaseConfig, step: int) -> float:
    """The rate at a step of a phase: a linear rise, then half a cosine down to a hundredth of the peak."""
    rise = min(1.0, (step + 1) / max(1, phase.warmup))
    fall = 0.5 * (1 + math.cos(math.pi * step / max(1, phase.steps)))
    return phase.learning_rate * rise * max(0.01, fall)


def _device(name: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def train(config: TrainingConfig, seconds: float = math.inf) -> Path | None:
    """Runs or resumes a training; returns the finished checkpoint, or None while time ran out before the end."""
    trainer = Trainer(config)
    return trainer.checkpoint if trainer.run(seconds) else None

"""Training loop: two phases, checkpoints to resume from, the best weights."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rrl_register.errors import InputError, UsageError
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.runtime import autocast, keep_freed_memory
from rrl_register.nn.weights import load_weights
from rrl_register.training.augmentation import Radiometry
from rrl_register.training.bank import load_bank
from rrl_register.training.config import OptimizerConfig, OptimizerKind, PhaseConfig, Precision, TrainingConfig
from rrl_register.training.run_files import (
    JsonLines,
    Monitor,
    TensorBoard,
    average_of,
    detached,
    load_checkpoint,
    running_mean,
    save_checkpoint,
)
from rrl_register.training.sampling import PatchSampler
from rrl_register.training.steps import descriptor_step, joint_step
from rrl_register.training.validation import draw_validation, score_of, validate

CHECKPOINT, BEST, LOG = "checkpoint.pt", "best.pt", "log.jsonl"
_VALIDATION_SEED = 95

Progress = Callable[[int, int, dict[str, float]], None]
"""Receives the steps done, the steps of the whole run, and the figures of the last logged step."""


class Trainer:
    """Train RRL-Net; a second call with the same output folder resumes.

    Args:
        config: Settings of the run.
        progress: Called after every step.

    Raises:
        InputError: If the data, the initial weights or a checkpoint in the output folder cannot be used.
        UsageError: If a GPU or TensorBoard is requested and missing.
    """

    def __init__(self, config: TrainingConfig, progress: Progress | None = None) -> None:
        keep_freed_memory()
        self.config = config
        self.device = _device(config.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # all batches of a phase have one size
        config.output.mkdir(parents=True, exist_ok=True)
        self.checkpoint, self.best = config.output / CHECKPOINT, config.output / BEST
        self._progress = progress
        self._monitors: list[Monitor] = [JsonLines(config.output / LOG)]
        if config.tensorboard:
            self._monitors.append(TensorBoard(config.output / "tensorboard"))
        self.net = _network(config).on(self.device)
        self.mean = running_mean(self.net, config.ema)
        self.optimizer = make_optimizer(self.net, config.optimizer)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.step, self.best_score, self.validations_since_best = 0, math.inf, 0
        self._resume()
        self.radiometry = Radiometry(config.radiometry, self.generator)
        self.sampler = self._sampler(self.generator)
        held_out = self._sampler(torch.Generator().manual_seed(_VALIDATION_SEED), validation=True)
        self.validation = draw_validation(held_out, config.validation_batches)
        self._figures: dict[str, float] = {}

    @property
    def finished(self) -> bool:
        """True after all steps, or after ``patience`` validations without improvement."""
        patience = self.config.patience
        tired = 0 < patience <= self.validations_since_best
        return tired or self.step >= self.config.total_steps

    def run(self, seconds: float = math.inf) -> bool:
        """Train until the end or until time is up; return whether the run is finished."""
        start = time.monotonic()
        while not self.finished:
            if time.monotonic() - start > seconds:
                self._save()
                return False
            self._train_step()
            if self.step % self.config.validate_every == 0 or self.step == self.config.total_steps:
                self._validate()
            if self.step % self.config.checkpoint_every == 0:
                self._save()
        self._save()
        return True

    def advance(self, steps: int) -> float:
        """Train for some steps without validations and checkpoints; return the seconds."""
        began = _now(self.device)
        for _ in range(steps):
            self._train_step()
        return _now(self.device) - began

    def _train_step(self) -> None:
        began = time.monotonic()
        config, first = self.config, self.config.descriptor_phase
        is_first = self.step < first.steps
        phase, at = (first, self.step) if is_first else (config.joint_phase, self.step - first.steps)
        if at == 0:
            # Until now the metric network is random; its mean would remember that for long.
            self.mean = running_mean(self.net, config.ema)
        rate = learning_rate(phase, at)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.sampler.draw(phase.batch)
        with _arithmetic(self.device, config.precision):
            if is_first:
                losses = descriptor_step(self.net, batch, self.radiometry, config.losses)
            else:
                losses = joint_step(self.net, batch, self.radiometry, config.losses, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(losses.total)
        nn.utils.clip_grad_norm_(self.net.parameters(), config.optimizer.largest_gradient)
        self.optimizer.step()
        self.mean.update_parameters(self.net)
        self.step += 1
        if self.step % config.log_every == 0:
            self._figures = {name: float(part) for name, part in losses.parts.items()}
            passed = time.monotonic() - began
            self._write({"family": batch.family, "lr": rate, "seconds": passed, **self._figures})
        if self._progress:
            self._progress(self.step, config.total_steps, self._figures)

    def _write(self, figures: dict[str, Any]) -> None:
        for monitor in self._monitors:
            monitor.write(self.step, figures)

    def _sampler(self, generator: torch.Generator, validation: bool = False) -> PatchSampler:
        config = self.config
        bank = load_bank(config.data, validation=validation, device=self.device, families=config.families)
        return PatchSampler(bank, config.group_weights, config.geometry, generator, config.images_per_batch)

    def _validate(self) -> None:
        """Validate the averaged weights and keep them if they are the best so far, or if nothing can be validated."""
        score = None
        if self.validation:
            averaged = self.mean.module
            assert isinstance(averaged, RRLNet)
            metric = self.step > self.config.descriptor_phase.steps
            with _arithmetic(self.device, self.config.precision):
                figures = validate(averaged, self.validation, metric)
            score = score_of(figures)
            self._write({"fpr95": figures, "score": round(score, 3)})
        if self.step <= self.config.descriptor_phase.steps:
            return
        self.validations_since_best += 1
        if score is None or score < self.best_score:
            self.best_score = math.inf if score is None else score
            self.validations_since_best = 0
            save_checkpoint(self.best, average_of(self.mean, self.step, score))

    def _save(self) -> None:
        content = average_of(self.mean, self.step, None) | {
            "network": detached(self.net.state_dict()),
            "mean_updates": int(self.mean.n_averaged),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "best_score": self.best_score,
            "validations_since_best": self.validations_since_best,
            "recipe": self.config.recipe(),
        }
        save_checkpoint(self.checkpoint, content)

    def _resume(self) -> None:
        content = load_checkpoint(self.checkpoint)
        if content is None:
            return
        before, now = content["recipe"], self.config.recipe()
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            raise UsageError(
                f"{self.checkpoint} is of a run with other settings ({', '.join(changed)}): "
                "take the settings it was begun with, or another output folder"
            )
        self.step = content["step"]
        self.net.load_state_dict(content["network"])
        self.mean.module.load_state_dict(content["mean"])
        self.mean.n_averaged.fill_(content["mean_updates"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.generator.set_state(content["generator"])
        self.best_score = content["best_score"]
        self.validations_since_best = content["validations_since_best"]


def train(config: TrainingConfig, seconds: float = math.inf, progress: Progress | None = None) -> Path | None:
    """Run or resume a training.

    Args:
        config: Settings of the run.
        seconds: Time after which it stops; another call resumes.
        progress: Called after every step.

    Returns:
        The checkpoint with the best weights; None if time was up before the end.

    Raises:
        InputError, UsageError: As ``Trainer``.
    """
    trainer = Trainer(config, progress)
    if not trainer.run(seconds):
        return None
    return trainer.best if trainer.best.is_file() else trainer.checkpoint


def learning_rate(phase: PhaseConfig, step: int) -> float:
    """Return the rate at a step of a phase: a linear rise, then half a cosine down to a hundredth of the peak."""
    rise = min(1.0, (step + 1) / max(1, phase.warmup))
    fall = 0.5 * (1 + math.cos(math.pi * step / max(1, phase.steps)))
    return phase.learning_rate * rise * max(0.01, fall)


def make_optimizer(net: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Make the optimizer, with rate 0: each step sets it."""
    betas = (0.9, config.beta2)
    if config.kind is OptimizerKind.NADAM:
        return torch.optim.NAdam(
            net.parameters(), lr=0.0, betas=betas, weight_decay=config.weight_decay, decoupled_weight_decay=True
        )
    return torch.optim.AdamW(net.parameters(), lr=0.0, betas=betas, weight_decay=config.weight_decay)


def _network(config: TrainingConfig) -> RRLNet:
    """Make the first network: random from the seed, or given weights with new heads and decoders."""
    torch.manual_seed(config.seed)
    net = RRLNet(architecture=config.architecture)
    if config.initial == "none":
        return net
    given, name = load_weights(None if config.initial == "shipped" else Path(config.initial))
    if given.architecture != config.architecture:
        raise InputError(
            f"the initial weights {name} are of {given.architecture}, the run is of {config.architecture}: "
            "make both the same, or start with initial: none"
        )
    net.load_state_dict(given.state_dict(), strict=False)
    return net


def _arithmetic(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[Any]:
    if precision is Precision.AUTO:
        return autocast(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=precision is Precision.BFLOAT16)


def _now(device: torch.device) -> float:
    """Return the time after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


def _device(name: str) -> torch.device:
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    if chosen not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} seen, auto, cpu or cuda needed")
    if chosen == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda, but torch sees no GPU: take auto or cpu, or install torch with CUDA")
    return torch.device(chosen)

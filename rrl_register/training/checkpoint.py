"""Checkpoints of a run: the state to continue from, and the averaged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from rrl_register.errors import InputError
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.raster.writer import atomic_path


def running_mean(network: nn.Module, decay: float) -> AveragedModel:
    """Begin an exponential moving average of a network's weights and buffers.

    Args:
        network: The network; its present state is forgotten with the first update.
        decay: Share that the mean keeps at each update; smaller during the first updates.
    """

    def average(mean: Tensor, value: Tensor, updates: Tensor | int) -> Tensor:
        """Move the mean towards a value; whole numbers are replaced."""
        if not mean.is_floating_point():
            return value
        kept = torch.as_tensor((updates + 1) / (updates + 11)).clamp(max=decay)
        return torch.lerp(value, mean, kept)

    return AveragedModel(network, avg_fn=average, use_buffers=True)


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; a crash leaves the old one or the new one."""
    with atomic_path(path, overwrite=True) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint, of tensors and plain values only; return None if there is none yet.

    Raises:
        InputError: If the file is no checkpoint of this program.
    """
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        seen = str(error).splitlines()[0]
        raise InputError(f"{path} is no checkpoint of this program ({seen}): remove it to start afresh") from error
    return content


def detached(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy a state dict to the CPU."""
    return {k: v.detach().cpu().clone() for k, v in state.items()}


def average_of(mean: AveragedModel, step: int, score: float | None) -> dict[str, Any]:
    """Return what ``rrl-register export`` reads: averaged weights, architecture and score.

    Args:
        mean: Running mean of the network.
        step: Steps done.
        score: Validation score, lower is better; None: not validated.
    """
    network = mean.module
    assert isinstance(network, RRLNet)
    architecture = network.architecture.to_dict()
    return {"step": step, "score": score, "mean": detached(network.state_dict()), "architecture": architecture}

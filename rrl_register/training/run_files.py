"""Files of a run: checkpoints, exported weights, logs and curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from rrl_register.errors import InputError, UsageError
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
        return torch.lerp(value, mean, torch.as_tensor((updates + 1) / (updates + 11)).clamp(max=decay))

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


class Monitor(Protocol):
    """Records the figures of a step."""

    def write(self, step: int, figures: Mapping[str, Any]) -> None:
        """Record figures: numbers, text, or a mapping of names to numbers."""


class JsonLines:
    """A log of one JSON object a line.

    Args:
        path: The file; the first record makes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, step: int, figures: Mapping[str, Any]) -> None:
        """Append a record; the file is closed in between and can be read at any time."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")


class TensorBoard:
    """Curves for ``tensorboard --logdir FOLDER``.

    Raises:
        UsageError: If TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                "tensorboard: true, but it is not installed: pip install 'rrl-register[train]', or leave it out"
            ) from error
        self._writer = SummaryWriter(str(folder))

    def write(self, step: int, figures: Mapping[str, Any]) -> None:
        """Append the numbers among the figures to their curves."""
        for name, value in figures.items():
            values = value if isinstance(value, Mapping) else {"": value}
            for part, number in values.items():
                if isinstance(number, int | float):
                    self._writer.add_scalar(f"{name}/{part}".rstrip("/"), number, step)
        self._writer.flush()

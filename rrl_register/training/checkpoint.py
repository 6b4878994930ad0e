"""What a run needs to go on where it stopped, and the weights that come out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rrl_register.errors import InputError
from rrl_register.nn.rrlnet import RRLNet


class ExponentialMovingAverage:
    """A running mean of a network's floating-point state; smoother than its last step.

    Args:
        network: Whose state is averaged.
        decay: Share that the mean keeps at each update; smaller during the first updates, so that the start is
            forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.restart(network)

    def restart(self, network: nn.Module) -> None:
        """Forgets the past: the mean is the network's present state."""
        self.updates = 0
        self.state = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Moves the mean towards the network's present state."""
        self.updates += 1
        decay = min(self.decay, self.updates / (10 + self.updates))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint so that a crash leaves the old one or the new one, never half of either."""
    temporary = path.with_name(path.name + ".partial")
    torch.save(content, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint at ``path``, or None if there is none yet; unpickles tensors and plain values only.

    Raises:
        InputError: If the file is none of ours.
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
    """A copy of a state dict on the CPU."""
    return {k: v.detach().cpu().clone() for k, v in state.items()}


def average_of(net: RRLNet, mean: ExponentialMovingAverage, step: int, score: float | None) -> dict[str, Any]:
    """What ``rrl-register export`` reads: the averaged weights, how the network is built, and how good it was.

    Args:
        net: The network that is trained.
        mean: Its running mean.
        step: Steps done.
        score: Validation score, lower is better; None: not validated.
    """
    return {"step": step, "score": score, "mean": detached(mean.state), "architecture": net.architecture.to_dict()}

"""Weights files for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from rrl_register.nn.architecture import PAPER, Architecture
from rrl_register.nn.weights import prune_weights, write_weights


def save_weights(
    path: Path, state: Mapping[str, Tensor], notes: Mapping[str, str], architecture: Architecture = PAPER
) -> None:
    """Write a network's state as weights for inference, named after the file."""
    write_weights(path, prune_weights(state, {"name": path.stem, **notes}, architecture))

"""Weights on disk: pruned, half precision, safetensors with checksum and architecture; never unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rrl_register.errors import InputError
from rrl_register.nn.architecture import PAPER, Architecture
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.raster.writer import atomic_path

SCHEMA = "rrlnet-1"
SHIPPED = "rrlnet.safetensors"


@dataclass(frozen=True)
class Weights:
    """Weights for inference and their metadata.

    Attributes:
        state: State dict without heads and decoders, half precision, on the CPU; it fits the architecture.
        notes: Metadata of a file: schema, checksum, architecture (as JSON), name, and perhaps recipe and the like.
        architecture: Architecture of their network.
    """

    state: dict[str, Tensor]
    notes: dict[str, str]
    architecture: Architecture

    @property
    def label(self) -> str:
        """``<name> <first digits of the checksum>``."""
        return f"{self.notes['name']} {self.notes['checksum'][:8]}"

    def network(self) -> RRLNet:
        """Build a network with these weights, in evaluation mode, single precision, on the CPU."""
        net = _skeleton(self.architecture)
        state = {k: v.float() if v.is_floating_point() else v.clone() for k, v in self.state.items()}
        net.load_state_dict(state, assign=True)
        return net.eval()


def prune_weights(state: Mapping[str, Tensor], notes: Mapping[str, str], architecture: Architecture = PAPER) -> Weights:
    """Keep what inference needs of a network's state, in half precision.

    Args:
        state: State dict of an ``RRLNet``, with or without heads.
        notes: Further metadata (name, recipe, date).
        architecture: Architecture of that network.

    Raises:
        InputError: If the state is of another network, or overflows half precision.
    """
    kept = {name: state[name].detach().cpu() for name in _skeleton(architecture).state_dict() if name in state}
    pruned = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in kept.items()}
    misfit = _misfit(pruned, architecture)
    if misfit:
        raise InputError(f"the weights do not fit this network ({misfit}): give those of the architecture named")
    endless = [k for k, v in pruned.items() if not torch.isfinite(v).all()]
    if endless:
        raise InputError(f"the weights are not finite in half precision ({endless[0]}): train at a lower rate")
    own = {"schema": SCHEMA, "checksum": checksum(pruned), "architecture": json.dumps(architecture.to_dict())}
    return Weights(pruned, {"name": "unnamed", **notes, **own}, architecture)


def write_weights(path: Path, weights: Weights) -> None:
    """Write weights to a safetensors file, which is replaced as a whole.

    Raises:
        UsageError, WriteError: If the file cannot be written there.
    """
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_bytes(save(weights.state, weights.notes))


def load_weights(path: Path | None = None) -> tuple[RRLNet, str]:
    """Load a network for inference, as ``Weights.network``, and the label of its weights.

    Argument and errors are those of ``read_weights``.
    """
    weights = read_weights(path)
    return weights.network(), weights.label


def read_weights(path: Path | None = None) -> Weights:
    """Read a weights file and check all of it.

    Args:
        path: A file of ``write_weights``; None: the weights shipped with the package.

    Raises:
        InputError: If the file is missing, is no weights file of this schema, or fails its checksum.
    """
    if path is None:
        with as_file(files("rrl_register.nn") / "weights" / SHIPPED) as shipped:
            return read_weights(shipped)
    if not path.is_file():
        raise InputError(f"no weights at {path}: give a .safetensors file made by this program, or leave --weights out")
    try:
        with safe_open(str(path), framework="pt") as file:
            state, notes = {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no safetensors file ({error}): give weights exported by this program") from error
    if notes.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {notes.get('schema')}, {SCHEMA} is needed: export the weights again")
    if notes.get("checksum") != checksum(state):
        raise InputError(f"{path} is damaged, its checksum does not fit its content: fetch or export it again")
    try:
        architecture = Architecture.from_dict(json.loads(notes["architecture"])) if "architecture" in notes else PAPER
    except (ValueError, InputError) as error:
        raise InputError(f"{path} is for a network unknown here ({error}): export the weights again") from error
    misfit = _misfit(state, architecture)
    if misfit:
        raise InputError(f"{path} does not fit this network ({misfit}): export the weights again")
    notes = {"name": path.stem, **notes, "architecture": json.dumps(architecture.to_dict())}
    return Weights(state, notes, architecture)


def checksum(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, shapes and bytes of a state dict, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _skeleton(architecture: Architecture) -> RRLNet:
    """Build a network without memory for its weights, so that a file cannot demand more than it holds."""
    with torch.device("meta"):
        return RRLNet(training_heads=False, architecture=architecture)


def _misfit(state: Mapping[str, Tensor], architecture: Architecture) -> str | None:
    """Return the first reason why a state does not fit a network; None if it fits."""
    needed = _skeleton(architecture).state_dict()
    for name in sorted(needed.keys() ^ state.keys()):
        return f"{name} is {'missing' if name in needed else 'not one of its weights'}"
    for name, tensor in needed.items():
        seen = state[name]
        if (seen.shape, seen.is_floating_point()) != (tensor.shape, tensor.is_floating_point()):
            return f"{name} is {seen.dtype} {tuple(seen.shape)}, not {tensor.dtype} {tuple(tensor.shape)}"
    return None

"""Weights on disk: pruned, half precision, safetensors with a checksum; never unpickled."""

from __future__ import annotations

import hashlib
from importlib.resources import as_file, files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rrl_register.errors import InputError
from rrl_register.nn.rrlnet import RRLNet

SCHEMA = "rrlnet-1"
SHIPPED = "rrlnet.safetensors"


def save_weights(path: Path, state: dict[str, Tensor], notes: dict[str, str]) -> None:
    """Writes a network's state without heads and decoders, in half precision.

    Args:
        path: Where to; replaced as a whole.
        state: State dict of an ``RRLNet``, with or without heads.
        notes: What else the file should say of itself (name, recipe, date).
    """
    names = RRLNet(training_heads=False).state_dict().keys()
    pruned = {k: _half(state[k]) for k in names}
    temporary = path.with_name(path.name + ".partial")
    save_file(pruned, str(temporary), {**notes, "schema": SCHEMA, "checksum": checksum(pruned)})
    temporary.replace(path)


def load_weights(path: Path | None = None) -> tuple[RRLNet, str]:
    """A network for inference and the name of its weights.

    Args:
        path: A file of ``save_weights``; None: the weights shipped with the package.

    Returns:
        The network, in evaluation mode, single precision, on the CPU, and ``<name> <first digits of the checksum>``.

    Raises:
        InputError: If the file is missing, is no weights file of this schema, or fails its checksum.
    """
    if path is None:
        with as_file(files("rrl_register.nn") / "weights" / SHIPPED) as shipped:
            return load_weights(shipped)
    if not path.is_file():
        raise InputError(f"no weights at {path}: give a .safetensors file made by this program, or leave --weights out")
    state, notes = _read(path)
    if notes.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {notes.get('schema')}, {SCHEMA} is needed: export the weights again")
    if notes.get("checksum") != checksum(state):
        raise InputError(f"{path} is damaged, its checksum does not fit its content: fetch or export it again")
    net = RRLNet(training_heads=False)
    try:
        net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise InputError(f"{path} does not fit this network ({first}): export the weights again") from error
    return net.eval(), f"{notes.get('name', path.stem)} {notes['checksum'][:8]}"


def checksum(state: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of a state dict, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _half(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.half() if tensor.is_floating_point() else tensor).contiguous()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no safetensors file ({error}): give weights exported by this program") from error

"""Carry a run between machines in few small files.

A checkpoint holds five numbers of four bytes for each of the network's 13 million. A slice holds 6.5 bytes: the network
and its mean in half precision, the second moments of the optimizer as 8-bit logarithms, the best weights so far pruned
and in half precision. The first moments, means over some ten steps, start from zero, so that the first steps of a slice
are short. Small tensors (biases, batch norms) stay as they are.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rrl_register.errors import InputError
from rrl_register.nn.architecture import Architecture
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.raster.writer import atomic_path
from rrl_register.training.loop import BEST, CHECKPOINT, LOG
from rrl_register.training.run_files import load_checkpoint, save_checkpoint

MANIFEST = "manifest.json"
MIB = 2**20
_SMALL = 4096
"""Smaller tensors stay as they are."""
_FIRST, _SECOND = "exp_avg", "exp_avg_sq"
"""Names of the moments in the states of torch's Adam optimizers."""
_OCTAVES = 40.0
"""Range of second moments below the largest, in halvings; smaller ones are rounded up to its end."""
_CODES = 254


def write_slice(run: Path, out: Path, finished: bool = False, piece_mib: float = math.inf) -> list[Path]:
    """Write what another machine needs to resume a run, or the result of a finished run.

    Args:
        run: The run's output folder, with its checkpoint.
        out: Folder of the files; those of an earlier slice are replaced.
        finished: Write the best weights alone, a quarter of the bytes.
        piece_mib: Largest size of a file, MiB.

    Returns:
        The files: pieces, manifest with their SHA-256, log.

    Raises:
        InputError: If there is no checkpoint.
    """
    content = load_checkpoint(run / CHECKPOINT)
    if content is None:
        raise InputError(f"there is no {run / CHECKPOINT}: train first")
    best = load_checkpoint(run / BEST)
    finished = finished and best is not None
    buffer = io.BytesIO()
    carried = {
        "step": content["step"],
        "run": None if finished else reduced(content),
        "best": None if best is None else _pruned(best),
    }
    torch.save(carried, buffer)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("state.*"):
        old.unlink()
    limit = int(min(piece_mib * MIB, max(1, buffer.tell())))
    pieces = _write_pieces(buffer.getvalue(), out, limit)
    manifest = {"step": content["step"], "pieces": {p.name: _digest(p.read_bytes()) for p in pieces}}
    log = (run / LOG).read_bytes() if (run / LOG).is_file() else b""
    _write(out / LOG, log[-limit:])
    _write(out / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return [*pieces, out / MANIFEST, out / LOG]


def read_slice(folder: Path, run: Path) -> int:
    """Restore a run from the files of a slice.

    Args:
        folder: Holds the files of ``write_slice``.
        run: Output folder for the checkpoint (of an unfinished run), the best weights and the log, which are replaced.

    Returns:
        Steps done.

    Raises:
        InputError: If a file is missing or damaged.
    """
    content = _concatenated(folder)
    run.mkdir(parents=True, exist_ok=True)
    if content["best"] is not None:
        save_checkpoint(run / BEST, _widened(content["best"]))
    if (folder / LOG).is_file():
        _write(run / LOG, (folder / LOG).read_bytes())
    if content["run"] is not None:
        save_checkpoint(run / CHECKPOINT, expanded(content["run"]))
    return int(content["step"])


def reduced(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Compress a checkpoint to what a run needs to resume; ``expanded`` is the inverse."""
    optimizer = checkpoint["optimizer"]
    state = {number: _reduced_moments(moments) for number, moments in optimizer["state"].items()}
    return checkpoint | {
        "network": _in_half(checkpoint["network"]),
        "mean": _in_half(checkpoint["mean"]),
        "optimizer": {**optimizer, "state": state},
    }


def expanded(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Restore a reduced checkpoint for the training loop."""
    optimizer = checkpoint["optimizer"]
    state = {number: _expanded_moments(moments) for number, moments in optimizer["state"].items()}
    return _widened(checkpoint) | {
        "network": _single(checkpoint["network"]),
        "optimizer": {**optimizer, "state": state},
    }


def _reduced_moments(moments: dict[str, Any]) -> dict[str, Any]:
    second = moments.get(_SECOND)
    if second is None or second.numel() < _SMALL:
        return moments
    rest = {name: value for name, value in moments.items() if name != _FIRST}
    return rest | {_SECOND: _as_codes(second.cpu())}


def _expanded_moments(moments: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(moments.get(_SECOND), dict):
        return moments
    second = _from_codes(moments[_SECOND])
    return moments | {_FIRST: torch.zeros_like(second), _SECOND: second}


def _as_codes(values: Tensor) -> dict[str, Any]:
    """Encode numbers >= 0 as 8-bit logarithms: 0 for zero, 255 for the largest, equal ratios between."""
    top = float(values.max().clamp(min=torch.finfo(torch.float32).tiny).log2())
    place = (values.clamp(min=1e-45).log2() - top) / _OCTAVES + 1
    codes = (1 + place.clamp(0, 1) * _CODES).round().byte()
    return {"codes": torch.where(values > 0, codes, 0).byte(), "top": top}


def _from_codes(coded: dict[str, Any]) -> Tensor:
    codes = coded["codes"]
    exponent = coded["top"] + ((codes.float() - 1) / _CODES - 1) * _OCTAVES
    return torch.where(codes > 0, torch.exp2(exponent), 0.0)


def _in_half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.half() if v.is_floating_point() and v.numel() >= _SMALL else v for k, v in state.items()}


def _single(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def _pruned(best: dict[str, Any]) -> dict[str, Any]:
    """Keep of the best weights what inference needs."""
    architecture = Architecture.from_dict(best["architecture"])
    names = RRLNet(training_heads=False, architecture=architecture).state_dict().keys()
    return best | {"mean": _in_half({name: best["mean"][name] for name in names})}


def _widened(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"mean": _single(content["mean"])}


def _write_pieces(data: bytes, out: Path, limit: int) -> list[Path]:
    starts = range(0, len(data), limit)
    pieces = [out / f"state.{number:02d}" for number in range(len(starts))]
    for piece, start in zip(pieces, starts, strict=True):
        _write(piece, data[start : start + limit])
    return pieces


def _concatenated(folder: Path) -> dict[str, Any]:
    try:
        expected: dict[str, str] = json.loads((folder / MANIFEST).read_text())["pieces"]
        pieces = {name: (folder / name).read_bytes() for name in expected}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is no complete slice of a run ({error}): fetch all its files again") from error
    damaged = [name for name, piece in pieces.items() if _digest(piece) != expected[name]]
    if damaged:
        raise InputError(f"{folder / damaged[0]} is damaged, its SHA-256 is another: fetch it again")
    content: dict[str, Any] = torch.load(io.BytesIO(b"".join(pieces.values())), map_location="cpu", weights_only=True)
    return content


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_bytes(data)

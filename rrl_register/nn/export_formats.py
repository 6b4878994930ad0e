"""The formats that the network is exported to. Importing this loads no PyTorch."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from rrl_register.errors import UsageError


class ExportFormat(StrEnum):
    """A file format for the network."""

    SAFETENSORS = "safetensors"
    """Weights alone, for this program's ``--weights``."""
    ONNX = "onnx"
    """Weights and computation, for ONNX Runtime and what else reads ONNX."""
    TORCHSCRIPT = "torchscript"
    """Weights and computation, for ``torch.jit.load`` and LibTorch."""


SUFFIXES = {
    ".safetensors": ExportFormat.SAFETENSORS,
    ".onnx": ExportFormat.ONNX,
    ".pt": ExportFormat.TORCHSCRIPT,
    ".ts": ExportFormat.TORCHSCRIPT,
}
ONNX_PACKAGES = ("onnx", "onnxscript")


def export_format(output: Path, asked: ExportFormat | None = None) -> ExportFormat:
    """The format to write a file in: the one asked for, else the one that the file's suffix stands for.

    Raises:
        UsageError: If the suffix stands for none, or what writes the format is not installed.
    """
    chosen = asked or SUFFIXES.get(output.suffix.lower())
    if chosen is None:
        known = ", ".join(SUFFIXES)
        raise UsageError(f"no format is known by the suffix of {output}; needed one of {known}; try --format")
    if chosen is ExportFormat.ONNX:
        _require_onnx()
    return chosen


def _require_onnx() -> None:
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        needed = " and ".join(missing)
        raise UsageError(f"{needed} not installed; needed to write ONNX; try: pip install 'rrl-register[onnx]'")

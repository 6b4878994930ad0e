"""Formats of network exports. Importing this loads no PyTorch."""

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
    """Weights and computation, for ONNX Runtime and other readers of ONNX."""
    TORCHSCRIPT = "torchscript"
    """Weights and computation, for ``torch.jit.load`` and LibTorch."""


SUFFIXES = {
    ".safetensors": ExportFormat.SAFETENSORS,
    ".onnx": ExportFormat.ONNX,
    ".pt": ExportFormat.TORCHSCRIPT,
    ".ts": ExportFormat.TORCHSCRIPT,
}
ONNX_PACKAGES = ("onnx", "onnxscript")


def export_format(output: Path, requested: ExportFormat | None = None) -> ExportFormat:
    """Return the requested format, else the one of the file's suffix.

    Raises:
        UsageError: If the suffix names no format, or the packages that write it are not installed.
    """
    chosen = requested or SUFFIXES.get(output.suffix.lower())
    if chosen is None:
        known = ", ".join(SUFFIXES)
        raise UsageError(f"no format is known by the suffix of {output}; needed one of {known}; try --format")
    if chosen is ExportFormat.ONNX:
        missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
        if missing:
            needed = " and ".join(missing)
            raise UsageError(f"{needed} not installed; needed to write ONNX; try: pip install 'rrl-register[onnx]'")
    return chosen

"""Log of a run: JSON lines and, on request, curves for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rrl_register.errors import UsageError


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

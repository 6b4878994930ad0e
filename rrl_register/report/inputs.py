"""What a report is made from."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rrl_register.config import Kind, RegisterConfig
from rrl_register.exchange.registration import Registration, read_registration


@dataclass(frozen=True)
class Case:
    """Two images and what registering them gave.

    Attributes:
        fixed, moving: The files.
        registration: The result; None where it could not begin, because an image cannot be used.
        config: Settings that it was made with.
        settings_known: Whether ``config`` is all of them; False where only a result file tells of them.
        failure: Why it could not begin; empty where there is a result.
        result: Name of the result file, if one was written.
        output: Name of the aligned image, if one was written.
    """

    fixed: Path
    moving: Path
    registration: Registration | None
    config: RegisterConfig = field(default_factory=RegisterConfig)
    settings_known: bool = True
    failure: str = ""
    result: Path | None = None
    output: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether the images were registered."""
        return self.registration is not None and self.registration.matrix is not None

    @property
    def reason(self) -> str:
        """Why they were not, in one line; empty if they were."""
        return self.failure or (self.registration.reason if self.registration else "")

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        """What the images were taken for; where that is not known, what the settings say."""
        found = self.registration
        if found is None:
            return self.config.read.fixed_kind, self.config.read.moving_kind
        return Kind(found.fixed_kind), Kind(found.moving_kind)

    @property
    def fixed_metres(self) -> float | None:
        """Size of a fixed px on the ground; None without a georeference."""
        return self.registration.fixed_grid.metres_per_pixel if self.registration else None


def read_case(
    result: Path, fixed: Path, moving: Path, config: RegisterConfig | None = None, *, settings_known: bool = True
) -> Case:
    """Take up a registration from its result file, be it of one that could not begin.

    Args:
        result: What ``rrl-register --json`` wrote.
        fixed: The reference image that was registered.
        moving: The other one.
        config: Settings that it was made with, as far as they are known; None: the defaults.
        settings_known: Whether they all are.

    Raises:
        InputError: The file is no such result.
    """
    failure = _failure_at_start(result)
    registration = None if failure else read_registration(result)
    return Case(fixed, moving, registration, config or RegisterConfig(), settings_known, failure, result)


def _failure_at_start(result: Path) -> str:
    """Why a registration could not begin; empty if it did, or if the file is no result."""
    with suppress(OSError, ValueError, AttributeError):
        data = json.loads(result.read_text(encoding="utf-8"))
        if data.get("status") == "failed" and data.get("fixed_grid") is None:
            return str(data.get("reason") or "unknown")
    return ""

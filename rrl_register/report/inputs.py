"""The input of a report: two images, the result of registering them, and the commands that repeat it."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from rrl_register.config import Kind, RegisterConfig
from rrl_register.config.files import parse_json, read_text
from rrl_register.config.options import CONFIG_OPTIONS, ConfigOption
from rrl_register.exchange.registration import Registration, read_registration


@dataclass(frozen=True)
class ReportInput:
    """Two images and the result of registering them.

    Attributes:
        fixed, moving: The files.
        registration: The result; None if the registration did not start because an image cannot be used.
        config: Settings of the registration.
        settings_known: False if ``config`` may lack some of them, because only a result file is at hand.
        failure: Reason why the registration did not start; empty if there is a result.
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
        """True if the images were registered."""
        return self.registration is not None and self.registration.matrix is not None

    @property
    def reason(self) -> str:
        """Reason of the failure, in one line; empty if the images were registered."""
        return self.failure or (self.registration.reason if self.registration else "")

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        """Kinds of the fixed and the moving image: as registered, or else as set."""
        found, read = self.registration, self.config.read
        return (Kind(found.fixed_kind), Kind(found.moving_kind)) if found else (read.fixed_kind, read.moving_kind)

    @property
    def fixed_metres(self) -> float | None:
        """Ground size of a fixed pixel, m; None without a georeference."""
        return self.registration.fixed_grid.metres_per_pixel if self.registration else None


def read_report_input(
    result: Path, fixed: Path, moving: Path, config: RegisterConfig | None = None, *, settings_known: bool = True
) -> ReportInput:
    """Read a registration from its result file, even if it did not start.

    Args:
        result: A file written by ``rrl-register --json``.
        fixed: The reference image that was registered.
        moving: The other image.
        config: Settings of the registration, as far as they are known; None: the defaults.
        settings_known: False if ``config`` may lack some of them.

    Raises:
        InputError: The file is no result of a registration.
    """
    failure = ""
    with suppress(OSError, ValueError, AttributeError):  # read_registration reports them
        data = parse_json(read_text(result))
        if data.get("status") == "failed" and data.get("fixed_grid") is None:
            failure = str(data.get("reason") or "unknown")
    registration = None if failure else read_registration(result)
    return ReportInput(fixed, moving, registration, config or RegisterConfig(), settings_known, failure, result)


_ALIGNED, _RESULT = Path("aligned.tif"), Path("result.json")


class Setting(NamedTuple):
    """An option and its value as text; ``given`` if it is not the default."""

    flag: str
    value: str
    given: bool


def settings(config: RegisterConfig) -> list[Setting]:
    """List all options of a registration, those that differ from the defaults first."""
    listed = []
    for option in CONFIG_OPTIONS:
        texts = _texts(option, config)
        shown = ", ".join(texts) if texts else option.default_text or "none"
        listed.append(Setting(option.flag, shown, texts != _texts(option, RegisterConfig())))
    return sorted(listed, key=lambda setting: not setting.given)


def register_command(inputs: ReportInput) -> str:
    """Return the command that registers the pair again."""
    words = ["rrl-register", str(inputs.fixed), str(inputs.moving)]
    words += ["-o", str(inputs.output or _ALIGNED), "--json", str(inputs.result or _RESULT)]
    for option in CONFIG_OPTIONS:
        texts = _texts(option, inputs.config)
        if texts != _texts(option, RegisterConfig()):
            words += [word for text in texts for word in (option.flag, text)]
    return shlex.join(words)


def apply_command(inputs: ReportInput) -> str:
    """Return the command that warps another band by the same transform."""
    return f"rrl-register apply {shlex.quote(str(inputs.result or _RESULT))} OTHER_BAND.tif -o OTHER_ALIGNED.tif"


def _texts(option: ConfigOption, config: RegisterConfig) -> list[str]:
    """Return the values that the command line takes for an option, one for each time that the option is repeated."""
    value = getattr(getattr(config, option.section), option.field)
    listed = value if option.multiple else () if value is None or value == () else (value,)
    return [_text(item) for item in listed]


def _text(value: Any) -> str:
    """Format a value as the command line takes it."""
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return ("=" if isinstance(value[0], str) else ",").join(map(str, value))
    return str(value)

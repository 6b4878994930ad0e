"""The command line that repeats a registration, and its settings."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rrl_register.config import RegisterConfig
from rrl_register.config.options import CONFIG_OPTIONS, ConfigOption
from rrl_register.report.inputs import ReportInput

_ALIGNED, _RESULT = Path("aligned.tif"), Path("result.json")


@dataclass(frozen=True)
class Setting:
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
    result = str(inputs.result or _RESULT)
    return shlex.join(["rrl-register", "apply", result, "OTHER_BAND.tif", "-o", "OTHER_ALIGNED.tif"])


def _texts(option: ConfigOption, config: RegisterConfig) -> list[str]:
    """Return the values that the command line takes for an option, one for each time that the option is repeated."""
    value = getattr(getattr(config, option.section), option.field)
    if value is None or value == ():
        return []
    return [_text(item) for item in value] if option.multiple else [_text(value)]


def _text(value: Any) -> str:
    """Format a value as the command line takes it."""
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return ("=" if isinstance(value[0], str) else ",").join(map(str, value))
    return str(value)

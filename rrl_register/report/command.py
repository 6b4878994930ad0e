"""The command line that makes a registration again, and the settings that it was made with."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rrl_register.config import RegisterConfig
from rrl_register.config.options import CONFIG_OPTIONS, ConfigOption
from rrl_register.report.inputs import Case

_ALIGNED, _RESULT = Path("aligned.tif"), Path("result.json")


@dataclass(frozen=True)
class Setting:
    """An option and its value as text; ``given`` where it is not the default."""

    flag: str
    value: str
    given: bool


def settings(config: RegisterConfig) -> list[Setting]:
    """All options of a registration, those that were given first."""
    listed = [Setting(option.flag, _shown(option, config), _is_given(option, config)) for option in CONFIG_OPTIONS]
    return sorted(listed, key=lambda setting: not setting.given)


def register_command(case: Case) -> str:
    """The command that registers the pair again."""
    names = [
        str(case.fixed),
        str(case.moving),
        "-o",
        str(case.output or _ALIGNED),
        "--json",
        str(case.result or _RESULT),
    ]
    given = [
        word for option in CONFIG_OPTIONS if _is_given(option, case.config) for word in _words(option, case.config)
    ]
    return shlex.join(["rrl-register", *names, *given])


def apply_command(case: Case) -> str:
    """The command that warps another band by the same transform."""
    result = str(case.result or _RESULT)
    return shlex.join(["rrl-register", "apply", result, "OTHER_BAND.tif", "-o", "OTHER_ALIGNED.tif"])


def _value(option: ConfigOption, config: RegisterConfig) -> Any:
    return getattr(getattr(config, option.section), option.field)


def _is_given(option: ConfigOption, config: RegisterConfig) -> bool:
    return bool(_value(option, config) != _value(option, RegisterConfig()))


def _words(option: ConfigOption, config: RegisterConfig) -> list[str]:
    """The flag and its value; repeated where it may be given more than once."""
    value = _value(option, config)
    texts = [_text(item) for item in value] if option.multiple else [_text(value)]
    return [word for text in texts for word in (option.flag, text)]


def _shown(option: ConfigOption, config: RegisterConfig) -> str:
    value = _value(option, config)
    if value is None or value == ():
        return option.default_text or "none"
    return ", ".join(map(_text, value)) if option.multiple else _text(value)


def _text(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return ("=" if isinstance(value[0], str) else ",").join(map(str, value))
    return str(value)

"""Settings of a registration in a YAML file: a template of all of them, and reading one back.

A setting has the name of its option without the dashes, as a column of a batch's manifest has.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from rrl_register.config import RegisterConfig
from rrl_register.config.options import CONFIG_OPTIONS, ConfigOption, as_text, build_config, nearest
from rrl_register.errors import InputError, UsageError

_OPTIONS = {option.name: option for option in CONFIG_OPTIONS}
_HEADER = "Settings of rrl-register, for --config FILE. A setting that is left out, or null, keeps its default."
_WIDTH = 110


def read_config(path: Path) -> RegisterConfig:
    """Read the settings of a registration; those that the file leaves out keep their defaults.

    Raises:
        InputError, UsageError: As ``read_settings``.
    """
    return build_config({option.parameter: option.parse(text) for option, text in read_settings(path).items()})


def read_settings(path: Path) -> dict[ConfigOption, str]:
    """Read a file of settings and check them; what is null is left out, and paths are relative to the file's folder.

    Returns:
        Option -> its value, as text that ``ConfigOption.parse`` takes.

    Raises:
        InputError: The file cannot be read or is no YAML.
        UsageError: A setting does not exist or has a value that does not fit.
    """
    settings = _load(path)
    try:
        given = {_option(name): value for name, value in settings.items()}
        return {option: _text(option, value, path.parent) for option, value in given.items() if value is not None}
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def template(config: RegisterConfig | None = None) -> str:
    """All settings as YAML, each with a comment that says what it does.

    Args:
        config: The values to write; None: the defaults.
    """
    blocks = [_comment(_HEADER)]
    for group, options in groupby(sorted(CONFIG_OPTIONS, key=_place), key=lambda option: option.group):
        blocks.append(_comment(f"---- {group}"))
        blocks += [_entry(option, config or RegisterConfig()) for option in options]
    return "\n".join(blocks)


def _place(option: ConfigOption) -> int:
    """Order of the groups: as their first options come."""
    return [other.group for other in CONFIG_OPTIONS].index(option.group)


def _entry(option: ConfigOption, config: RegisterConfig) -> str:
    setting = {option.name: option.plain(config)}
    line = str(yaml.safe_dump(setting, default_flow_style=True, width=math.inf))
    return _comment(" ".join(_remarks(option))) + line.strip()[1:-1] + "\n"


def _remarks(option: ConfigOption) -> Iterator[str]:
    yield option.help
    if choices := getattr(option.type, "choices", None):
        yield f"One of {', '.join(map(str, choices))}."
    if option.default is None:
        yield f"Default: {option.default_text}."


def _comment(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False) + "\n"


def _load(path: Path) -> Mapping[str, Any]:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        said = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"cannot read the settings in {path} ({said}); needed YAML; try --print-config") from error
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise UsageError(f"{path} holds no settings; needed lines such as 'model: affine'; try --print-config")
    return settings


def _option(name: Any) -> ConfigOption:
    if name not in _OPTIONS:
        hint = nearest(str(name), _OPTIONS) or "try --print-config, which lists all"
        raise UsageError(f"there is no setting {str(name)!r}: {hint}")
    return _OPTIONS[name]


def _text(option: ConfigOption, value: Any, folder: Path) -> str:
    text = as_text(option.name, value)
    parsed = option.parse(text)
    return str(folder / parsed) if isinstance(parsed, Path) else text

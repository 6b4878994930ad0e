"""Settings of a registration in a YAML file: writing a template of all settings, and reading it back.

A setting has the name of its option without the dashes, like a column of a batch's manifest.
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
from rrl_register.config.files import MOST_SETTINGS, read_text
from rrl_register.config.options import CONFIG_OPTIONS, ConfigOption, as_text, build_config, nearest
from rrl_register.errors import InputError, UsageError

_OPTIONS = {option.name: option for option in CONFIG_OPTIONS}
_HEADER = "Settings of rrl-register, for --config FILE. A setting that is left out, or null, keeps its default."
_WIDTH = 110


def read_config(path: Path) -> RegisterConfig:
    """Read the settings of a registration; settings that the file leaves out keep their defaults.

    Raises:
        InputError, UsageError: As ``read_settings``.
    """
    return build_config({option.parameter: option.parse(text) for option, text in read_settings(path).items()})


def read_settings(path: Path) -> dict[ConfigOption, str]:
    """Read and check a file of settings, without those that are null; paths are relative to the file's folder.

    Returns:
        Option -> its value, as text for ``ConfigOption.parse``.

    Raises:
        InputError: The file cannot be read or is no YAML.
        UsageError: A setting does not exist or has an invalid value.
    """
    settings = _load(path)
    try:
        given = {_option(name): value for name, value in settings.items()}
        return {option: _text(option, value, path.parent) for option, value in given.items() if value is not None}
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def template(config: RegisterConfig | None = None) -> str:
    """Write all settings as YAML, each with its help as a comment.

    Args:
        config: The values; None: the defaults.
    """
    blocks = [_comment(_HEADER)]
    groups = list(dict.fromkeys(option.group for option in CONFIG_OPTIONS))
    by_group = sorted(CONFIG_OPTIONS, key=lambda option: groups.index(option.group))
    for group, options in groupby(by_group, key=lambda option: option.group):
        blocks.append(_comment(f"---- {group}"))
        blocks += [_entry(option, config or RegisterConfig()) for option in options]
    return "\n".join(blocks)


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
        settings = parse_yaml(read_text(path, MOST_SETTINGS))
    except (OSError, ValueError) as error:
        cause = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"Cannot read the settings in {path} ({cause}); see --print-config for a template") from error
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise UsageError(f"{path} has no settings such as 'model: affine'; see --print-config for a template")
    return settings


def _option(name: Any) -> ConfigOption:
    if name not in _OPTIONS:
        hint = nearest(str(name), _OPTIONS) or "--print-config lists all"
        raise UsageError(f"unknown setting {str(name)!r}: {hint}")
    return _OPTIONS[name]


def _text(option: ConfigOption, value: Any, folder: Path) -> str:
    text = as_text(option.name, value)
    parsed = option.parse(text)
    return str(folder / parsed) if isinstance(parsed, Path) else text


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no type hints
    """Refuses references, because few of them can stand for millions of values, or for themselves."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"the reference *{self.peek_event().anchor} is not read; write its values out")
        return super().compose_node(parent, index)


def parse_yaml(text: str) -> Any:
    """Parse YAML.

    Raises:
        ValueError: It is no YAML, nested too deeply, or holds references.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        cause = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise ValueError(cause) from error

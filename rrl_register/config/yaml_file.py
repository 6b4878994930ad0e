"""Settings of a registration in a YAML file: writing a template of all settings, and reading it back.

A setting has the name of its option without the dashes, like a column of a batch's manifest.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
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
    try:
        settings = parse_yaml(read_text(path, MOST_SETTINGS))
    except (OSError, ValueError) as error:
        cause = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"Cannot read the settings in {path} ({cause}); see --print-config for a template") from error
    settings = {} if settings is None else settings
    if not isinstance(settings, Mapping):
        raise UsageError(f"{path} has no settings such as 'model: affine'; see --print-config for a template")
    texts: dict[ConfigOption, str] = {}
    try:
        if unknown := [str(name) for name in settings if name not in _OPTIONS]:
            hint = nearest(unknown[0], _OPTIONS) or "--print-config lists all"
            raise UsageError(f"unknown setting {unknown[0]!r}: {hint}")
        for name, value in settings.items():
            if value is not None:
                option, text = _OPTIONS[name], as_text(name, value)
                parsed = option.parse(text)
                texts[option] = str(path.parent / parsed) if isinstance(parsed, Path) else text
        return texts
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def template(config: RegisterConfig | None = None) -> str:
    """Write all settings as YAML, each with its help as a comment.

    Args:
        config: The values; None: the defaults.
    """
    config = config or RegisterConfig()
    blocks = [_comment(_HEADER)]
    for group, options in groupby(CONFIG_OPTIONS, key=lambda option: option.group):
        blocks.append(_comment(f"---- {group}"))
        for option in options:
            remarks = [option.help]
            if choices := getattr(option.type, "choices", None):
                remarks.append(f"One of {', '.join(map(str, choices))}.")
            if option.default is None:
                remarks.append(f"Default: {option.default_text}.")
            setting = {option.name: option.plain(config)}
            line = str(yaml.safe_dump(setting, default_flow_style=True, width=math.inf))
            blocks.append(_comment(" ".join(remarks)) + line.strip()[1:-1] + "\n")
    return "\n".join(blocks)


def _comment(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False) + "\n"


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

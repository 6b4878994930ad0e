"""Settings as frozen pydantic dataclasses, with one clear line for each mistake."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from rrl_register.errors import UsageError

Settings = TypeVar("Settings")

KNOWN_ONLY = ConfigDict(extra="forbid")
"""Refuses settings that do not exist."""


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is needed")
    return value


Number = Annotated[float, BeforeValidator(_no_truth_value)]
"""A float; text such as ``1e-3`` counts, because YAML takes it for text without a point."""
Count = Annotated[int, BeforeValidator(_no_truth_value)]


def build(cls: type[Settings], values: Any, where: str = "") -> Settings:
    """Fill a pydantic dataclass; fields left out keep their defaults.

    Args:
        cls: The class, with the configuration ``KNOWN_ONLY``.
        values: A mapping of its fields.
        where: Name of the part that is filled, for errors.

    Raises:
        UsageError: If a field does not exist, does not fit, or is missing; names the first.
    """
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        of = f"{where}: " if where else ""
        if first["type"] == "unexpected_keyword_argument":
            part: Any = cls
            for step in first["loc"][:-1]:
                part = get_type_hints(part)[str(step)]
            known = sorted(each.name for each in fields(part))
            close = difflib.get_close_matches(str(first["loc"][-1]), known, 1, 0.5)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise UsageError(f"{of}there is no setting {name}: {hint}") from error
        seen = "" if first["type"] == "missing" else f", {first['input']!r} seen"
        raise UsageError(f"{of}{name or 'the settings'}: {first['msg']}{seen}") from error


def plain(value: Any) -> dict[str, Any]:
    """Return settings as nested plain values, as YAML and checkpoints hold them."""
    made: dict[str, Any] = TypeAdapter(type(value)).dump_python(value, mode="json")
    return made


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with some replaced; a mapping replaces only the names that it has."""
    result = dict(base)
    for name, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if both else value
    return result

"""From plain values, as YAML gives them, to frozen dataclasses, with one clear line for what does not fit."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from rrl_register.errors import UsageError

Settings = TypeVar("Settings")


def build(cls: type[Settings], values: Any, where: str = "") -> Settings:
    """Fills a dataclass; fields left out keep their defaults.

    Args:
        cls: A dataclass; its fields may be plain values, enums, paths, tuples, dictionaries or such dataclasses.
        values: A mapping of its fields.
        where: Name of the part that is filled, for errors.

    Raises:
        UsageError: If a field does not exist, has a value of another type, or is missing.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where or 'the settings'}: {values!r} seen, a mapping of names to values needed")
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise UsageError(f"there is no setting {_path(where, name)}: {_nearest(str(name), known)}")
    hints = get_type_hints(cls)
    filled = {name: convert(hints[name], value, _path(where, name)) for name, value in values.items()}
    try:
        return cls(**filled)
    except TypeError as error:
        raise UsageError(f"{where or 'the settings'}: {error}; give what is missing") from error


def convert(wanted: Any, value: Any, where: str) -> Any:
    """A plain value as the type that a field is annotated with.

    Raises:
        UsageError: If it cannot be that.
    """
    if is_dataclass(wanted):
        return value if isinstance(value, wanted) else build(wanted, value, where)  # type: ignore[arg-type]
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return convert(next(t for t in inner if t is not type(None)), value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return _tuple(inner, value, where)
    if origin is dict and isinstance(value, Mapping):
        return {str(k): convert(inner[1], v, f"{where}[{k}]") for k, v in value.items()}
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return _member(wanted, value, where)
    return _plain(wanted, value, where)


def _tuple(inner: tuple[Any, ...], values: list[Any] | tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if inner[-1] is Ellipsis:
        return tuple(convert(inner[0], v, where) for v in values)
    if len(inner) != len(values):
        raise UsageError(f"{where}: {len(values)} values seen, {len(inner)} needed")
    return tuple(convert(t, v, where) for t, v in zip(inner, values, strict=True))


def _member(wanted: type[Enum], value: Any, where: str) -> Enum:
    try:
        return wanted(value)
    except ValueError as error:
        choices = ", ".join(str(member.value) for member in wanted)
        raise UsageError(f"{where}: {value!r} seen, one of {choices} needed") from error


def _plain(wanted: Any, value: Any, where: str) -> Any:
    if wanted is Path and isinstance(value, str | Path):
        return Path(value)
    if wanted is float:
        number = _number(value)
        if number is not None:
            return number
    elif wanted is Any or (isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool)):
        return value
    raise UsageError(f"{where}: {value!r} seen, {_described(wanted)} needed")


def _number(value: Any) -> float | None:
    """YAML takes ``1e-3``, which has no point, for text."""
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _described(wanted: Any) -> str:
    origin = get_origin(wanted) or wanted
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "text", Path: "a path"}
    return names.get(origin, {tuple: "a list", dict: "a mapping"}.get(origin, str(wanted)))


def _path(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)


def _nearest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.5)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"


def plain(value: Any) -> Any:
    """The reverse: a dataclass as nested dictionaries of plain values, which YAML and checkpoints hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with some of them replaced; a mapping replaces only the names that it has."""
    result = dict(base)
    for name, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if both else value
    return result

"""What is to be registered: a table of scenes, or files that match a pattern."""

from __future__ import annotations

import csv
import glob
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rrl_register.config import RegisterConfig
from rrl_register.config.options import CONFIG_OPTIONS, as_text, build_config, nearest
from rrl_register.errors import InputError, UsageError

PLACEHOLDER = "{id}"
_OPTIONS = {option.name: option for option in CONFIG_OPTIONS}
_JSON_LINES = (".jsonl", ".ndjson")
_COLUMNS = ("id", "fixed", "moving")
_RESERVED_ID = "summary"
_LONGEST_ID = 200
"""Bytes; file systems take 255, and a suffix and the mark of an unfinished file come on top."""
_PROBLEMS_TOLD = 10

Row = Mapping[str, str]


@dataclass(frozen=True)
class BatchItem:
    """Two images to be registered.

    Attributes:
        id: Name of its outputs, without a suffix.
        fixed: The reference image.
        moving: The image to bring onto it.
        config: Settings of its registration.
    """

    id: str
    fixed: Path
    moving: Path
    config: RegisterConfig = field(default_factory=RegisterConfig)


@dataclass(frozen=True)
class Manifest:
    """The scenes of a batch.

    Attributes:
        source: Where they come from; a batch is resumed with the same source only.
        scenes: In the order in which they are worked on.

    Raises:
        UsageError: There is no scene, an id is used twice (capitals count for nothing), or cannot name a file.
    """

    source: str
    scenes: tuple[BatchItem, ...]

    def __post_init__(self) -> None:
        if not self.scenes:
            raise UsageError(f"{self.source} holds no scene; needed one at least; check the file or the pattern")
        problems = _id_problems((scene.id, f"scene {scene.id!r}") for scene in self.scenes)
        refuse(self.source, list(problems))


def read_manifest(path: Path, config: RegisterConfig | None = None, fixed: Path | None = None) -> Manifest:
    """Read a table of scenes: CSV with a header, or JSON lines (``.jsonl``, ``.ndjson``) with one object each.

    Columns are ``id``, ``fixed``, ``moving`` and any option of ``register`` by its name, without dashes. Paths are
    relative to the manifest's folder. An empty cell leaves the option as ``config`` has it.

    Args:
        path: The file.
        config: Settings of every scene, as far as the scene does not say otherwise; None: the defaults.
        fixed: One reference image for all scenes, instead of the column ``fixed``.

    Raises:
        InputError: The file cannot be read.
        UsageError: Its contents are wrong; the message names the lines.
    """
    if path.suffix.lower() not in (".csv", *_JSON_LINES):
        raise UsageError(
            f"the manifest {path} is no table; needed a file called .csv, .jsonl or .ndjson, .json with STAC items, "
            f"or --fixed and --moving with {PLACEHOLDER} instead"
        )
    rows = _read_rows(path)
    base = config or RegisterConfig()
    given = {} if fixed is None else {"fixed": str(fixed.absolute())}
    scenes: list[BatchItem] = []
    problems: list[str] = []
    for where, row in rows:
        try:
            scenes.append(_scene(row, given, base, path.parent))
        except UsageError as error:
            problems.append(f"{where}: {error}")
    problems += _id_problems((row["id"], where) for where, row in rows if row.get("id"))
    refuse(str(path), problems)
    return Manifest(str(path.resolve()), tuple(scenes))


def match_files(fixed: str, moving: str, config: RegisterConfig | None = None) -> Manifest:
    """Make a scene of every moving image whose path fits a pattern.

    A moving image without a partner becomes a scene, too, and fails with its reason, so that it is not overlooked.

    Args:
        fixed: Path of the reference images, with ``{id}`` where the scene's id stands; without, one reference for all.
        moving: Path of the moving images, with ``{id}``.
        config: Settings of every scene; None: the defaults.

    Raises:
        UsageError: The pattern of the moving images holds no ``{id}``, or nothing fits it.
    """
    if PLACEHOLDER not in moving:
        raise UsageError(f"--moving {moving} names one file; needed {PLACEHOLDER} in it; try 'sar/{PLACEHOLDER}.tif'")
    scenes = tuple(
        BatchItem(name, Path(fixed.replace(PLACEHOLDER, name)), path, config or RegisterConfig())
        for name, path in sorted(_matches(moving))
    )
    if not scenes:
        raise UsageError(f"no file fits --moving {moving}; needed one at least; check folder and pattern")
    return Manifest(f"{Path(fixed).absolute()} {Path(moving).absolute()}", scenes)


def _matches(pattern: str) -> Iterator[tuple[str, Path]]:
    """Ids and paths of the files that fit; an id is part of one file's or folder's name."""
    parts = pattern.split(PLACEHOLDER)
    first, *others = (re.escape(part) for part in parts)
    expression = re.compile(first + r"(?P<id>[^/\\]+)" + "(?P=id)".join(others))
    candidates = glob.iglob("*".join(glob.escape(part) for part in parts))  # noqa: PTH207  # it may be absolute
    for path in candidates:
        found = expression.fullmatch(path)
        if found and Path(path).is_file():
            yield found["id"], Path(path)


def _read_rows(path: Path) -> list[tuple[str, Row]]:
    """Where each row stands, and its cells that are not empty; under the empty name, what is wrong with all of it."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            read = _json_rows if path.suffix.lower() in _JSON_LINES else _csv_rows
            return [(f"line {number}", row) for number, row in read(lines)]
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path} ({error}); needed a table of scenes in UTF-8; check the file") from error


def _csv_rows(lines: Iterable[str]) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(lines, skipinitialspace=True)
    header = [name.strip() for name in next(reader, [])]
    refuse("line 1", [problem for name in header if (problem := _column_problem(name, header))])
    for line in reader:
        cells = [cell.strip() for cell in line]
        if len(cells) > len(header):
            yield reader.line_num, {"": f"{len(cells)} cells, but {len(header)} columns"}
        elif any(cells):
            yield reader.line_num, {name: cell for name, cell in zip(header, cells, strict=False) if cell}


def _column_problem(name: str, header: Sequence[str] = ()) -> str | None:
    if header.count(name) > 1:
        return f"column {name!r} twice"
    if name in _COLUMNS or name in _OPTIONS:
        return None
    close = nearest(name, [*_COLUMNS, *_OPTIONS])
    return f"unknown column {name!r}: {close or 'needed id, fixed, moving or an option of register without dashes'}"


def _json_rows(lines: Iterable[str]) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            yield number, {name: as_text(name, value) for name, value in values.items() if value not in (None, "")}
        except (ValueError, AttributeError, UsageError) as error:
            yield number, {"": f"no JSON object of texts, numbers and lists ({error})"}


def _scene(row: Row, given: Row, base: RegisterConfig, folder: Path) -> BatchItem:
    if "" in row:
        raise UsageError(row[""])
    both = [name for name in given if name in row]
    if both:
        raise UsageError(f"column {both[0]!r} beside --{both[0]}; needed one of them")
    cells = {**row, **given}
    missing = [name for name in _COLUMNS if name not in cells]
    if missing:
        raise UsageError(f"nothing under {', '.join(missing)}")
    options = {name: text for name, text in cells.items() if name not in _COLUMNS}
    config = build_config(dict(_option_value(name, text, folder) for name, text in options.items()), base)
    return BatchItem(cells["id"], folder / cells["fixed"], folder / cells["moving"], config)


def _option_value(name: str, text: str, folder: Path) -> tuple[str, Any]:
    problem = _column_problem(name)
    if problem:
        raise UsageError(problem)
    value = _OPTIONS[name].parse(text)
    return _OPTIONS[name].parameter, folder / value if isinstance(value, Path) else value


def _id_problems(ids: Iterable[tuple[str, str]]) -> Iterator[str]:
    """What is wrong with ids, given with where each stands."""
    seen: dict[str, str] = {}
    for name, where in ids:
        if not _is_safe(name):
            yield f"{where}: the id {name!r} cannot name its files; needed letters, digits, '_', '-' and the like"
        elif name.casefold() in seen:
            yield f"{where}: the id {name!r} is that of {seen[name.casefold()]}, too"
        seen.setdefault(name.casefold(), where)


def _is_safe(name: str) -> bool:
    """Whether every file system takes the name, and nothing else in the output folder has it."""
    plain = re.fullmatch(r'[^\x00-\x1f\x7f<>:"/\\|?*]+', name) is not None
    framed = not name.startswith((".", "-", " ")) and not name.endswith((".", " "))
    return plain and framed and len(name.encode()) <= _LONGEST_ID and name.casefold() != _RESERVED_ID


def refuse(where: str, problems: list[str]) -> None:
    """Tell all that is wrong with a manifest, or at least much of it.

    Raises:
        UsageError: There are problems.
    """
    if not problems:
        return
    told = "; ".join(problems[:_PROBLEMS_TOLD])
    more = len(problems) - _PROBLEMS_TOLD
    raise UsageError(f"{where}: {told}{f'; and {more} more' if more > 0 else ''}")

"""Manifest of a batch: a table of scenes, files that match a pattern, or a STAC collection."""

from __future__ import annotations

import csv
import glob
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from rrl_register.config import RegisterConfig
from rrl_register.config.files import parse_json, read_text
from rrl_register.config.options import CONFIG_OPTIONS, as_text, build_config, nearest
from rrl_register.errors import InputError, UsageError

if TYPE_CHECKING:
    from pystac import Item

SUFFIXES = (".json", ".geojson")
"""Suffixes of item collections."""
_STORES = {"s3": "vsis3", "gs": "vsigs", "az": "vsiaz"}
"""GDAL's file systems of object stores, by URL scheme."""


def read_collection(
    path: Path,
    moving_asset: str,
    fixed_asset: str | None = None,
    config: RegisterConfig | None = None,
    fixed: Path | None = None,
) -> Manifest:
    """Make a scene of every item of a STAC item collection, with the item's id.

    The fixed image is an asset of the same item; or an asset of the item with the same id in another collection; or one
    image for all. Relative addresses are relative to the collection's file. Addresses on the web and in object stores
    become GDAL's ``/vsicurl/``, ``/vsis3/``, ``/vsigs/`` and ``/vsiaz/``.

    Args:
        path: The collection, a GeoJSON FeatureCollection of STAC items.
        moving_asset: Key of the asset that is the moving image.
        fixed_asset: Key of the asset that is the fixed image; None if all scenes have one fixed image.
        config: Settings of every scene; None: the defaults.
        fixed: A second collection (``.json``, ``.geojson``), or one fixed image.

    Raises:
        InputError: A file cannot be read or is no item collection.
        UsageError: The extra is missing, options contradict each other, or items lack an asset or a partner; the
            message names them.
    """
    config = config or RegisterConfig()
    find_fixed = _fixed_images(path, fixed_asset, fixed)
    scenes: list[BatchItem] = []
    problems: list[str] = []
    for item in _read_items(path):
        try:
            scenes.append(BatchItem(item.id, find_fixed(item), _image(item, moving_asset, path), config))
        except UsageError as error:
            problems.append(str(error))
    refuse(str(path), problems)
    return Manifest(" ".join(str(file.resolve()) for file in (path, fixed) if file), tuple(scenes))


def _fixed_images(path: Path, key: str | None, fixed: Path | None) -> Callable[[Item], Path]:
    """Return a function that finds the fixed image of an item."""
    if fixed is not None and fixed.suffix.lower() not in SUFFIXES:
        if key is not None:
            raise UsageError(f"--fixed-asset is given beside the one image --fixed {fixed}; choose one of them")
        reference = fixed.absolute() if fixed.exists() else fixed
        return lambda item: reference
    if key is None:
        raise UsageError(f"The items of {path} have no fixed image; pass --fixed-asset KEY or --fixed FIXED.tif")
    if fixed is None:
        return lambda item: _image(item, key, path)
    others = {item.id: item for item in _read_items(fixed)}

    def image_of_partner(item: Item) -> Path:
        """Find the item with the same id in the second collection."""
        if item.id not in others:
            raise UsageError(f"{fixed} has no item {item.id!r}")
        return _image(others[item.id], key, fixed)

    return image_of_partner


def _image(item: Item, key: str, file: Path) -> Path:
    """Convert the address of an asset to a path for GDAL."""
    if key not in item.assets:
        has = ", ".join(sorted(item.assets)) or "none"
        raise UsageError(f"the item {item.id!r} has no asset {key!r} (it has {has})")
    href = item.assets[key].href
    before, separator, rest = href.partition("://")
    scheme = before.lower() if separator else ""
    if scheme in ("http", "https"):
        return Path(f"/vsicurl/{href}")
    if scheme in _STORES:
        return Path(f"/{_STORES[scheme]}/{rest}")
    if scheme == "file":
        return Path(unquote(urlsplit(href).path))
    if scheme:
        raise UsageError(f"the address {href} has an unknown scheme (known: file, http, https, s3, gs, az)")
    return file.parent.absolute() / href


def _read_items(path: Path) -> list[Item]:
    try:
        import pystac
    except ImportError as error:
        raise UsageError(
            "STAC items need pystac, which is not installed; try: pip install 'rrl-register[stac]'"
        ) from error
    try:
        content = parse_json(read_text(path))
        if not (isinstance(content, dict) and pystac.ItemCollection.is_item_collection(content)):
            kind = content.get("type") if isinstance(content, dict) else None
            has = f"a {kind}" if kind else "something else"
            raise InputError(
                f"{path} is no STAC item collection but {has}; write the items of a search into one FeatureCollection"
            )
        return list(pystac.ItemCollection.from_dict(content, preserve_dict=False).items)
    except (OSError, ValueError, KeyError, TypeError, pystac.STACError) as error:
        raise InputError(
            f"Cannot read {path} ({' '.join(str(error).split())}); check that it has STAC items in UTF-8"
        ) from error


PLACEHOLDER = "{id}"
_OPTIONS = {option.name: option for option in CONFIG_OPTIONS}
_JSON_LINES = (".jsonl", ".ndjson")
_COLUMNS = ("id", "fixed", "moving")
_RESERVED_ID = "summary"
_LONGEST_ID = 200
"""Bytes; file systems allow 255, and the suffix and the mark of an unfinished file come on top."""
_LONGEST_NAME = 4096
_MOST_COLUMNS = 200
_PROBLEMS_SHOWN = 10

Row = Mapping[str, str]


@dataclass(frozen=True)
class BatchItem:
    """A scene of a batch: two images to register.

    Attributes:
        id: Name of its outputs, without a suffix.
        fixed: The fixed (reference) image.
        moving: The moving (target) image.
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
        source: Source of the scenes; a batch is resumed with the same source only.
        scenes: Scenes in the order of work.

    Raises:
        UsageError: There is no scene, or an id is used twice (ignoring case) or cannot name a file.
    """

    source: str
    scenes: tuple[BatchItem, ...]

    def __post_init__(self) -> None:
        if not self.scenes:
            raise UsageError(f"{self.source} has no scene; check the file or the pattern")
        problems = _id_problems((scene.id, f"scene {scene.id!r}") for scene in self.scenes)
        refuse(self.source, list(problems))


def read_manifest(path: Path, config: RegisterConfig | None = None, fixed: Path | None = None) -> Manifest:
    """Read a table of scenes: CSV with a header, or JSON lines (``.jsonl``, ``.ndjson``) with one object each.

    Columns are ``id``, ``fixed``, ``moving`` and any option of ``register`` by its name, without dashes. Paths are
    relative to the manifest's folder. An empty cell keeps the setting of ``config``.

    Args:
        path: The file.
        config: Settings of scenes without settings of their own; None: the defaults.
        fixed: One fixed image for all scenes, instead of the column ``fixed``.

    Raises:
        InputError: The file cannot be read.
        UsageError: Its content is invalid; the message names the lines.
    """
    if path.suffix.lower() not in (".csv", *_JSON_LINES):
        raise UsageError(
            f"The manifest {path} is no .csv, .jsonl or .ndjson, nor a .json with STAC items; convert it, or pass "
            f"--fixed and --moving with {PLACEHOLDER} instead"
        )
    try:
        text = read_text(path)
        lines = io.StringIO(text, newline="")
        rows = list(_json_rows(lines) if path.suffix.lower() in _JSON_LINES else _csv_rows(lines, _separator(text)))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"Cannot read {path} ({error}); check that it is a table in UTF-8") from error
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
    """Make a scene of every moving image whose path matches a pattern.

    A moving image without a fixed image becomes a scene that fails with its reason, so that it is not overlooked.

    Args:
        fixed: Path of the fixed images, with ``{id}`` for the id of a scene; without, one fixed image for all.
        moving: Path of the moving images, with ``{id}``.
        config: Settings of every scene; None: the defaults.

    Raises:
        UsageError: The pattern of the moving images has no ``{id}``, or no file matches it.
    """
    if PLACEHOLDER not in moving:
        raise UsageError(f"--moving {moving} has no {PLACEHOLDER}; try a pattern such as 'sar/{PLACEHOLDER}.tif'")
    parts = moving.split(PLACEHOLDER)
    first, *others = map(re.escape, parts)
    # An id is part of the name of one file or folder, the same wherever it occurs.
    expression = re.compile(first + r"(?P<id>[^/\\]+)" + "(?P=id)".join(others))
    candidates = glob.iglob("*".join(map(glob.escape, parts)))  # noqa: PTH207  # it may be absolute
    found = filter(None, map(expression.fullmatch, candidates))
    scenes = tuple(
        BatchItem(name, Path(fixed.replace(PLACEHOLDER, name)), path, config or RegisterConfig())
        for name, path in sorted((match["id"], Path(match[0])) for match in found if Path(match[0]).is_file())
    )
    if not scenes:
        raise UsageError(f"No file matches --moving {moving}; check folder and pattern")
    return Manifest(f"{Path(fixed).absolute()} {Path(moving).absolute()}", scenes)


def _separator(text: str) -> str:
    """Return what separates the cells: spreadsheets of some countries write semicolons."""
    header = text.partition("\n")[0]
    return ";" if ";" in header and "," not in header else ","


def _csv_rows(lines: Iterable[str], separator: str) -> Iterator[tuple[str, Row]]:
    """Yield the line and the non-empty cells of each row; the empty name holds a problem of the whole row."""
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    header = [name.strip() for name in next(reader, [])]
    if len(header) > _MOST_COLUMNS:
        raise UsageError(f"{len(header)} columns; choose id, fixed, moving and options of register")
    refuse("line 1", [problem for name in header if (problem := _column_problem(name, header))])
    for line in reader:
        cells = [cell.strip() for cell in line]
        if len(cells) > len(header):
            yield f"line {reader.line_num}", {"": f"{len(cells)} cells, but {len(header)} columns"}
        elif any(cells):
            yield f"line {reader.line_num}", {name: cell for name, cell in zip(header, cells, strict=False) if cell}


def _column_problem(name: str, header: Sequence[str] = ()) -> str | None:
    if header.count(name) > 1:
        return f"column {name!r} twice"
    if name in _COLUMNS or name in _OPTIONS:
        return None
    close = nearest(name, [*_COLUMNS, *_OPTIONS])
    return f"unknown column {name!r}: {close or 'use id, fixed, moving or an option of register without dashes'}"


def _json_rows(lines: Iterable[str]) -> Iterator[tuple[str, Row]]:
    """Yield rows as ``_csv_rows``."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            values = parse_json(line)
            yield where, {name: as_text(name, value) for name, value in values.items() if value not in (None, "")}
        except (ValueError, AttributeError, UsageError) as error:
            yield where, {"": f"no JSON object of texts, numbers and lists ({error})"}


def _scene(row: Row, given: Row, base: RegisterConfig, folder: Path) -> BatchItem:
    if "" in row:
        raise UsageError(row[""])
    if both := [name for name in given if name in row]:
        raise UsageError(f"column {both[0]!r} beside --{both[0]}; choose one of them")
    cells = {**row, **given}
    if missing := [name for name in _COLUMNS if name not in cells]:
        raise UsageError(f"no value for {', '.join(missing)}")
    names = [cells[name] for name in _COLUMNS]
    if any("\0" in name or len(name) > _LONGEST_NAME for name in names):
        raise UsageError(f"id or path is longer than {_LONGEST_NAME} characters, or has a null character")
    values: dict[str, Any] = {}
    for name, text in cells.items():
        if name in _COLUMNS:
            continue
        if problem := _column_problem(name):
            raise UsageError(problem)
        value = _OPTIONS[name].parse(text)
        values[_OPTIONS[name].parameter] = folder / value if isinstance(value, Path) else value
    return BatchItem(cells["id"], folder / cells["fixed"], folder / cells["moving"], build_config(values, base))


def _id_problems(ids: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the problems of ids, given with their places: all file systems and the batch's own files allow an id."""
    seen: dict[str, str] = {}
    for name, where in ids:
        plain = re.fullmatch(r'[^\x00-\x1f\x7f<>:"/\\|?*]+', name) is not None
        framed = not name.startswith((".", "-", " ")) and not name.endswith((".", " "))
        if not (plain and framed and len(name.encode()) <= _LONGEST_ID and name.casefold() != _RESERVED_ID):
            yield f"{where}: the id {name!r} cannot name files; use letters, digits, '_', '-' and the like"
        elif name.casefold() in seen:
            yield f"{where}: the id {name!r} is also the id of {seen[name.casefold()]}"
        seen.setdefault(name.casefold(), where)


def refuse(where: str, problems: list[str]) -> None:
    """Report the problems of a manifest, at most ten of them.

    Raises:
        UsageError: There are problems.
    """
    if problems:
        more = len(problems) - _PROBLEMS_SHOWN
        shown = [*problems[:_PROBLEMS_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise UsageError(f"{where}: {'; '.join(shown)}")

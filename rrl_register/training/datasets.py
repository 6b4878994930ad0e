"""Data sets of a training run, as a recipe names them, and their training images."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from rrl_register.config.files import read_text
from rrl_register.errors import InputError, UsageError
from rrl_register.nn.encoder import PATCH_SIZE
from rrl_register.training.bank import (
    FAMILIES,
    PairImages,
    ReadImages,
    Source,
    colour_bytes,
    kept_for_validation,
    make_pair,
)
from rrl_register.training.settings import KNOWN_ONLY, Number, build

Row = dict[str, str]

_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
"""Read by OpenCV; all other files by the raster reader."""
_SPLITS = {"train": False, "validation": True, "val": True, "test": None}


@dataclass(frozen=True, config=KNOWN_ONLY)
class PairFolder(Source):
    """A folder of pairs, each on one pixel grid.

    With a list ``pairs.csv``: columns ``vis`` and ``other`` (paths from the folder), and, if known, ``set``, ``id``,
    ``family``, ``residual_px`` and ``split`` (``train``, ``validation``; ``test`` is left out; empty: by
    ``kept_for_validation``). Without one: files ``<name>_vis.<ext>`` and ``<name>_other.<ext>``.

    Pictures have one or three bands of 8 or 16 bit; large areas of zeros in the second image count as missing.
    Other files are read as rasters, with nodata, masks and decibels; those of more than ``rasters.MAX_SIDE`` px a side
    are averaged down.

    Attributes:
        path: The folder.
        family: Family of second images without one in the list, one of ``bank.FAMILIES``; empty: SAR if it is
            recognised (which needs rasterio), else ``other``.
        group: Group of all of them; empty: ``set``, or else the family.
        max_residual_px: Pairs of larger ``residual_px`` are left out.
        groups: Sets to take; empty: all.
    """

    path: Path
    family: str = ""
    group: str = ""
    max_residual_px: Number = 3.5
    groups: tuple[str, ...] = ()
    type: Literal["pairs"] = "pairs"

    def load(self, validation: bool) -> list[PairImages]:
        """Read the pairs kept for validation, or else all others.

        Raises:
            InputError: If the list or an image cannot be read, or nothing is left.
        """
        rows = [row for row in self._rows() if self._is_wanted(row)]
        if not rows:
            raise InputError(
                f"{self.path} leaves no pair to use: check its sets and residual_px (at most {self.max_residual_px})"
            )
        home = self.group or self.path.resolve().name  # unlike in each data set, so that validation draws from all
        names = [
            f"{row.get('set') or home}/{row.get('id') or row['vis'].rsplit('.', 1)[0].removesuffix('_vis')}"
            for row in rows
        ]
        return [self._pair(row, name) for row, name in _side(rows, names, validation)]

    def _rows(self) -> list[Row]:
        table = self.path / "pairs.csv"
        if table.is_file():
            return _read_table(table, ("vis", "other"))
        visible = sorted(self.path.glob("*_vis.*")) if self.path.is_dir() else []
        if not visible:
            raise InputError(f"no {table} and no *_vis.* in {self.path}: a folder of pairs is needed, see PairFolder")
        rows = []
        for file in visible:
            name = file.stem.removesuffix("_vis") + "_other"
            found = sorted(self.path.glob(f"{name}.*"))
            if len(found) != 1:
                raise InputError(f"{file} has {len(found)} partners {name}.*: exactly one is needed")
            rows.append({"vis": file.name, "other": found[0].name})
        return rows

    def _is_wanted(self, row: Row) -> bool:
        text = row.get("residual_px")
        try:
            residual = float(text or 0)
        except ValueError as error:
            raise InputError(f"residual_px of {row['vis']} is {text!r}: a number is needed, or nothing") from error
        return residual <= self.max_residual_px and (not self.groups or row.get("set") in self.groups)

    def _pair(self, row: Row, name: str) -> PairImages:
        visible, other = self.path / row["vis"], self.path / row["other"]
        family = row.get("family") or self.family or _recognised(visible, other)
        group = self.group or row.get("set") or _checked_family(family)
        if {visible.suffix.lower(), other.suffix.lower()} <= _PICTURES:
            images = _read_pictures(visible, other)
        else:
            from rrl_register.training.rasters import read_aligned  # machines that train may lack rasterio

            images = read_aligned(visible, other)
        return make_pair(name, _checked_family(family), group, images)


@dataclass(frozen=True, config=KNOWN_ONLY)
class RasterPairs(Source):
    """Pairs of rasters with exact georeferences, perhaps of unlike CRS and resolution.

    The moving image is warped to the fixed one's grid, both at the coarser resolution, and used where both hold data.

    Attributes:
        path: A list with columns ``fixed``, ``moving`` and perhaps ``family`` (paths from its folder), or a folder with
            folders ``fixed`` and ``moving`` of equal file names. The fixed image is the visible one.
        family: Family of moving images without one in the list; empty: SAR if it is recognised, else ``other``.
        group: Group of all of them; empty: the family.
    """

    path: Path
    family: str = ""
    group: str = ""
    type: Literal["rasters"] = "rasters"

    def load(self, validation: bool) -> list[PairImages]:
        """Read the pairs kept for validation, or else all others.

        Raises:
            InputError: If the list or a raster cannot be read, or two of a pair share no ground.
        """
        from rrl_register.training.rasters import read_georeferenced

        folder, rows = self._rows()
        names = [f"{self.group or self.path.resolve().stem}/{row['fixed'].rsplit('.', 1)[0]}" for row in rows]
        pairs = []
        for row, name in _side(rows, names, validation):
            fixed, moving = folder / row["fixed"], folder / row["moving"]
            family = _checked_family(row.get("family") or self.family or _recognised(fixed, moving))
            pairs.append(make_pair(name, family, self.group or family, read_georeferenced(fixed, moving)))
        return pairs

    def _rows(self) -> tuple[Path, list[Row]]:
        if self.path.is_file():
            return self.path.parent, _read_table(self.path, ("fixed", "moving"))
        sides = [{f.name for f in (self.path / side).glob("*") if f.is_file()} for side in ("fixed", "moving")]
        both = sorted(sides[0] & sides[1])
        if not both:
            raise InputError(
                f"{self.path} is no list and has no two files fixed/NAME and moving/NAME: name a CSV or such a folder"
            )
        return self.path, [{"fixed": f"fixed/{name}", "moving": f"moving/{name}"} for name in both]


@dataclass(frozen=True, config=KNOWN_ONLY)
class PatchArrays(Source):
    """Ready-cut patches in the layout of RRL-Net's authors; only matching pairs are used, negatives are mined.

    Attributes:
        images: ``.npy``, ``(N, 2, 64, 64)`` uint8, visible and other; only matching ones are read into memory.
        labels: ``.npy``, ``(N,)``, 1 where they match.
        family: Family of the second patches.
        group: Group of all of them; empty: the family.
    """

    images: Path
    labels: Path
    family: str = "nir"
    group: str = ""
    type: Literal["patches"] = "patches"

    def load(self, validation: bool) -> list[PairImages]:
        """Read a stack of the patches kept for validation, or else of all others; no stack if there are none.

        Raises:
            InputError: If an array cannot be read, has another shape or type, or nothing matches.
        """
        images, labels = _read_array(self.images), _read_array(self.labels)
        if images.dtype != np.uint8 or images.shape[1:] != (2, PATCH_SIZE, PATCH_SIZE):
            raise InputError(f"{self.images} holds {images.dtype} {images.shape}: uint8 (N, 2, 64, 64) is needed")
        if labels.shape != images.shape[:1]:
            raise InputError(f"{self.labels} holds {labels.shape} labels for {len(images)} pairs: one each is needed")
        family = _checked_family(self.family)
        name = f"{self.group or family}/{self.images.stem}"
        matching = np.flatnonzero(labels == 1)
        if not len(matching):
            raise InputError(f"{self.labels} has no 1 among its {len(labels)} labels: pairs that match are needed")
        chosen = matching[np.array(kept_for_validation([f"{name}/{i}" for i in matching])) == validation]
        if not len(chosen):
            return []
        return [PairImages(name, family, self.group or family, torch.from_numpy(images[chosen]), None)]


_TYPES: dict[str, type[Source]] = {"pairs": PairFolder, "rasters": RasterPairs, "patches": PatchArrays}


def parse_sources(value: Any) -> tuple[Source, ...]:
    """Read data sets as a recipe names them.

    Args:
        value: A path (of a ``PairFolder``), a mapping ``{type: pairs | rasters | patches, ...}`` with that data set's
            fields, a ``Source``, or a list of these.

    Raises:
        InputError: If a type or a field does not exist, does not fit, or is missing.
    """
    if isinstance(value, list | tuple):
        if not value:
            raise InputError("data is an empty list: name a folder of pairs, or data sets with their types")
        return tuple(source for part in value for source in parse_sources(part))
    if isinstance(value, Source):
        return (value,)
    if isinstance(value, str | Path):
        return (PairFolder(Path(value)),)
    if not isinstance(value, Mapping):
        raise InputError(f"data is {value!r}: a path, or a list of mappings with a type and a path, is needed")
    kind = value.get("type", "")
    if kind not in _TYPES:
        raise InputError(f"a data set of type {kind!r} is not known: type has to be one of {', '.join(_TYPES)}")
    try:
        return (build(_TYPES[kind], value, f"a data set of type {kind}"),)
    except UsageError as error:
        raise InputError(str(error)) from error


def _side(rows: Sequence[Row], names: Sequence[str], validation: bool) -> Iterator[tuple[Row, str]]:
    """Yield the rows on the requested side with their names: by their ``split``, or else the hash."""
    without = [name for row, name in zip(rows, names, strict=True) if not row.get("split")]
    kept = dict(zip(without, kept_for_validation(without), strict=True))
    for row, name in zip(rows, names, strict=True):
        split = row.get("split") or ""
        if split and split not in _SPLITS:
            raise InputError(f"the split of {name} is {split!r}: train, validation or test is needed, or nothing")
        if (_SPLITS[split] if split else kept[name]) == validation:
            yield row, name


def _read_table(path: Path, needed: Sequence[str]) -> list[Row]:
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
        columns, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no list of pairs ({error}): a CSV file with a header is needed") from error
    missing = [column for column in needed if column not in columns]
    if missing:
        raise InputError(f"{path} has no column {missing[0]}: {' and '.join(needed)} are needed")
    unfinished = [row for row in rows if not all(row[column] for column in needed)]
    if unfinished:
        raise InputError(f"{path} has a row without {' and '.join(needed)}: fill or remove it")
    return rows


def _checked_family(family: str) -> str:
    if family not in FAMILIES:
        raise InputError(f"the family {family!r} is not known: one of {', '.join(FAMILIES)} is needed")
    return family


def _recognised(visible: Path, other: Path) -> str:
    """Return the family of a second image without one."""
    try:
        from rrl_register.training.rasters import is_sar
    except ImportError:
        return "other"
    return "sar" if is_sar(visible, other) else "other"


def _read_pictures(visible: Path, other: Path) -> ReadImages:
    """Read both images for ``make_pair``; zeros of the second one are missing in areas larger than dark pixels'."""
    colours = _read_picture(visible, cv2.IMREAD_COLOR)[..., ::-1]
    second = _read_picture(other, cv2.IMREAD_GRAYSCALE)
    bands = np.ascontiguousarray(colours.transpose(2, 0, 1))
    empty = cv2.morphologyEx((second == 0).astype(np.uint8), cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))
    valid = np.asarray(cv2.dilate(empty, np.ones((3, 3), np.uint8)) == 0)
    shown = valid if valid.shape == bands.shape[1:] else np.ones(bands.shape[1:], bool)
    return ReadImages(colour_bytes(bands, shown), second[None].astype(np.float32), valid)


def _read_picture(path: Path, flag: int) -> NDArray[Any]:
    image = cv2.imread(str(path), flag | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise InputError(f"{path} cannot be read as an image: an intact PNG, JPEG, WebP or BMP file is needed")
    return np.asarray(image)


def _read_array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is no array ({str(error).splitlines()[0]}): a .npy file is needed") from error
    return array

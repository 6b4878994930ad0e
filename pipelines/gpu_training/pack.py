"""Training images in one small file, for machines without a raster reader.

The file is in the safetensors format: pictures as WebP streams (2 dB better than JPEG of the same size on speckle and
thermal images), masks and points as PNG streams of one bit a pixel, and in its header a JSON list of the pairs. Nothing
in it is unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rrl_register.config import Kind
from rrl_register.errors import InputError
from rrl_register.nn.encoder import PATCH_SIZE
from rrl_register.raster.writer import atomic_path
from rrl_register.training.bank import PairImages, Source, grey_bytes
from rrl_register.training.settings import KNOWN_ONLY

SCHEMA = "rrl-pack-1"
LOWEST_QUALITY = 30
"""WebP quality, 1 to 100; below it, compression moves corners and makes new ones."""
_QUALITY_STEP = 4
MIB = 2**20
_MAX_SIDE = 16_383
"""Longest side of a WebP picture, px."""
_PATCHES_PER_PICTURE = _MAX_SIDE // PATCH_SIZE
"""Patches stacked in one picture."""

Arrays = dict[str, NDArray[Any]]


class PackSummary(NamedTuple):
    """Result of packing: pairs (a patch counts as one), bytes, and WebP quality."""

    pairs: int
    size: int
    quality: int


@dataclass(frozen=True, config=KNOWN_ONLY)
class Pack(Source):
    """A file of ``write_pack``, which also fixed the pairs kept for validation.

    Attributes:
        path: The file.
    """

    path: Path
    type: Literal["pack"] = "pack"

    def recipe(self) -> dict[str, Any]:
        """Leave the path out: a pack travels to the machines that train."""
        return {"type": self.type}

    def load(self, validation: bool) -> list[PairImages]:
        """Read the pairs kept for validation, or else all others.

        Raises:
            InputError: If the file is missing, damaged, or no pack.
        """
        try:
            with safe_open(str(self.path), framework="numpy") as file:
                notes = file.metadata() or {}
                if notes.get("schema") != SCHEMA:
                    raise InputError(f"{self.path} has schema {notes.get('schema')}, {SCHEMA} is needed: pack again")
                entries = enumerate(json.loads(notes["pairs"]))
                return [_unpacked(file, str(i), entry) for i, entry in entries if entry["validation"] == validation]
        except (SafetensorError, OSError, KeyError, ValueError, cv2.error) as error:
            seen = str(error).splitlines()[0]
            raise InputError(f"{self.path} is no pack of training images ({seen}): pack them again") from error


def write_pack(
    path: Path, sources: Sequence[Source], *, max_mib: float = math.inf, quality: int = 90, overwrite: bool = False
) -> PackSummary:
    """Pack data sets at the best quality that fits.

    Args:
        path: The file to write.
        sources: Data sets.
        max_mib: Largest size of the file, MiB.
        quality: First WebP quality, 1 to 100; it is lowered until the file fits.
        overwrite: Replace an existing file.

    Raises:
        InputError: If a data set cannot be read, there are no pairs, or they do not fit at the lowest quality.
        OutputExistsError, UsageError: If the file cannot be written there.
    """
    with atomic_path(path, overwrite) as temporary:
        pairs = [(pair, side) for side in (False, True) for source in sources for pair in source.load(side)]
        if not pairs:
            raise InputError("there are no pairs to pack: check the data sets")
        content, taken = _fitting(pairs, quality, max_mib * MIB)
        temporary.write_bytes(content)
    return PackSummary(sum(len(pair.planes) for pair, _ in pairs), len(content), taken)


def _fitting(pairs: Sequence[tuple[PairImages, bool]], quality: int, limit: float) -> tuple[bytes, int]:
    """Return the best pack of at most ``limit`` bytes and its quality, by bisection."""
    qualities = list(range(quality, min(LOWEST_QUALITY, quality) - 1, -_QUALITY_STEP))
    content = _packed(pairs, qualities[0])
    if len(content) <= limit:
        return content, qualities[0]
    best = None
    while qualities:
        middle = len(qualities) // 2
        content = _packed(pairs, qualities[middle])
        if len(content) <= limit:
            best, qualities = (content, qualities[middle]), qualities[:middle]
        else:
            smallest, qualities = len(content), qualities[middle + 1 :]
    if best is None:
        raise InputError(
            f"{len(pairs)} pairs need {smallest / MIB:.1f} MiB at the lowest quality, at most {limit / MIB:.1f} MiB "
            "are allowed: pack fewer pairs"
        )
    return best


def _packed(pairs: Sequence[tuple[PairImages, bool]], quality: int) -> bytes:
    arrays: Arrays = {}
    entries = []
    for number, (pair, validation) in enumerate(pairs):
        parts = _patch_arrays(pair, quality) if pair.points is None else _scene_arrays(pair, quality)
        arrays |= {f"{number}/{name}": array for name, array in parts.items()}
        entries.append(
            {
                "name": pair.name,
                "family": pair.family,
                "group": pair.group,
                "validation": validation,
                "patches": pair.points is None,
                "colours": pair.has_colours,
            }
        )
    return bytes(save(arrays, {"schema": SCHEMA, "pairs": json.dumps(entries)}))


def _scene_arrays(pair: PairImages, quality: int) -> Arrays:
    """Encode a scene: its colours, which determine the grey image, or that; the other image; mask and points."""
    planes = pair.planes[0].numpy()
    shown = planes[2:][::-1].transpose(1, 2, 0) if pair.has_colours else planes[0]
    assert pair.points is not None
    arrays = {
        "visible": _webp(shown, quality),
        "other": _webp(planes[1], quality),
        "points": _bits(_marked(pair.points.numpy(), planes.shape[1:])),
    }
    if pair.valid is not None and not pair.valid.all():
        arrays["valid"] = _bits(pair.valid.numpy())
    return arrays


def _patch_arrays(pair: PairImages, quality: int) -> Arrays:
    """Encode a stack of patches, two side by side, one pair below the other."""
    rows = pair.planes.numpy().transpose(0, 2, 1, 3).reshape(-1, pair.planes.shape[1] * PATCH_SIZE)
    height = _PATCHES_PER_PICTURE * PATCH_SIZE
    starts = range(0, len(rows), height)
    return {f"patches{k}": _webp(rows[start : start + height], quality) for k, start in enumerate(starts)}


def _unpacked(file: Any, number: str, entry: dict[str, Any]) -> PairImages:
    labels = (entry["name"], entry["family"], entry["group"])
    if entry["patches"]:
        rows = np.concatenate(list(_patch_pictures(file, number)))
        planes = rows.reshape(-1, PATCH_SIZE, rows.shape[1] // PATCH_SIZE, PATCH_SIZE).transpose(0, 2, 1, 3)
        return PairImages(*labels, torch.from_numpy(np.ascontiguousarray(planes)), None)
    other = _decoded(file.get_tensor(f"{number}/other"))
    has_mask = f"{number}/valid" in file.keys()  # noqa: SIM118
    valid = _decoded(file.get_tensor(f"{number}/valid")) > 127 if has_mask else np.ones(other.shape, bool)
    grey, *colours = _visible_planes(file.get_tensor(f"{number}/visible"), valid, entry["colours"])
    planes = np.stack([grey, other, *colours])
    rows, columns = np.nonzero(_decoded(file.get_tensor(f"{number}/points")))
    points = torch.from_numpy(np.column_stack([columns, rows]).astype(np.float32))
    return PairImages(*labels, torch.from_numpy(planes)[None], points, torch.from_numpy(valid))


def _patch_pictures(file: Any, number: str) -> Iterator[NDArray[np.uint8]]:
    count = sum(name.startswith(f"{number}/patches") for name in file.keys())  # noqa: SIM118
    for k in range(count):
        yield _decoded(file.get_tensor(f"{number}/patches{k}"))


def _visible_planes(stream: NDArray[np.uint8], valid: NDArray[np.bool_], colours: bool) -> list[NDArray[np.uint8]]:
    """Return the grey image and, if there are colours, red, green and blue."""
    if not colours:
        return [_decoded(stream)]
    shown = np.ascontiguousarray(_decoded(stream, cv2.IMREAD_COLOR)[..., ::-1].transpose(2, 0, 1))
    return [grey_bytes(shown.astype(np.float32), valid, Kind.OPTICAL), *shown]


def _marked(points: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Draw points, which are whole pixels, as a mask."""
    marks = np.zeros(shape, bool)
    columns, rows = points.round().astype(np.intp).T
    marks[rows, columns] = True
    return marks


def _bits(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    options = [cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 9]
    return _encoded(".png", mask.astype(np.uint8) * 255, options)


def _webp(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    return _encoded(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])


def _encoded(suffix: str, image: NDArray[np.uint8], options: list[int]) -> NDArray[np.uint8]:
    if max(image.shape[:2]) > _MAX_SIDE:
        seen = f"{image.shape[1]} x {image.shape[0]} px"
        raise InputError(f"an image of {seen} cannot be packed, at most {_MAX_SIDE} px a side can: cut or reduce it")
    return np.asarray(cv2.imencode(suffix, np.ascontiguousarray(image), options)[1]).reshape(-1)


def _decoded(stream: NDArray[np.uint8], flag: int = cv2.IMREAD_GRAYSCALE) -> NDArray[np.uint8]:
    image = cv2.imdecode(stream, flag)
    if image is None:
        raise ValueError("a picture in it is damaged")
    return np.asarray(image, np.uint8)

"""Co-registered pairs as sources of hard cases: those that training keeps for validation."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rrl_register.errors import InputError
from rrl_register.raster.reader import open_info, read_bands
from rrl_register.training.bank import is_validation


@dataclass(frozen=True)
class SourcePair:
    """One co-registered pair on disk.

    Attributes:
        name: ``set/id``.
        family: Such as sar, nir, lwir.
        visible, other: The images, on one pixel grid.
        side: Longer side, px.
        gsd: Ground size of a pixel, m; 1 if unknown.
    """

    name: str
    family: str
    visible: Path
    other: Path
    side: int
    gsd: float


class ScenePixels(NamedTuple):
    """One image of a pair: (B, H, W) float32, and (H, W) bool where it holds data."""

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]


def validation_scenes(folder: Path) -> list[SourcePair]:
    """List the pairs of ``folder``/pairs.csv that training keeps for validation, in the order of the file.

    Raises:
        InputError: The list cannot be read, or holds no such pair.
    """
    path = folder / "pairs.csv"
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if is_validation(f"{row['set']}/{row['id']}")]
        scenes = [_scene(folder, row) for row in rows]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} is no list of pairs ({error!r}); needed columns set, id, family, vis, other and gsd_m"
        ) from error
    if not scenes:
        raise InputError(f"{path} has no pair that training keeps for validation; needed one: add more pairs")
    return scenes


def read_pixels(path: Path) -> ScenePixels:
    """Read all pixels of an image.

    Raises:
        InputError: The image cannot be read or holds no data.
    """
    read = read_bands(path)
    return ScenePixels(read.values, read.valid)


def _scene(folder: Path, row: dict[str, str]) -> SourcePair:
    visible = folder / row["vis"]
    side = max(open_info(visible).grid.shape)
    gsd = float(row["gsd_m"] or 1)
    return SourcePair(f"{row['set']}/{row['id']}", row["family"], visible, folder / row["other"], side, gsd)

"""The training images, held as tensors on the device that trains, with the points that patches are cut around."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rrl_register.config import Kind
from rrl_register.errors import InputError
from rrl_register.raster.stretch import to_grey

OTHER_KIND = {"sar": Kind.SAR, "nir": Kind.IR, "lwir": Kind.IR, "ir": Kind.IR}
MAX_POINTS = 4000
EDGE_PX = 20
"""Patch centres keep this distance from the edge of the image and from places without data."""


@dataclass(frozen=True)
class PairImages:
    """One co-registered pair.

    Attributes:
        name: ``set/id``.
        family: ``sar``, ``nir``, ``lwir`` or ``ir``.
        group: The set that the pair belongs to; batches are drawn from one group.
        levels: Planes ``(C, H, W)``, uint8, at full and at half resolution: visible, other, and, where the visible
            image has colours, its red, green and blue.
        points: ``(N, 2)`` patch centres, (x, y), full-resolution px.
    """

    name: str
    family: str
    group: str
    levels: tuple[Tensor, Tensor]
    points: Tensor

    @property
    def has_colours(self) -> bool:
        """Whether the visible image is more than a grey one."""
        return len(self.levels[0]) > 2


def is_validation(name: str, share: float = 0.1) -> bool:
    """Whether a pair is kept for validation: decided by a hash of its name, so that it never changes sides."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 1000 < share * 1000


def load_bank(
    folder: Path, *, validation: bool, device: torch.device, max_residual_px: float = 3.5, groups: Sequence[str] = ()
) -> list[PairImages]:
    """Reads the pairs listed in ``folder/pairs.csv``.

    Args:
        folder: Holds ``pairs.csv`` (columns ``set, id, family, vis, other, residual_px``) and the images it names.
        validation: Take the validation pairs, or else all others.
        device: Where the images are to lie.
        max_residual_px: Pairs whose own alignment scatters more are left out.
        groups: Sets to take; empty: all.

    Raises:
        InputError: If the list or an image is missing, or nothing is left.
    """
    table = folder / "pairs.csv"
    if not table.is_file():
        raise InputError(f"no {table}: a folder with pairs.csv and its images is needed")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    bank = [_load_pair(folder, row, device) for row in _chosen(rows, validation, max_residual_px, groups)]
    if not bank:
        raise InputError(f"{table} leaves no pair to use: check its sets and residual_px (at most {max_residual_px})")
    return bank


def _chosen(
    rows: Iterable[dict[str, str]], validation: bool, max_residual_px: float, groups: Sequence[str]
) -> list[dict[str, str]]:
    return [
        row
        for row in rows
        if is_validation(f"{row['set']}/{row['id']}") == validation
        and float(row["residual_px"] or 0) <= max_residual_px
        and (not groups or row["set"] in groups)
    ]


def _load_pair(folder: Path, row: dict[str, str], device: torch.device) -> PairImages:
    visible = _read(folder / row["vis"], cv2.IMREAD_COLOR_RGB)
    other = _read(folder / row["other"], cv2.IMREAD_GRAYSCALE)
    valid = _without_border(other)
    grey = np.stack(
        [
            fill_invalid(to_grey(_planes(visible), valid, Kind.OPTICAL), valid),
            fill_invalid(to_grey(other[None].astype(np.float32), valid, OTHER_KIND[row["family"]]), valid),
        ]
    )
    has_colours = bool((visible[..., 0] != visible[..., 1]).any())
    planes = np.concatenate([np.rint(grey * 255), _planes(visible)]) if has_colours else np.rint(grey * 255)
    return PairImages(
        name=f"{row['set']}/{row['id']}",
        family=row["family"],
        group=row["set"],
        levels=(_bytes(planes).to(device), _bytes(_half(planes)).to(device)),
        points=torch.from_numpy(_points(grey, valid)).to(device),
    )


def _read(path: Path, flag: int) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), flag)
    if image is None:
        raise InputError(f"{path} cannot be read as an image")
    return np.asarray(image, np.uint8)


def _planes(colour: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(colour.transpose(2, 0, 1), np.float32)


def _without_border(other: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where there is data: zeros count as missing only in areas larger than dark pixels form by themselves."""
    empty = cv2.morphologyEx((other == 0).astype(np.uint8), cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))
    return np.asarray(cv2.dilate(empty, np.ones((3, 3), np.uint8)) == 0)


def fill_invalid(grey: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The image with the mean of its valid pixels where there is no data, so that patches see no edge of black."""
    if valid.all() or not valid.any():
        return grey
    return np.where(valid, grey, grey[valid].mean()).astype(np.float32)


def _half(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    size = (planes.shape[2] // 2, planes.shape[1] // 2)
    return np.stack([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in planes])


def _bytes(planes: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.rint(planes).astype(np.uint8))


def _points(grey: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Corners of both images: what is a corner in one spectrum only has to be told apart as well."""
    inner = cv2.erode(np.pad(valid, 1).astype(np.uint8), np.ones((2 * EDGE_PX + 1,) * 2, np.uint8))[1:-1, 1:-1]
    inner[:EDGE_PX], inner[-EDGE_PX:], inner[:, :EDGE_PX], inner[:, -EDGE_PX:] = 0, 0, 0, 0
    found = [_corners(image, np.asarray(inner, np.uint8)) for image in grey]
    return np.concatenate(found).astype(np.float32)


def _corners(image: NDArray[np.float32], mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    smooth = cv2.GaussianBlur(image, (0, 0), 1.2)
    corners = cv2.goodFeaturesToTrack(smooth, MAX_POINTS // 2, 0.002, 4, mask=mask)
    return np.empty((0, 2), np.float32) if corners is None else np.asarray(corners, np.float32).reshape(-1, 2)

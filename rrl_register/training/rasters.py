"""Rasters as training images. Needs rasterio, so that it is imported only where a data set holds rasters."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform as reproject

from rrl_register.config import Kind, ReadConfig
from rrl_register.errors import InputError
from rrl_register.geometry.transforms import decompose
from rrl_register.matching.image_pair import SAME_RESOLUTION, WHOLLY_VALID
from rrl_register.raster.grid import Grid, prior_matrix
from rrl_register.raster.radiometry import recognise_kinds
from rrl_register.raster.reader import RasterInfo, open_info, read_bands
from rrl_register.training.bank import ReadImages, colour_bytes

MAX_SIDE = 8192
"""Longest side of a training image, px; larger rasters are averaged down."""
_LATTICE_STEP = 32
"""Distance of the places that are reprojected exactly, px; between them the way is as good as straight."""
_NOWHERE = -1e6
"""Where a projection has no answer: far outside any image."""
_MAX_REMAP = 32_766
"""OpenCV looks no further into an image, px."""


def is_sar(visible: Path, other: Path) -> bool:
    """Whether the second image of a pair, whose first is a visible one, is taken for SAR.

    Raises:
        InputError: If a file cannot be read.
    """
    return recognise_kinds(visible, other, ReadConfig(fixed_kind=Kind.OPTICAL))[1] is Kind.SAR


def read_aligned(visible: Path, other: Path) -> ReadImages:
    """Reads two rasters that lie on one pixel grid.

    Raises:
        InputError: If one cannot be read or has no valid pixel.
    """
    first = read_bands(visible, _shown_bands(open_info(visible)), max_side=MAX_SIDE)
    second = read_bands(other, max_side=MAX_SIDE)
    # Of unlike sizes, which make_pair refuses, there is no common mask.
    valid = first.valid & second.valid if first.valid.shape == second.valid.shape else first.valid
    return ReadImages(colour_bytes(first.values, valid), second.values, valid)


def read_georeferenced(fixed: Path, moving: Path) -> ReadImages:
    """Reads two rasters and brings the moving one onto the fixed one's grid by their georeferences.

    Both are averaged down to the coarser one's resolution. Reprojection is exact on a lattice of 32 px.

    Raises:
        InputError: If one cannot be read, has no valid pixel or no georeference, or they share no ground.
    """
    info = open_info(fixed)
    grids = _Grids(info.grid, open_info(moving).grid)
    for path, grid in zip((fixed, moving), grids, strict=True):
        if not grid.georeferenced:
            raise InputError(f"{path} has no georeference: give both rasters of the pair one, or list them as aligned")
    factors = _factors(grids)
    first = read_bands(fixed, _shown_bands(info), factor=factors[0])
    second = read_bands(moving, factor=factors[1])
    reduced = _Grids(*(grid.reduced(factor) for grid, factor in zip(grids, factors, strict=True)))
    if max(reduced.moving.shape) > _MAX_REMAP:
        raise InputError(
            f"{moving} is {max(reduced.moving.shape)} px long at {fixed}'s resolution: cut it to that area"
        )
    other, is_there = _placed(second.values, second.valid, reduced)
    valid = first.valid & is_there
    if not valid.any():
        raise InputError(f"{fixed} and {moving} share no place where both hold data: check their georeferences")
    return ReadImages(colour_bytes(first.values, valid), other, valid)


class _Grids(NamedTuple):
    fixed: Grid
    moving: Grid


def _shown_bands(info: RasterInfo) -> tuple[int, ...]:
    """Red, green and blue: as declared, else the first three; of fewer bands the first."""
    names = info.colorinterp
    if {"red", "green", "blue"} <= set(names):
        return tuple(names.index(colour) + 1 for colour in ("red", "green", "blue"))
    return info.data_bands[:3] if len(info.data_bands) >= 3 else info.data_bands[:1]


def _factors(grids: _Grids) -> tuple[float, float]:
    """How far to reduce each image: to the coarser one's pixel size, and the fixed one to ``MAX_SIDE``."""
    scale = decompose(prior_matrix(*grids), grids.moving.shape).scale
    fixed_factor = scale if scale > SAME_RESOLUTION else 1.0
    moving_factor = 1 / scale if scale < 1 / SAME_RESOLUTION else 1.0
    further = max(1.0, max(grids.fixed.shape) / fixed_factor / MAX_SIDE)
    return fixed_factor * further, moving_factor * further


def _placed(
    bands: NDArray[np.float32], valid: NDArray[np.bool_], grids: _Grids
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Bands ``(B, h, w)`` of the moving image on the fixed grid, and where they hold data there."""
    x, y = _places(grids)
    planes = [cv2.remap(band, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for band in bands]
    weight = cv2.remap(valid.astype(np.float32), x, y, cv2.INTER_LINEAR, borderValue=0)
    return np.stack(planes).astype(np.float32), np.asarray(weight > WHOLLY_VALID)


def _places(grids: _Grids) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where each fixed pixel lies in the moving image, columns and rows ``(H, W)``."""
    height, width = grids.fixed.shape
    rows, columns = (np.arange(0, side + _LATTICE_STEP, _LATTICE_STEP) for side in (height, width))
    lattice = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
    ground = grids.fixed.pixel_to_map(lattice)
    x, y = reproject(grids.fixed.crs, grids.moving.crs, ground[:, 0], ground[:, 1])[:2]
    places = np.nan_to_num(
        grids.moving.map_to_pixel(np.column_stack([x, y])), nan=_NOWHERE, posinf=_NOWHERE, neginf=_NOWHERE
    )
    down, across = _linear_weights(height, rows), _linear_weights(width, columns)
    dense = [down @ side.reshape(len(rows), len(columns)) @ across.T for side in places.T]
    return dense[0].astype(np.float32), dense[1].astype(np.float32)


def _linear_weights(side: int, nodes: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much each node has to say at each pixel of a side, ``(side, nodes)``."""
    distance = np.abs(np.arange(side)[:, None] - nodes) / _LATTICE_STEP
    return np.asarray(np.maximum(0.0, 1.0 - distance), np.float64)

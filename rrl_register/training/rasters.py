"""Rasters as training images. Needs rasterio: imported only if a data set holds rasters."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.warp import reproject

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


def is_sar(visible: Path, other: Path) -> bool:
    """Return whether the second image of a pair is recognised as SAR.

    Raises:
        InputError: If a file cannot be read.
    """
    return recognise_kinds(visible, other, ReadConfig(fixed_kind=Kind.OPTICAL))[1] is Kind.SAR


def read_aligned(visible: Path, other: Path) -> ReadImages:
    """Read two rasters on one pixel grid.

    Raises:
        InputError: If one cannot be read or has no valid pixel.
    """
    first = read_bands(visible, _shown_bands(open_info(visible)), max_side=MAX_SIDE)
    second = read_bands(other, max_side=MAX_SIDE)
    # Rasters of unlike sizes, which make_pair refuses, have no common mask.
    valid = first.valid & second.valid if first.valid.shape == second.valid.shape else first.valid
    return ReadImages(colour_bytes(first.values, valid), second.values, valid)


def read_georeferenced(fixed: Path, moving: Path) -> ReadImages:
    """Read two rasters and warp the moving one to the fixed one's grid by their georeferences.

    Both are averaged down to the coarser resolution.

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
    other, is_there = _warped(second.values, second.valid, reduced)
    valid = first.valid & is_there
    if not valid.any():
        raise InputError(f"{fixed} and {moving} share no place where both hold data: check their georeferences")
    return ReadImages(colour_bytes(first.values, valid), other, valid)


class _Grids(NamedTuple):
    fixed: Grid
    moving: Grid


def _shown_bands(info: RasterInfo) -> tuple[int, ...]:
    """Return red, green and blue: as declared, else the first three; of fewer bands the first."""
    names = info.colorinterp
    if {"red", "green", "blue"} <= set(names):
        return tuple(names.index(colour) + 1 for colour in ("red", "green", "blue"))
    return info.data_bands[:3] if len(info.data_bands) >= 3 else info.data_bands[:1]


def _factors(grids: _Grids) -> tuple[float, float]:
    """Return the reduction of each image: to the coarser pixel size, and the fixed one to ``MAX_SIDE``."""
    scale = decompose(prior_matrix(*grids), grids.moving.shape).scale
    fixed_factor = scale if scale > SAME_RESOLUTION else 1.0
    moving_factor = 1 / scale if scale < 1 / SAME_RESOLUTION else 1.0
    further = max(1.0, max(grids.fixed.shape) / fixed_factor / MAX_SIDE)
    return fixed_factor * further, moving_factor * further


def _warped(
    bands: NDArray[np.float32], valid: NDArray[np.bool_], grids: _Grids
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the moving image's bands ``(B, h, w)`` on the fixed grid, and their mask there."""
    planes = np.concatenate([bands, valid[None].astype(np.float32)])
    warped = np.zeros((len(planes), *grids.fixed.shape), np.float32)
    reproject(
        planes,
        warped,
        src_transform=grids.moving.transform,
        src_crs=grids.moving.crs,
        dst_transform=grids.fixed.transform,
        dst_crs=grids.fixed.crs,
        resampling=Resampling.bilinear,
    )
    return warped[:-1], warped[-1] > WHOLLY_VALID

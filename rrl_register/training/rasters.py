"""Rasters as training images. Needs rasterio: imported only if a data set holds rasters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rasterio.enums import Resampling
from rasterio.warp import reproject

from rrl_register.config import Kind, ReadConfig
from rrl_register.errors import InputError
from rrl_register.geometry.transforms import decompose
from rrl_register.matching.image_pair import SAME_RESOLUTION, WHOLLY_VALID
from rrl_register.raster.grid import prior_matrix
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

    Both are averaged down to the coarser resolution, and so that the fixed one keeps within ``MAX_SIDE``.

    Raises:
        InputError: If one cannot be read, has no valid pixel or no georeference, or they share no ground.
    """
    info = open_info(fixed)
    target, source = info.grid, open_info(moving).grid
    for path, grid in ((fixed, target), (moving, source)):
        if not grid.georeferenced:
            raise InputError(f"{path} has no georeference: give both rasters of the pair one, or list them as aligned")
    scale = decompose(prior_matrix(target, source), source.shape).scale
    fixed_factor = scale if scale > SAME_RESOLUTION else 1.0
    moving_factor = 1 / scale if scale < 1 / SAME_RESOLUTION else 1.0
    further = max(1.0, max(target.shape) / fixed_factor / MAX_SIDE)
    fixed_factor, moving_factor = fixed_factor * further, moving_factor * further
    first = read_bands(fixed, _shown_bands(info), factor=fixed_factor)
    second = read_bands(moving, factor=moving_factor)
    target, source = target.reduced(fixed_factor), source.reduced(moving_factor)
    planes = np.concatenate([second.values, second.valid[None].astype(np.float32)])
    warped = np.zeros((len(planes), *target.shape), np.float32)
    reproject(
        planes,
        warped,
        src_transform=source.transform,
        src_crs=source.crs,
        dst_transform=target.transform,
        dst_crs=target.crs,
        resampling=Resampling.bilinear,
    )
    valid = first.valid & (warped[-1] > WHOLLY_VALID)
    if not valid.any():
        raise InputError(f"{fixed} and {moving} share no place where both hold data: check their georeferences")
    return ReadImages(colour_bytes(first.values, valid), warped[:-1], valid)


def _shown_bands(info: RasterInfo) -> tuple[int, ...]:
    """Return red, green and blue: as declared, else the first three; of fewer bands the first."""
    names = info.colorinterp
    if {"red", "green", "blue"} <= set(names):
        return tuple(names.index(colour) + 1 for colour in ("red", "green", "blue"))
    return info.data_bands[:3] if len(info.data_bands) >= 3 else info.data_bands[:1]

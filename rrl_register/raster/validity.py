"""Validity: which pixels hold a measurement, by alpha, nodata, masks and NaN, and by gaps that nothing declares."""

from __future__ import annotations

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.io import DatasetReader

from rrl_register.geometry.arrays import Array, Image, Mask
from rrl_register.raster.averaging import Region, read_average
from rrl_register.raster.fill import bridge_lines, find_missing

_LARGEST_VALUE = 1e37
"""No measurement is larger; undeclared fill values such as -3.4e38 are."""
_BLACK_LEVEL = 8.0
"""Largest value of 8-bit fill, into which a lossy compression, perhaps of an earlier file, rings."""


def alpha_bands(dataset: DatasetReader) -> tuple[int, ...]:
    """List the bands, 1-based, that hold opacity."""
    return tuple(band for band, colour in enumerate(dataset.colorinterp, 1) if colour is ColorInterp.alpha)


def is_complete(dataset: DatasetReader, band: int) -> bool:
    """Whether the file declares all pixels of a band, 1-based, as valid."""
    return bool(dataset.mask_flag_enums[band - 1] == [MaskFlags.all_valid])


def is_lossy(dataset: DatasetReader) -> bool:
    """Whether the pixels went through a lossy compression."""
    return dataset.driver == "JPEG" or "JPEG" in dataset.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "")


def valid_pixels(dataset: DatasetReader, bands: tuple[int, ...], region: Region, values: Image) -> Mask:
    """Decide which pixels of a region hold a measurement in every band.

    Args:
        dataset: The raster.
        bands: 1-based bands.
        region: The part that was read.
        values: (B, rows, columns) float32, as read; narrow missing lines are interpolated in place and count as valid.

    Returns:
        (rows, columns) bool.
    """
    valid = _declared_valid(dataset, bands, region)
    if not all(dataset.dtypes[band - 1].startswith(("int", "uint")) for band in bands):
        valid &= np.all(np.abs(values) < _LARGEST_VALUE, axis=0)  # False for NaN, too
    bridge_lines(values, valid)
    black_level = _BLACK_LEVEL if dataset.dtypes[0] == "uint8" else 0.0
    return valid & ~find_missing(values, black_level, grow=4 if is_lossy(dataset) else 2)


def valid_in_band(values: Array, mask: Mask | None, is_alpha: bool) -> Mask | None:
    """Decide which pixels of one band, at full resolution, have data; None: all.

    Args:
        values: (h, w), any type.
        mask: (h, w) bool, as the file declares; None: all pixels are valid.
        is_alpha: Whether the band holds opacity.
    """
    if is_alpha:
        return np.asarray(values != 0)
    if values.dtype.kind in "iu":
        return mask
    finite = np.isfinite(values)
    return finite if mask is None else mask & finite


def _declared_valid(dataset: DatasetReader, bands: tuple[int, ...], region: Region) -> Mask:
    """Mark pixels of which nodata values, mask and alpha leave at least half (if reduced), in every band."""
    alpha = alpha_bands(dataset)
    if not alpha and all(is_complete(dataset, band) for band in bands):
        return np.ones(region.shape, bool)
    shape = (len(bands), *region.shape)
    masks = dataset.read_masks(bands, window=region.window, out_shape=shape, resampling=Resampling.average)
    valid: Mask = np.all(masks >= 128, axis=0)
    if alpha:
        # Opacity is not always declared as the mask of the other bands.
        valid &= read_average(dataset, alpha[:1], region)[0] > 0
    return valid

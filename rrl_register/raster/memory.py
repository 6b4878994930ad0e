"""The memory budget of a run: the size of the working images, and the bound of GDAL's block cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import rasterio

from rrl_register.errors import UsageError

BYTES_PER_PIXEL = 200
"""Memory of matching per working pixel: oriented gradients of both images, framed, and their intermediate arrays."""
BYTES_PER_BAND = 10
"""Memory of reading per working pixel and band: values, masks and marks of gaps."""
CACHE_SHARE = 8
"""One part in eight is for the blocks that GDAL keeps, ..."""
MAX_CACHE = 128 << 20
"""... and no more than this, because windows are read row by row, once."""
WRITE_CACHE = 256 << 20
"""Bound of GDAL's block cache while a raster is written; its own default is a twentieth of the machine's memory."""
LEAST_SIDE = 512
"""A whole scene on fewer px a side shows too little to be registered; also the side of a window of the full image."""
LEAST_MEMORY = 128 << 20


def working_side(max_memory: int, n_bands: int, at_most: int) -> int:
    """Choose the longest side of the working images, px.

    Args:
        max_memory: Bytes for the scene.
        n_bands: Bands that are read, of the image that has more.
        at_most: Longest side if memory does not matter, px.

    Raises:
        UsageError: There is too little memory for any.
    """
    each = max(BYTES_PER_PIXEL, BYTES_PER_BAND * n_bands)
    side = int(math.sqrt((max_memory - cache_bytes(max_memory)) / each))
    if max_memory < LEAST_MEMORY or side < min(LEAST_SIDE, at_most):
        least = max(LEAST_MEMORY, math.ceil(LEAST_SIDE**2 * each * CACHE_SHARE / (CACHE_SHARE - 1)))
        raise UsageError(
            f"--max-memory {max_memory / 2**20:.0f}MiB is too little for {n_bands} bands; needed "
            f"{math.ceil(least / 2**20)}MiB; increase it, or choose bands with --fixed-bidx and --moving-bidx"
        )
    return min(side, at_most)


def cache_bytes(max_memory: int) -> int:
    """Compute the share of GDAL's block cache, bytes."""
    return min(MAX_CACHE, max_memory // CACHE_SHARE)


@contextmanager
def bounded_block_cache(max_memory: int) -> Iterator[None]:
    """Keep GDAL's block cache to its share of the memory of a run, bytes, within the block."""
    with limited_block_cache(cache_bytes(max_memory)):
        yield


@contextmanager
def limited_block_cache(limit: int) -> Iterator[None]:
    """Keep GDAL's block cache to a limit, bytes, within the block; a lower limit of a block around it holds."""
    around = rasterio.env.getenv().get("GDAL_CACHEMAX") if rasterio.env.hasenv() else None
    with rasterio.Env(GDAL_CACHEMAX=min(int(around or limit), limit)):
        yield

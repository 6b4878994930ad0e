"""How the memory that a run may take is shared out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from rrl_register.errors import UsageError

BYTES_PER_PIXEL = 200
"""What matching takes for each working pixel: oriented gradients of both images, framed, and what makes them."""
BYTES_PER_BAND = 10
"""What reading takes for each working pixel and band: values, masks and what marks the gaps."""
CACHE_SHARE = 8
"""One part in eight is for the blocks that GDAL keeps, ..."""
MAX_CACHE = 128 << 20
"""... and no more than this: windows are read row by row, once."""
LEAST_SIDE = 512
"""A whole scene on fewer px a side shows too little to be found; it is the side of a window of the full image, too."""
LEAST_MEMORY = 128 << 20


def working_side(max_memory: int, n_bands: int, at_most: int) -> int:
    """Longest side of the working images, px.

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
            f"{math.ceil(least / 2**20)}MiB; give more, or choose bands with --fixed-bidx and --moving-bidx"
        )
    return min(side, at_most)


def cache_bytes(max_memory: int) -> int:
    """Bytes for the blocks that GDAL keeps."""
    return min(MAX_CACHE, max_memory // CACHE_SHARE)


@contextmanager
def bounded_block_cache(max_memory: int) -> Iterator[None]:
    """Keep GDAL's block cache, 5 % of the machine's memory by itself, to its share."""
    from rasterio import Env

    with Env(GDAL_CACHEMAX=cache_bytes(max_memory)):
        yield

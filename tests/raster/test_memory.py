"""What an amount of memory allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio import _env

from rrl_register.config import ReadConfig, ResourceConfig
from rrl_register.errors import UsageError
from rrl_register.raster.memory import LEAST_MEMORY, bounded_block_cache, cache_bytes, limited_block_cache, working_side

DEFAULT = ResourceConfig().max_memory


def test_the_default_reduces_nothing_further() -> None:
    side = ReadConfig().max_side
    assert working_side(DEFAULT, 1, side) == working_side(DEFAULT, 13, side) == side


@given(st.integers(LEAST_MEMORY, 8 * DEFAULT), st.integers(1, 400))
def test_more_memory_never_means_smaller_images(max_memory: int, n_bands: int) -> None:
    try:
        side = working_side(max_memory, n_bands, 2048)
    except UsageError:
        return
    assert working_side(max_memory + DEFAULT, n_bands, 2048) >= side
    assert cache_bytes(max_memory) < max_memory / 4


def test_what_is_said_to_be_needed_is_enough() -> None:
    with pytest.raises(UsageError, match=r"too little for 300 bands; needed \d+MiB") as caught:
        working_side(LEAST_MEMORY, 300, 2048)
    needed = int(str(caught.value).partition("needed ")[2].partition("MiB")[0])
    assert working_side(needed << 20, 300, 2048) >= 512


def test_gdals_cache_is_bounded_and_set_back() -> None:
    before = _env.get_gdal_config("GDAL_CACHEMAX")
    with bounded_block_cache(DEFAULT):
        assert _env.get_gdal_config("GDAL_CACHEMAX") == cache_bytes(DEFAULT)
    assert _env.get_gdal_config("GDAL_CACHEMAX") == before


def test_the_lowest_of_the_bounds_around_holds() -> None:
    with limited_block_cache(50 << 20):
        for own, held in ((20 << 20, 20 << 20), (90 << 20, 50 << 20)):
            with limited_block_cache(own):
                assert _env.get_gdal_config("GDAL_CACHEMAX") == held
        assert _env.get_gdal_config("GDAL_CACHEMAX") == 50 << 20

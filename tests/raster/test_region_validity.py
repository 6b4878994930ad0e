"""Which pixels hold a measurement: everything a file can declare, and what its values show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile
from rasterio.windows import Window

from rrl_register.raster.region import Declared, Region, is_lossy, read_average, valid_pixels

Make = Callable[..., Path]

SHAPE = (40, 48)
WHOLE = Region(Window(0, 0, SHAPE[1], SHAPE[0]), SHAPE)
HALF = Region(Window(0, 0, SHAPE[1], SHAPE[0]), (SHAPE[0] // 2, SHAPE[1] // 2))


@pytest.fixture
def content(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(20, 255, SHAPE, dtype=np.uint8)


@pytest.fixture
def hole() -> np.ndarray:
    hole = np.zeros(SHAPE, bool)
    hole[10:21, 8:31] = True
    return hole


def valid_of(path: Path, bands: tuple[int, ...] = (1,), region: Region = WHOLE) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return valid_pixels(dataset, bands, region, read_average(dataset, bands, region))


DECLARED = ["nodata", "mask", "alpha", "nan", "infinite", "huge"]


def with_hole(make_raster: Make, content: np.ndarray, hole: np.ndarray, how: str) -> Path:
    """An image whose file, or values, declare a hole."""
    if how == "nodata":
        return make_raster(np.where(hole, 7, content), nodata=7)
    if how == "mask":
        return make_raster(content, mask=~hole)
    if how == "alpha":
        alpha = np.where(hole, 0, 255).astype(np.uint8)
        return make_raster(np.stack([content, alpha]), colours=(ColorInterp.gray, ColorInterp.alpha))
    value = {"nan": np.nan, "infinite": -np.inf, "huge": -3.4e38}[how]
    return make_raster(np.where(hole, value, content).astype(np.float32))


@pytest.mark.parametrize("how", DECLARED)
def test_a_hole_is_not_valid_however_it_is_declared(
    make_raster: Make, content: np.ndarray, hole: np.ndarray, how: str
) -> None:
    assert np.array_equal(valid_of(with_hole(make_raster, content, hole, how)), ~hole)


@pytest.mark.parametrize("how", ["nodata", "mask"])
def test_a_reduced_pixel_is_valid_if_half_of_it_is(
    make_raster: Make, content: np.ndarray, hole: np.ndarray, how: str
) -> None:
    """The hole ends within pixels at its bottom and right edge."""
    share = (~hole).reshape(HALF.shape[0], 2, HALF.shape[1], 2).mean(axis=(1, 3))
    assert np.array_equal(valid_of(with_hole(make_raster, content, hole, how), region=HALF), share >= 0.5)


def test_a_pixel_is_valid_if_every_band_is(make_raster: Make, content: np.ndarray, hole: np.ndarray) -> None:
    path = make_raster(np.stack([content, np.where(hole, 7, content)]), nodata=7, photometric="MINISBLACK")
    assert valid_of(path, (1,)).all()
    assert np.array_equal(valid_of(path, (2,)), ~hole)
    assert np.array_equal(valid_of(path, (1, 2)), ~hole)


def test_an_image_without_holes_is_valid_throughout(make_raster: Make, content: np.ndarray) -> None:
    assert valid_of(make_raster(content)).all()
    assert valid_of(make_raster(content.astype(np.float32), nodata=-9999)).all()


def test_narrow_lines_are_filled_in_and_valid(make_raster: Make, content: np.ndarray) -> None:
    lines = content.copy()
    lines[20:22] = 0
    with rasterio.open(make_raster(lines)) as dataset:
        values = read_average(dataset, (1,), WHOLE)
        assert valid_pixels(dataset, (1,), WHOLE, values).all()
    low, high = np.minimum(content[19], content[22]), np.maximum(content[19], content[22])
    assert np.all((values[0, 20:22] >= low) & (values[0, 20:22] <= high))


def test_black_corners_are_gaps_and_black_content_is_not(make_raster: Make, content: np.ndarray) -> None:
    image = content.copy()
    image[:12, :9] = 0
    image[30, 30] = 0
    valid = valid_of(make_raster(image))
    assert not valid[:12, :9].any()
    assert valid[30, 30]
    assert valid[20:, 20:].all()


def test_a_file_that_declares_nothing_is_complete(make_raster: Make, content: np.ndarray, hole: np.ndarray) -> None:
    with rasterio.open(make_raster(content)) as dataset:
        assert Declared.of(dataset) == (None, 0.0, (None,), (True,))
    for how in ("nodata", "mask"):
        with rasterio.open(with_hole(make_raster, content, hole, how)) as dataset:
            assert Declared.of(dataset).complete == (False,)
    with rasterio.open(with_hole(make_raster, content, hole, "alpha")) as dataset:
        assert Declared.of(dataset).alpha == 2


@pytest.mark.parametrize(("compression", "lossy"), [("JPEG", True), ("DEFLATE", False), ("LZW", False)])
def test_compressions_that_lose_are_known(
    make_raster: Make, content: np.ndarray, compression: str, lossy: bool
) -> None:
    with rasterio.open(make_raster(content, compress=compression)) as dataset:
        assert is_lossy(dataset) == lossy


@given(
    values=st.lists(st.sampled_from([0.0, 1.0, -3.5, np.nan, np.inf, -np.inf]), min_size=1, max_size=12),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_band_has_data_where_mask_and_values_are(values: list[float], masked: bool, seed: int) -> None:
    band = np.array([values], np.float32)
    mask = np.random.default_rng(seed).random(band.shape) > 0.5 if masked else np.ones(band.shape, bool)
    with MemoryFile() as memory, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with memory.open(driver="GTiff", width=len(values), height=1, count=1, dtype="float32") as target:
            target.write(band, 1)
            if masked:
                target.write_mask(mask)
        with memory.open() as dataset:
            found, known = Declared.of(dataset).read(dataset, 1, Window(0, 0, len(values), 1))
    assert np.array_equal(found, band, equal_nan=True)
    assert np.array_equal(known, mask & np.isfinite(band))


def test_integers_have_data_where_the_mask_has(make_raster: Make, content: np.ndarray) -> None:
    for mask in (None, content > 100):
        with rasterio.open(make_raster(content, mask=mask)) as dataset:
            known = Declared.of(dataset).read(dataset, 1, WHOLE.window)[1]
        assert known is None if mask is None else np.array_equal(known, mask)

"""Images that are read in parts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from rrl_register.errors import InputError
from rrl_register.geometry.window import Box
from rrl_register.raster.sources import ArraySource, FileSource

Make = Callable[..., Path]

SHAPE = (50, 70)
WHOLE = Box.of_shape(SHAPE)


@st.composite
def boxes(draw: st.DrawFn, within: Box = WHOLE) -> Box:
    """A box of at least a pixel within another."""
    top, left = draw(st.integers(within.top, within.bottom - 1)), draw(st.integers(within.left, within.right - 1))
    bottom, right = draw(st.integers(top + 1, within.bottom)), draw(st.integers(left + 1, within.right))
    return Box(top, bottom, left, right)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(4).integers(1, 255, (2, *SHAPE), dtype=np.uint8)


@given(box=boxes())
def test_a_part_of_an_array_is_that_part(pixels: np.ndarray, box: Box) -> None:
    valid = pixels[0] > 100
    source = ArraySource(pixels, valid)
    rows, columns = box.slices_from(Box(0, 0, 0, 0))
    values, mask = source.read(1, box)
    assert np.array_equal(values, pixels[1, rows, columns])
    assert np.array_equal(mask, valid[rows, columns])
    assert (source.shape, source.count, source.dtype) == (SHAPE, 2, np.uint8)


@given(box=boxes(Box(10, 40, 5, 60)))
def test_arrays_may_cover_a_part_of_the_image_only(pixels: np.ndarray, box: Box) -> None:
    part = Box(10, 40, 5, 60)
    rows, columns = part.slices_from(Box(0, 0, 0, 0))
    cut = pixels[:, rows, columns]
    source = ArraySource(cut, np.ones(cut.shape[1:], bool), part, SHAPE)
    wanted_rows, wanted_columns = box.slices_from(Box(0, 0, 0, 0))
    assert np.array_equal(source.read(0, box)[0], pixels[0, wanted_rows, wanted_columns])
    assert source.shape == SHAPE


def test_a_file_is_read_like_an_array_by_several_threads(make_raster: Make, pixels: np.ndarray) -> None:
    blocks = list(Box.of_shape(SHAPE).blocks(16))
    with FileSource(make_raster(pixels, photometric="MINISBLACK")) as source, ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda box: source.read(1, box), blocks))
    for box, (values, mask) in zip(blocks, parts, strict=True):
        assert np.array_equal(values, pixels[1][box.slices_from(Box(0, 0, 0, 0))])
        assert mask is None


def test_masks_are_read_per_band(make_raster: Make, pixels: np.ndarray) -> None:
    box = Box.of_shape(SHAPE)
    with FileSource(make_raster(pixels, nodata=9, photometric="MINISBLACK")) as source:
        for band in range(2):
            assert np.array_equal(source.read(band, box)[1], pixels[band] != 9)


def test_opacity_is_data_where_it_is_not_zero(make_raster: Make, pixels: np.ndarray) -> None:
    opacity = np.where(pixels[1] > 128, 255, 0).astype(np.uint8)
    path = make_raster(np.stack([pixels[0], opacity]), colours=(ColorInterp.gray, ColorInterp.alpha))
    with FileSource(path) as source:
        assert [source.is_alpha(band) for band in range(2)] == [False, True]
        values, mask = source.read(1, Box.of_shape(SHAPE))
    assert np.array_equal(values, opacity)
    assert np.array_equal(mask, opacity > 0)


def test_what_is_not_finite_has_no_data(make_raster: Make) -> None:
    image = np.ones(SHAPE, np.float32)
    image[3, 4], image[5, 6] = np.nan, np.inf
    with FileSource(make_raster(image)) as source:
        assert np.array_equal(source.read(0, Box.of_shape(SHAPE))[1], np.isfinite(image))


@pytest.mark.parametrize(
    ("stored", "read"), [("complex_int16", "complex64"), ("int16", "int16"), ("float64", "float64")]
)
def test_arrays_have_the_type_that_is_announced(make_raster: Make, stored: str, read: str) -> None:
    with FileSource(make_raster(np.ones(SHAPE, read), dtype=stored)) as source:
        assert source.dtype == np.dtype(read)
        assert source.read(0, Box.of_shape(SHAPE))[0].dtype == source.dtype


def test_a_palette_is_known(make_raster: Make, pixels: np.ndarray) -> None:
    with FileSource(make_raster(pixels[0])) as source:
        assert not source.has_palette
    path = make_raster(pixels[0], photometric="PALETTE")
    with FileSource(path) as source:
        assert source.has_palette


def test_a_file_that_ends_early_is_refused_when_its_end_is_read(make_raster: Make) -> None:
    path = make_raster(np.random.default_rng(5).integers(0, 255, (300, 300), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:50_000])
    with FileSource(path) as source:
        assert source.read(0, Box(0, 10, 0, 300))[0].any()
        with pytest.raises(InputError, match=r"Cannot read .*image\.tif") as caught:
            source.read(0, Box(290, 300, 0, 300))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        FileSource(tmp_path / "none.tif")

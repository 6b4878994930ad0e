"""What a raster says about itself, and which of its pixels mean something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from rrl_register.errors import InputError, UsageError
from rrl_register.raster.reader import has_content, open_info, read_bands, read_sample

Make = Callable[..., Path]


@pytest.fixture
def content(rng: np.random.Generator) -> np.ndarray:
    """Bytes from 20 on, (64, 80): nothing in them looks like fill."""
    return rng.integers(20, 256, (64, 80), dtype=np.uint8)


def test_info_tells_what_the_file_says(make_raster: Make, content: np.ndarray) -> None:
    place = Affine.translation(500_000, 4_000_000) * Affine.scale(10, -10)
    path = make_raster(
        np.stack([content, content]),
        names=("VV", "VH"),
        tags={"SENSOR": "one"},
        band_tags={"POLARISATION": "VV"},
        nodata=7,
        crs=CRS.from_epsg(32631),
        transform=place,
    )
    info = open_info(path)
    assert (info.count, info.dtype, info.nodata, info.alpha_band, info.lossy) == (2, "uint8", 7, None, False)
    assert (info.grid.width, info.grid.height, info.grid.transform) == (80, 64, place)
    assert info.descriptions == ("VV", "VH")
    assert info.tags["SENSOR"] == "one"
    assert info.band_tags[0]["POLARISATION"] == "VV"
    assert info.data_bands == (1, 2)


def test_an_image_without_georeference_has_none(make_raster: Make, content: np.ndarray) -> None:
    grid = open_info(make_raster(content)).grid
    assert grid.transform is None
    assert grid.crs is None


def test_a_jpeg_is_lossy(tmp_path: Path, content: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "image.jpg"), content)
    assert open_info(tmp_path / "image.jpg").lossy


@pytest.mark.parametrize("content", [b"", b"not an image at all", None], ids=["empty", "text", "missing"])
def test_what_is_no_image_is_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "image.tif"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="image") as caught:
        open_info(path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        open_info(tmp_path)


def test_a_truncated_file_is_refused(make_raster: Make, rng: np.random.Generator) -> None:
    path = make_raster(rng.integers(0, 255, (400, 400), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:90_000])
    with pytest.raises(InputError, match="Cannot read"):
        read_bands(path)


def test_all_bands_but_alpha_are_read_unless_chosen(make_raster: Make, content: np.ndarray) -> None:
    bands = np.stack([content, content // 2, content // 3, np.full_like(content, 255)])
    path = make_raster(bands, photometric="RGB", alpha="YES")
    assert open_info(path).alpha_band == 4
    assert np.array_equal(read_bands(path).values, bands[:3])
    assert np.array_equal(read_bands(path, (3, 1)).values, bands[[2, 0]])


@pytest.mark.parametrize("band", [0, -1, 3])
def test_a_band_that_is_not_there_is_refused(make_raster: Make, content: np.ndarray, band: int) -> None:
    with pytest.raises(UsageError, match=f"no band {band}"):
        read_bands(make_raster(np.stack([content, content])), (1, band))


def test_all_pixels_of_a_plain_image_are_valid(make_raster: Make, content: np.ndarray) -> None:
    values, valid, factor = read_bands(make_raster(content))
    assert values.dtype == np.float32
    assert valid.all()
    assert factor == 1


@pytest.mark.parametrize("how", ["nodata", "nan", "mask", "alpha", "fill"])
def test_pixels_without_data_are_not_valid(make_raster: Make, content: np.ndarray, how: str) -> None:
    hole = np.zeros(content.shape, bool)
    hole[20:30, 40:60] = True
    if how == "nodata":
        path = make_raster(np.where(hole, 3, content).astype(np.uint8), nodata=3)
    elif how == "nan":
        path = make_raster(np.where(hole, np.nan, content).astype(np.float32))
    elif how == "mask":
        path = make_raster(content, mask=~hole)
    elif how == "alpha":
        alpha = np.where(hole, 0, 255).astype(np.uint8)
        colours = (ColorInterp.gray, ColorInterp.alpha)
        path = make_raster(np.stack([content, alpha]), colours=colours)
    else:
        path = make_raster(np.where(hole, np.float32(-3.4e38), content).astype(np.float32))
    values, valid, _ = read_bands(path)
    assert np.array_equal(valid, ~hole)
    assert np.array_equal(values[0], np.where(hole, 0, content))


def test_one_band_without_data_makes_the_pixel_invalid(make_raster: Make, content: np.ndarray) -> None:
    bands = np.stack([content, content])
    bands[1, 5, 6] = 3
    valid = read_bands(make_raster(bands, nodata=3)).valid
    assert not valid[5, 6]
    assert valid.sum() == valid.size - 1


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)


@pytest.mark.parametrize("name", ["image.tif", "image.jpg"])
def test_the_black_corners_of_a_turned_image_are_not_valid(tmp_path: Path, rng: np.random.Generator, name: str) -> None:
    smooth = cv2.GaussianBlur(rng.uniform(0, 255, (256, 256)).astype(np.float32), (0, 0), 3)
    image = turned(np.clip(120 + 4 * (smooth - 127), 60, 255).astype(np.uint8), 20)
    cv2.imwrite(str(tmp_path / name), image)
    outside = turned(np.full((256, 256), 255, np.uint8), 20) < 255
    valid = read_bands(tmp_path / name).valid
    # Of the tips of the corners a pixel or two is grey already.
    assert valid[outside].sum() < 10
    assert valid[~outside].mean() > 0.95


def test_lost_lines_and_tiles_cost_no_more_than_themselves(make_raster: Make, content: np.ndarray) -> None:
    lossy = content.copy()
    lossy[10:12] = lossy[30:40] = lossy[50:56, 20:30] = 0
    values, valid, _ = read_bands(make_raster(lossy))
    lost = np.zeros(content.shape, bool)
    lost[30:40] = lost[50:56, 20:30] = True
    assert np.array_equal(valid, ~lost)
    assert values[0, 10:12].min() >= 20


def test_a_night_scene_is_valid_in_a_jpeg(tmp_path: Path, rng: np.random.Generator) -> None:
    smooth = cv2.GaussianBlur(rng.uniform(0, 255, (128, 128)).astype(np.float32), (0, 0), 3)
    night = np.clip(5 + (smooth - 127) / 4, 1, 8).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "night.jpg"), night)
    assert read_bands(tmp_path / "night.jpg").valid.mean() > 0.99


@pytest.mark.parametrize("value", [0, 9])
def test_an_image_without_content_is_refused(make_raster: Make, value: int) -> None:
    with pytest.raises(InputError, match="valid pixel"):
        read_bands(make_raster(np.full((40, 40), value, np.uint8)))


def test_an_image_of_nodata_is_refused(make_raster: Make) -> None:
    with pytest.raises(InputError, match="no valid pixel"):
        read_bands(make_raster(np.full((40, 40), 9, np.uint8), nodata=9))


@given(side=st.integers(20, 120))
def test_the_longest_side_is_kept_to(tmp_path_factory: pytest.TempPathFactory, side: int) -> None:
    path = tmp_path_factory.mktemp("rasters") / "ramp.tif"
    ramp = np.tile(np.arange(1, 101, dtype=np.float32), (70, 1))
    with rasterio.open(path, "w", driver="GTiff", width=100, height=70, count=1, dtype="float32") as target:
        target.write(ramp, 1)
    values, _, factor = read_bands(path, max_side=side)
    assert values.shape[1:] == open_info(path).grid.reduced(factor).shape
    assert max(values.shape) == min(side, 100)
    # A ramp's mean over a pixel is its value at the pixel's centre.
    centres = (np.arange(values.shape[2]) + 0.5) * factor + 0.5
    assert np.abs(values[0] - centres)[:, 1:-1].max() < 0.1 * factor


def test_whole_factors_average_exactly(make_raster: Make, rng: np.random.Generator) -> None:
    image = rng.uniform(1, 9, (61, 83)).astype(np.float32)
    values, _, factor = read_bands(make_raster(image), factor=4)
    expected = image[:60, :80].reshape(15, 4, 20, 4).mean(axis=(1, 3))
    assert factor == 4
    assert np.allclose(values[0], expected, atol=1e-5)


def test_nodata_does_not_enter_averages(make_raster: Make) -> None:
    image = np.tile(np.arange(1, 41, dtype=np.float32), (40, 1))
    image[10, 10] = image[22, 22:24] = -9999
    values, valid, _ = read_bands(make_raster(image, nodata=-9999), factor=2)
    assert values[0][valid].min() >= 1
    assert valid.all()
    assert np.allclose(values[0, 5, 5], (12 + 11 + 12) / 3)


def test_a_factor_below_one_reads_the_image_as_it_is(make_raster: Make, content: np.ndarray) -> None:
    assert read_bands(make_raster(content), factor=0.5).factor == 1
    assert read_bands(make_raster(content), max_side=1000).factor == 1


def test_complex_bands_are_read_as_amplitudes(make_raster: Make, rng: np.random.Generator) -> None:
    amplitude, phase = rng.uniform(1, 9, (40, 40)), np.exp(1j * rng.uniform(0, 2 * np.pi, (40, 40)))
    path = make_raster((amplitude * phase).astype(np.complex64))
    assert np.allclose(read_bands(path).values[0], amplitude, atol=1e-4)
    halved = read_bands(path, factor=2).values[0]
    assert np.allclose(halved, amplitude.reshape(20, 2, 20, 2).mean(axis=(1, 3)), atol=1e-4)


def test_a_sample_is_the_middle_at_full_resolution(make_raster: Make, content: np.ndarray) -> None:
    values, valid, factor = read_sample(make_raster(content), side=20)
    assert factor == 1
    assert np.array_equal(values[0], content[22:42, 30:50])
    assert valid.all()


def test_a_sample_without_data_is_no_error(make_raster: Make) -> None:
    assert not read_sample(make_raster(np.full((40, 40), 9, np.uint8), nodata=9)).valid.any()


@pytest.mark.parametrize("layout", [{"driver": "COG", "blocksize": 128}, {"BIGTIFF": "YES", "tiled": True}])
def test_overviews_and_large_offsets_are_read(make_raster: Make, rng: np.random.Generator, layout: dict) -> None:
    smooth = cv2.GaussianBlur(rng.uniform(20, 255, (512, 640)).astype(np.float32), (0, 0), 3)
    path = make_raster(smooth, **layout)
    expected = smooth.reshape(128, 4, 160, 4).mean(axis=(1, 3))
    assert np.abs(read_bands(path, factor=4).values[0] - expected).mean() < 0.5
    assert np.array_equal(read_bands(path, part=(100, 50, 64, 32)).values[0], smooth[50:82, 100:164])


def test_a_part_is_averaged_like_the_whole(make_raster: Make, rng: np.random.Generator) -> None:
    image = rng.uniform(1, 9, (60, 80)).astype(np.float32)
    path = make_raster(image)
    whole = read_bands(path, factor=2.5).values[0]
    part = read_bands(path, factor=2.5, part=(10, 5, 40, 30))
    assert part.values.shape == (1, 12, 16)
    assert np.allclose(part.values[0], whole[2:14, 4:20], atol=1e-5)


def test_a_single_pixel_is_content(make_raster: Make, content: np.ndarray) -> None:
    dull = np.full_like(content, 9)
    dull[-2, 3] = 10
    assert has_content(read_bands(make_raster(dull)))


def test_a_part_may_be_empty(make_raster: Make, content: np.ndarray) -> None:
    part = read_bands(make_raster(np.full_like(content, 9)), part=(0, 0, 20, 20))
    assert not has_content(part)


@pytest.mark.shared_data
def test_the_black_strip_of_a_shifted_scene_is_not_valid(shared_data: Path) -> None:
    valid = read_bands(shared_data / "dev" / "geo_sar" / "130_moving.tif").valid
    assert 0.90 < valid.mean() < 0.97
    assert not valid[0].any()

"""Every way in which a file declares a hole: what is matched, averaged and written is the rest, and all of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp
from rasterio.errors import NodataShadowWarning

from rrl_register.raster.grid import Grid
from rrl_register.raster.reader import open_info, read_bands
from rrl_register.warping.warp import warp_to_file

Make = Callable[..., Path]

SHAPE = (64, 80)
HOLE = np.zeros(SHAPE, bool)
HOLE[20:36, 16:40] = True
FEATHERED = 30
"""Opacity of a ramp's outer half."""


@pytest.fixture
def content(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(20, 200, SHAPE).astype(np.float64)


def as_vrt(path: Path, *nodata: str | None) -> Path:
    """Declare a nodata value, as a text, for each band."""
    output = path.with_suffix(".vrt")
    rasterio.shutil.copy(path, output, driver="VRT")
    parts = output.read_text().split("<VRTRasterBand ")
    for band, value in enumerate(nodata, 1):
        if value is not None:
            parts[band] = parts[band].replace(">", f"><NoDataValue>{value}</NoDataValue>", 1)
    output.write_text("<VRTRasterBand ".join(parts))
    return output


def declared_by_value(dtype: str, value: float, pixel: float | None = None) -> Callable[..., Path]:
    def write(make_raster: Make, content: np.ndarray) -> Path:
        with np.errstate(over="ignore", invalid="ignore"):
            pixels = np.where(HOLE, value if pixel is None else pixel, content).astype(dtype)
        path = make_raster(pixels)
        return as_vrt(path, repr(value))

    return write


def per_band_in_a_vrt(make_raster: Make, content: np.ndarray) -> Path:
    pixels = np.stack([np.where(HOLE, -5, content), np.where(HOLE, -7, content + 9)]).astype(np.int16)
    return as_vrt(make_raster(pixels), "-5", "-7")


def in_one_band_of_a_vrt(make_raster: Make, content: np.ndarray) -> Path:
    pixels = np.stack([content, np.where(HOLE, -7, content + 9)]).astype(np.int16)
    return as_vrt(make_raster(pixels), None, "-7")


def beside_a_mask(make_raster: Make, content: np.ndarray) -> Path:
    left, right = HOLE.copy(), HOLE.copy()
    left[:, 28:] = right[:, :28] = False
    return make_raster(np.where(left, -9999, content).astype(np.float32), nodata=-9999, mask=~right)


def beside_alpha(make_raster: Make, content: np.ndarray) -> Path:
    left, right = HOLE.copy(), HOLE.copy()
    left[:, 28:] = right[:, :28] = False
    rgb = [np.where(left, 7, content + step) for step in (0, 1, 2)]
    image = np.stack([*rgb, np.where(right, 0, 255)]).astype(np.uint8)
    return make_raster(image, nodata=7, photometric="RGB", alpha="YES")


def with_scale_and_offset(make_raster: Make, content: np.ndarray) -> Path:
    path = make_raster(np.where(HOLE, 0, content).astype(np.uint16), nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.1,), (-100.0,)
    return path


def by_alpha(dtype: str, opaque: float, clear: float = 0) -> Callable[..., Path]:
    def write(make_raster: Make, content: np.ndarray) -> Path:
        bands = np.stack([content, content + 1, content + 2, np.where(HOLE, clear, opaque)]).astype(dtype)
        colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        return make_raster(bands, colours=colours, photometric="RGB", alpha="YES")

    return write


WAYS = {
    "inf": declared_by_value("float32", math.inf),
    "-inf": declared_by_value("float32", -math.inf),
    "-inf of float64": declared_by_value("float64", -math.inf),
    "NaN": declared_by_value("float32", math.nan),
    "the largest float64 in float32": declared_by_value("float32", -1.7976931348623157e308, -3.4028234663852886e38),
    "the largest float32": declared_by_value("float32", -3.4028234663852886e38),
    "per band in a VRT": per_band_in_a_vrt,
    "one band of a VRT": in_one_band_of_a_vrt,
    "a value beside a mask": beside_a_mask,
    "a value beside alpha": beside_alpha,
    "with scale and offset": with_scale_and_offset,
    "8-bit alpha of 255": by_alpha("uint8", 255),
    "8-bit alpha of 1": by_alpha("uint8", 1),
    "8-bit alpha with a ramp": by_alpha("uint8", 255, FEATHERED),
    "16-bit alpha of 65535": by_alpha("uint16", 65535),
    "16-bit alpha of 255": by_alpha("uint16", 255),
    "16-bit alpha of 1": by_alpha("uint16", 1),
    "float alpha of 1": by_alpha("float32", 1),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_rest_of_the_image_is_matched_and_written(make_raster: Make, content: np.ndarray, way: str) -> None:
    path = WAYS[way](make_raster, content)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NodataShadowWarning)
        values, valid, _ = read_bands(path)
        assert np.array_equal(valid, ~HOLE)
        assert np.allclose(values[0][valid], content[valid])
        reduced, valid, _ = read_bands(path, factor=2)
        assert np.array_equal(valid, ~HOLE[::2, ::2])
        assert np.allclose(
            reduced[0][valid], content.reshape(32, 2, 40, 2).mean(axis=(1, 3))[valid], atol=0.51
        )  # integers
        output = path.with_name("warped.tif")
        warp_to_file(path, np.eye(3), Grid(SHAPE[1], SHAPE[0]), output)
    info = open_info(output)
    with rasterio.open(output) as dataset:
        written = dataset.read(1)
        known = dataset.read_masks(len(info.data_bands)) > 0 if info.alpha_band is None else dataset.read(4) > 0
    if way == "a value beside alpha":
        known &= written != 7
    assert np.array_equal(known & np.isfinite(written), ~HOLE)
    assert np.array_equal(written[~HOLE], content[~HOLE].astype(written.dtype))


@pytest.mark.parametrize("value", ["256", "-1", "nan", "inf", "-9999"])
def test_a_value_that_the_type_cannot_hold_marks_nothing(make_raster: Make, content: np.ndarray, value: str) -> None:
    path = as_vrt(make_raster(content.astype(np.uint8)), value)
    assert read_bands(path).valid.all()
    output = path.with_name("warped.tif")
    warp_to_file(path, np.eye(3), Grid(SHAPE[1], SHAPE[0]), output)
    with rasterio.open(output) as dataset:
        assert np.array_equal(dataset.read(1), content)
        assert dataset.read_masks(1).all()

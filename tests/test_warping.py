"""Bringing an image onto another grid: exact, blind to pixels without data, and the same whatever the blocks."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags

from rrl_register import inverse_map
from rrl_register.config import Resampling, WarpConfig
from rrl_register.errors import InputError, OutputExistsError, UsageError
from rrl_register.raster.grid import Grid
from rrl_register.raster.reader import open_info
from rrl_register.warping import warp_array, warp_to_file

Make = Callable[..., Path]

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
COMPLEX = ["complex64", "complex128"]
TILTED = np.array([[0.94, 0.12, 5.3], [-0.1, 1.05, -3.7], [1e-4, -2e-4, 1]])
METHODS = list(Resampling)


def shift(dx: float, dy: float) -> np.ndarray:
    return np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1]], np.float64)


def noise(rng: np.random.Generator, dtype: str, shape: tuple[int, ...] = (60, 70)) -> np.ndarray:
    """Values all over the type's range."""
    if dtype.startswith("complex"):
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    if dtype.startswith("float"):
        return rng.normal(0, 1e6, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def waves(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sin(x / 9) + np.cos(y / 7) + np.sin((x + y) / 13)


def waves_seen_through(matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """What an exact warp of waves would give."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in np.linalg.inv(matrix))
    return waves(u / w, v / w)


def inner(valid: np.ndarray, margin: int = 4) -> np.ndarray:
    framed = np.pad(valid, 1).astype(np.uint8)
    return cv2.erode(framed, np.ones((2 * margin + 1,) * 2, np.uint8))[1:-1, 1:-1] > 0


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


# Arrays


@pytest.mark.parametrize("resampling", METHODS)
@pytest.mark.parametrize("dtype", DTYPES + COMPLEX)
def test_identity_changes_no_bit(rng: np.random.Generator, dtype: str, resampling: Resampling) -> None:
    image = noise(rng, dtype, (2, 60, 70))
    warped, valid = warp_array(image, np.eye(3), (60, 70), resampling)
    assert warped.dtype == image.dtype
    assert warped.tobytes() == image.tobytes()
    assert valid.all()


@given(
    dx=st.integers(-80, 80),
    dy=st.integers(-70, 70),
    method=st.sampled_from(METHODS),
    scale=st.sampled_from([1, -1, 0.3, -7, 1e-9, 1e100]),
)
def test_a_whole_shift_copies_pixels(dx: int, dy: int, method: Resampling, scale: float) -> None:
    image = noise(np.random.default_rng(3), "int64")
    # A homography is the same at any scale, the sign included.
    warped, valid = warp_array(image, shift(dx, dy) * scale, (60, 70), method)
    expected, there = np.zeros_like(image), np.zeros(image.shape, bool)
    target = slice(max(dy, 0), max(0, 60 + min(dy, 0))), slice(max(dx, 0), max(0, 70 + min(dx, 0)))
    source = slice(max(-dy, 0), max(0, 60 - max(dy, 0))), slice(max(-dx, 0), max(0, 70 - max(dx, 0)))
    if abs(dx) < 70 and abs(dy) < 60:
        expected[target], there[target] = image[source], True
    assert np.array_equal(warped, expected)
    assert np.array_equal(valid, there)


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_quarter_turns_copy_pixels(rng: np.random.Generator, turn: int) -> None:
    image = noise(rng, "uint16", (40, 40))
    matrix = {
        1: np.array([[0, 1, 0], [-1, 0, 39], [0, 0, 1.0]]),
        2: np.array([[-1, 0, 39], [0, -1, 39], [0, 0, 1.0]]),
        3: np.array([[0, -1, 39], [1, 0, 0], [0, 0, 1.0]]),
    }[turn]
    warped, valid = warp_array(image, matrix, (40, 40))
    assert valid.all()
    assert np.array_equal(warped, np.rot90(image, turn))


@pytest.mark.parametrize(("resampling", "error"), [("bilinear", 0.012), ("cubic", 0.001)])
def test_a_smooth_image_is_interpolated_closely(resampling: str, error: float) -> None:
    y, x = np.mgrid[:200, :220].astype(float)
    warped, valid = warp_array(waves(x, y).astype(np.float32), TILTED, (210, 190), resampling)
    wrong = np.abs(warped - waves_seen_through(TILTED, (210, 190)))[inner(valid)]
    assert wrong.max() < error


def test_cubic_is_closer_than_opencv_whose_coordinates_are_rounded() -> None:
    y, x = np.mgrid[:200, :220].astype(float)
    image = waves(x, y).astype(np.float32)
    truth = waves_seen_through(TILTED, (200, 220))
    warped, valid = warp_array(image, TILTED, (200, 220))
    other = cv2.warpPerspective(image, TILTED, (220, 200), flags=cv2.INTER_CUBIC)
    inside = inner(valid)
    assert np.abs(warped - truth)[inside].max() < 0.2 * np.abs(other - truth)[inside].max()


def test_half_pixel_shift_of_a_ramp_is_exact() -> None:
    ramp = np.tile(np.arange(50, dtype=np.float64), (40, 1))
    for resampling in ("bilinear", "cubic"):
        warped, valid = warp_array(ramp, shift(0.5, 0.25), (40, 50), resampling)
        assert np.allclose(warped[inner(valid)], (ramp - 0.5)[inner(valid)], atol=1e-12)


def test_complex_parts_are_interpolated_each_by_itself(rng: np.random.Generator) -> None:
    image = noise(rng, "complex128")
    warped, valid = warp_array(image, TILTED, (60, 70))
    real, imaginary = (warp_array(np.ascontiguousarray(part), TILTED, (60, 70))[0] for part in (image.real, image.imag))
    assert np.allclose(warped, real + 1j * imaginary)
    assert valid.mean() > 0.7


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32"])
def test_integers_are_rounded_and_clipped(dtype: str) -> None:
    limits = np.iinfo(dtype)
    # Cubic interpolation overshoots beside an edge, beyond what the type holds.
    image = np.full((20, 20), limits.min, dtype)
    image[:, 10:] = limits.max
    warped, valid = warp_array(image, shift(0.4, 0), (20, 20))
    # At the image's edge interpolation is bilinear.
    steps = warped[inner(valid)]
    assert steps.min() == limits.min
    assert steps.max() == limits.max
    between = np.unique(steps[(steps > limits.min) & (steps < limits.max)])
    assert len(between) == 1
    half = warp_array(np.array([[3, 4, 4, 4]] * 4, np.uint8), shift(0.4, 0), (4, 4), "bilinear")[0]
    assert half[1, 1] == 4


@pytest.mark.parametrize("resampling", METHODS)
@pytest.mark.parametrize("hidden", [1e30, np.nan, np.inf])
def test_pixels_without_data_do_not_bleed(rng: np.random.Generator, resampling: Resampling, hidden: float) -> None:
    image = rng.uniform(10, 20, (60, 70)).astype(np.float32)
    known = rng.random((60, 70)) > 0.3
    known[20:30, 20:40] = False
    image[~known] = hidden
    warped, valid = warp_array(image, TILTED, (60, 70), resampling, known)
    assert valid.any()
    # Cubic interpolation may overshoot, by far less than the hidden values.
    assert 5 < warped[valid].min() <= warped[valid].max() < 25
    assert (warped[~valid] == 0).all()


@given(dx=st.floats(-3, 3), dy=st.floats(-3, 3), method=st.sampled_from(METHODS))
def test_a_constant_stays_constant_up_to_the_edge_of_the_data(dx: float, dy: float, method: Resampling) -> None:
    known = np.random.default_rng(4).random((30, 30)) > 0.2
    image = np.where(known, 7.0, -1e6)
    warped, valid = warp_array(image, shift(dx, dy), (30, 30), method, known)
    assert np.allclose(warped[valid], 7, atol=1e-9)


def test_a_place_has_data_where_its_nearest_pixel_has(rng: np.random.Generator) -> None:
    known = rng.random((30, 30)) > 0.5
    image = rng.random((30, 30))
    masks = [warp_array(image, shift(0.3, -0.2), (30, 30), method, known)[1] for method in METHODS]
    assert np.array_equal(masks[0], known)
    assert all(np.array_equal(mask, known) for mask in masks)


def test_values_that_are_not_finite_are_no_data(rng: np.random.Generator) -> None:
    image = rng.random((2, 30, 30))
    image[1, 4, 5] = np.nan
    valid = warp_array(image, np.eye(3), (30, 30))[1]
    assert valid.sum() == 899
    assert not valid[4, 5]


def test_nothing_is_seen_behind_the_horizon() -> None:
    image = np.ones((50, 50), np.float32)
    # The line 1 - x / 100 = 0 lies beyond the image; fixed pixels past its image would see it from behind.
    matrix = np.array([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    valid = warp_array(image, matrix, (50, 400))[1]
    columns = np.flatnonzero(valid.any(axis=0))
    assert columns.max() <= math.ceil(49.5 / (1 - 0.495))
    mirrored = warp_array(image, matrix @ shift(-300, 0), (50, 400))[1]
    assert mirrored.sum() < valid.sum()


@pytest.mark.parametrize("factor", [2, 3, 5, 8])
@pytest.mark.parametrize("resampling", ["bilinear", "cubic"])
def test_reducing_averages_so_that_nothing_aliases(factor: int, resampling: str) -> None:
    stripes = np.tile(np.arange(240) % 2 * 200, (240, 1)).astype(np.float32)
    matrix = np.diag([1 / factor, 1 / factor, 1])
    matrix[:2, 2] = 0.5 / factor - 0.5
    warped, valid = warp_array(stripes, matrix, (240 // factor, 240 // factor), resampling)
    expected = stripes.reshape(240 // factor, factor, 240 // factor, factor).mean(axis=(1, 3))
    assert valid.all()
    assert np.allclose(warped, expected, atol=1e-3)


def test_averaging_leaves_out_pixels_without_data() -> None:
    image = np.full((80, 80), 9.0)
    known = np.ones((80, 80), bool)
    known[::4] = False
    image[~known] = 1e9
    warped, valid = warp_array(image, np.diag([0.25, 0.25, 1]), (19, 19), "bilinear", known)
    assert valid.all()
    assert np.allclose(warped, 9)


def test_labels_are_never_averaged(rng: np.random.Generator) -> None:
    labels = rng.choice(np.array([3, 90, 200], np.uint8), (90, 90))
    warped, valid = warp_array(labels, np.diag([0.2, 0.2, 1]), (18, 18), "nearest")
    assert set(np.unique(warped[valid])) <= {3, 90, 200}


@pytest.mark.parametrize(
    "matrix", [np.ones((3, 3)), np.zeros((3, 3)), np.diag([1, 1, np.nan]), np.eye(2), np.diag([1.0, 0.0, 1.0])]
)
def test_a_matrix_without_inverse_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(UsageError, match="no inverse"):
        warp_array(np.ones((5, 5)), matrix, (5, 5))


# Files


def warp(moving: Path, matrix: np.ndarray, grid: Grid | None = None, **settings: Any) -> Path:
    output = moving.with_name("aligned.tif")
    warp_to_file(moving, matrix, grid or open_info(moving).grid, output, WarpConfig(**settings), overwrite=True)
    return output


def files_of(path: Path) -> list[str]:
    return sorted(other.name for other in path.parent.iterdir())


@pytest.mark.parametrize("dtype", [*DTYPES, *COMPLEX, "complex_int16"])
def test_identity_writes_the_same_pixels(make_raster: Make, rng: np.random.Generator, dtype: str) -> None:
    pixels = np.rint(100 * noise(rng, "complex64")) if dtype == "complex_int16" else noise(rng, dtype)
    moving = make_raster(pixels, dtype=dtype)
    output = warp(moving, np.eye(3))
    with rasterio.open(output) as dataset:
        assert dataset.dtypes == (dtype,)
        assert dataset.read().tobytes() == read(moving).tobytes()
        assert dataset.read_masks(1).all()
    assert files_of(output) == ["aligned.tif", "image.tif"]


@pytest.mark.parametrize("resampling", METHODS)
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_blocks_do_not_show(
    make_raster: Make, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, resampling: Resampling, scale: float
) -> None:
    image = rng.integers(1, 60_000, (2, 300, 340), dtype=np.uint16)
    image[:, 100:140, 50:200] = 0
    moving = make_raster(image, nodata=0, tiled=True, blockxsize=64, blockysize=64)
    matrix = np.diag([scale, scale, 1]) @ TILTED
    grid = Grid(round(330 * scale), round(310 * scale))
    whole = read(warp(moving, matrix, grid, resampling=resampling, block_size=512))
    assert np.array_equal(read(warp(moving, matrix, grid, resampling=resampling, block_size=48)), whole)
    monkeypatch.setattr(inverse_map, "_MAX_WINDOW_PX", 2000)
    assert np.array_equal(read(warp(moving, matrix, grid, resampling=resampling, block_size=128)), whole)


def test_a_file_is_warped_as_an_array_is(make_raster: Make, rng: np.random.Generator) -> None:
    image = noise(rng, "float32", (2, 90, 80))
    with rasterio.open(warp(make_raster(image), TILTED, Grid(75, 85))) as dataset:
        expected, valid = warp_array(image, TILTED, (85, 75))
        assert np.array_equal(dataset.dataset_mask() > 0, valid)
        assert np.array_equal(dataset.read()[:, valid], expected[:, valid])


def test_the_output_lies_where_the_fixed_image_does(make_raster: Make, rng: np.random.Generator) -> None:
    moving = make_raster(noise(rng, "uint8"), crs=CRS.from_epsg(32632), transform=Affine.scale(3, -3))
    place = Affine.translation(5e5, 4e6) * Affine.rotation(10) * Affine.scale(2, -2)
    grid = Grid(50, 40, CRS.from_epsg(32631), place)
    assert open_info(warp(moving, TILTED, grid)).grid == grid
    assert open_info(warp(moving, TILTED, Grid(50, 40))).grid == Grid(50, 40)


def test_what_the_file_says_about_its_bands_is_kept(make_raster: Make, rng: np.random.Generator) -> None:
    moving = make_raster(
        noise(rng, "int16", (2, 60, 70)),
        names=("first", "second"),
        colours=(ColorInterp.gray, ColorInterp.undefined),
        tags={"SENSOR": "one", "STATISTICS_MEAN": "3", "AREA_OR_POINT": "Point"},
        band_tags={"WAVELENGTH": "842", "STATISTICS_MAXIMUM": "9"},
    )
    with rasterio.open(moving, "r+") as dataset:
        dataset.scales, dataset.offsets, dataset.units = (0.1, 0.2), (5, 6), ("K", "m")
    with rasterio.open(warp(moving, TILTED)) as dataset:
        assert dataset.descriptions == ("first", "second")
        assert dataset.colorinterp == (ColorInterp.gray, ColorInterp.undefined)
        assert dataset.tags()["SENSOR"] == "one"
        assert dataset.tags(1) == {"WAVELENGTH": "842"}
        assert not any(key.startswith("STATISTICS_") for key in dataset.tags())
        assert (dataset.scales, dataset.offsets, dataset.units) == ((0.1, 0.2), (5, 6), ("K", "m"))


def test_colours_stay_colours(make_raster: Make, rng: np.random.Generator) -> None:
    output = warp(make_raster(noise(rng, "uint8", (3, 60, 70)), photometric="RGB"), TILTED)
    assert open_info(output).colorinterp == ("red", "green", "blue")
    three_channels = (ColorInterp.gray, ColorInterp.undefined, ColorInterp.undefined)
    output = warp(make_raster(noise(rng, "uint8", (3, 60, 70)), photometric="MINISBLACK"), TILTED)
    assert open_info(output).colorinterp == tuple(colour.name for colour in three_channels)


def test_a_palette_is_kept_and_its_indices_are_not_mixed(make_raster: Make, rng: np.random.Generator) -> None:
    moving = make_raster(rng.choice(np.array([3, 90, 200], np.uint8), (60, 70)))
    table = {index: (index, 255 - index, 7, 255) for index in range(256)}
    with rasterio.open(moving, "r+") as dataset:
        dataset.write_colormap(1, table)
    with rasterio.open(warp(moving, TILTED, resampling=Resampling.CUBIC)) as dataset:
        assert dataset.colormap(1) == table
        assert set(np.unique(dataset.read(1, masked=True).compressed())) == {3, 90, 200}


def test_the_file_is_tiled_and_compressed(make_raster: Make) -> None:
    output = warp(make_raster(np.tile(np.arange(600, dtype=np.uint16), (600, 1))), np.eye(3))
    with rasterio.open(output) as dataset:
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.profile["compress"] == "deflate"
    assert output.stat().st_size < 600 * 600


def test_creation_options_are_handed_on(make_raster: Make, rng: np.random.Generator) -> None:
    moving = make_raster(noise(rng, "float32"))
    options = (("compress", "LZW"), ("BLOCKXSIZE", "64"), ("BLOCKYSIZE", "32"))
    with rasterio.open(warp(moving, np.eye(3), creation_options=options)) as dataset:
        assert dataset.profile["compress"] == "lzw"
        assert dataset.block_shapes == [(32, 64)]


@pytest.mark.parametrize("option", [("COMPRESS", "NONSENSE"), ("NONSENSE", "1"), ("ZLEVEL", "99")])
def test_creation_options_that_gdal_would_pass_over_are_refused(
    make_raster: Make, rng: np.random.Generator, option: tuple[str, str]
) -> None:
    moving = make_raster(noise(rng, "uint8"))
    with pytest.raises(UsageError, match="creation option") as caught:
        warp(moving, np.eye(3), creation_options=(option,))
    assert option[1] in str(caught.value) or option[0] in str(caught.value)
    assert files_of(moving) == ["image.tif"]


def test_many_bands_are_stored_one_after_another(make_raster: Make, rng: np.random.Generator) -> None:
    image = noise(rng, "uint8", (7, 60, 70))
    output = warp(make_raster(image, interleave="band", photometric="MINISBLACK"), np.eye(3))
    with rasterio.open(output) as dataset:
        assert dataset.interleaving.name == "band"
        assert np.array_equal(dataset.read(), image)


# No data


def test_without_nodata_a_mask_tells_zeros_from_nothing(make_raster: Make) -> None:
    output = warp(make_raster(np.zeros((60, 70), np.uint8)), shift(10, 0))
    with rasterio.open(output) as dataset:
        assert dataset.nodata is None
        assert dataset.mask_flag_enums == ([MaskFlags.per_dataset],)
        assert not dataset.read_masks(1)[:, :10].any()
        assert dataset.read_masks(1)[:, 10:].all()
    assert files_of(output) == ["aligned.tif", "image.tif"]


def test_floats_are_nan_under_the_mask(make_raster: Make) -> None:
    image = np.ones((60, 70), np.float32)
    image[5, 6] = np.nan
    with rasterio.open(warp(make_raster(image), shift(10, 0))) as dataset:
        expected = np.ones((60, 70), bool)
        expected[:, :10] = expected[5, 16] = False
        assert np.array_equal(np.isfinite(dataset.read(1)), expected)
        assert np.array_equal(dataset.read_masks(1) > 0, expected)


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("int16", -32768), ("uint8", 255), ("float32", -9999), ("float32", "nan")]
)
def test_the_nodata_value_of_the_image_is_kept(
    make_raster: Make, rng: np.random.Generator, dtype: str, nodata: float | str
) -> None:
    value = float(nodata)
    image = rng.integers(1, 100, (60, 70)).astype(dtype)
    image[20:30, 20:30] = value
    with rasterio.open(warp(make_raster(image, nodata=value), TILTED)) as dataset:
        assert dataset.nodata == value or math.isnan(value)
        data = dataset.read(1)
        valid = dataset.read_masks(1) > 0
        missing = np.isnan(data) if math.isnan(value) else data == value
        assert np.array_equal(~valid, missing)
        assert -30 < data[valid].min() <= data[valid].max() < 130
        assert MaskFlags.nodata in dataset.mask_flag_enums[0]


def test_the_configured_nodata_value_wins(make_raster: Make, rng: np.random.Generator) -> None:
    moving = make_raster(rng.integers(10, 20, (60, 70), dtype=np.int16), nodata=-1)
    with rasterio.open(warp(moving, shift(10, 0), nodata=-999)) as dataset:
        assert dataset.nodata == -999
        assert (dataset.read(1)[:, :10] == -999).all()


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 0), ("uint8", 255), ("uint8", 9), ("float32", 0), ("float32", 9)]
)
def test_data_never_take_the_value_of_nodata(make_raster: Make, dtype: str, nodata: int) -> None:
    """An interpolated value that happens to be the nodata value is moved to the next one."""
    image = np.tile(np.array([0, 9, 255], dtype).repeat(20), (60, 1))
    with rasterio.open(warp(make_raster(image), np.eye(3), nodata=nodata)) as dataset:
        data = dataset.read(1)
        assert dataset.read_masks(1).all()
        assert np.abs(data.astype(float) - image).max() <= 1


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", -1), ("uint8", 256), ("int16", math.nan), ("int16", 0.5)])
def test_a_nodata_value_that_does_not_fit_is_refused(make_raster: Make, dtype: str, nodata: float) -> None:
    moving = make_raster(np.ones((30, 30), dtype))
    with pytest.raises(UsageError, match=f"does not fit {dtype}"):
        warp(moving, np.eye(3), nodata=nodata)
    assert files_of(moving) == ["image.tif"]


def test_alpha_is_warped_and_needs_no_other_mask(make_raster: Make, rng: np.random.Generator) -> None:
    image = rng.integers(50, 90, (4, 60, 70), dtype=np.uint8)
    image[3] = 255
    image[:, 20:40, 20:40] = 0
    output = warp(make_raster(image, photometric="RGB", alpha="YES"), TILTED)
    with rasterio.open(output) as dataset:
        opaque = dataset.read(4)
        assert dataset.nodata is None
        assert MaskFlags.alpha in dataset.mask_flag_enums[0]
        assert set(np.unique(opaque)) == {0, 255}
        assert dataset.read(1)[opaque > 0].min() > 40
        assert (dataset.read(1)[opaque == 0] == 0).all()


def test_a_mask_is_warped(make_raster: Make, rng: np.random.Generator) -> None:
    known = np.ones((60, 70), bool)
    known[20:40, 20:40] = False
    image = np.where(known, 100, 0).astype(np.uint8)
    with rasterio.open(warp(make_raster(image, mask=known), TILTED)) as dataset:
        valid = dataset.read_masks(1) > 0
        assert set(np.unique(dataset.read(1)[valid])) == {100}
        assert np.array_equal(valid, warp_array(image, TILTED, (60, 70), valid=known)[1])


# Errors


def test_an_existing_output_is_kept_unless_told(make_raster: Make, rng: np.random.Generator) -> None:
    moving = make_raster(noise(rng, "uint8"))
    output = moving.with_name("aligned.tif")
    output.write_text("precious")
    with pytest.raises(OutputExistsError):
        warp_to_file(moving, np.eye(3), Grid(70, 60), output)
    assert output.read_text() == "precious"
    warp_to_file(moving, np.eye(3), Grid(70, 60), output, overwrite=True)
    assert open_info(output).count == 1


def test_the_image_is_never_written_over(make_raster: Make, rng: np.random.Generator) -> None:
    moving = make_raster(noise(rng, "uint8"))
    before = moving.read_bytes()
    with pytest.raises(UsageError, match="is the input"):
        warp_to_file(moving, np.eye(3), Grid(70, 60), moving, overwrite=True)
    assert moving.read_bytes() == before


def test_a_damaged_image_leaves_no_output(make_raster: Make, rng: np.random.Generator) -> None:
    moving = make_raster(rng.integers(0, 255, (400, 400), dtype=np.uint8))
    moving.write_bytes(moving.read_bytes()[:90_000])
    with pytest.raises(InputError, match="cannot read"):
        warp(moving, np.eye(3), Grid(400, 400))
    assert files_of(moving) == ["image.tif"]


@pytest.mark.parametrize("size", [0, 8, 100])
def test_blocks_are_multiples_of_a_tiff_tile(make_raster: Make, rng: np.random.Generator, size: int) -> None:
    with pytest.raises(UsageError, match="multiple of 16"):
        warp(make_raster(noise(rng, "uint8")), np.eye(3), block_size=size)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from rrl_register.errors import InputError
from rrl_register.raster.grid import Grid
from rrl_register.warping import warp_to_file

moving, limit = Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    warp_to_file(moving, np.eye(3), Grid(300, 300), moving.with_name("aligned.tif"))
except InputError as error:
    sys.exit(3 if "cannot write" in str(error) else 1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes cannot be limited")
@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_full_disk_is_an_error_and_leaves_nothing(make_raster: Make, rng: np.random.Generator, share: float) -> None:
    """GDAL writes the last tiles when the file is closed, and reports to nobody if that fails."""
    moving = make_raster(rng.integers(0, 255, (300, 300), dtype=np.uint8))
    limit = round(share * 300 * 300)
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(moving), str(limit)], capture_output=True, check=False)
    assert done.returncode == 3, done.stderr.decode()
    assert files_of(moving) == ["image.tif"]


@pytest.mark.shared_data
def test_a_real_scene_is_kept_by_the_identity(shared_data: Path, tmp_path: Path) -> None:
    moving = shared_data / "dev" / "geo_small" / "609U_541L_3_0_moving.tif"
    output = tmp_path / "aligned.tif"
    warp_to_file(moving, np.eye(3), open_info(moving).grid, output)
    assert np.array_equal(read(output), read(moving))
    assert open_info(output).grid == open_info(moving).grid

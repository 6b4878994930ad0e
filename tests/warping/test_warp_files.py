"""Warping files: what is written, and what is kept of the bands."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags

from rrl_register.config import Resampling, WarpConfig
from rrl_register.errors import UsageError
from rrl_register.geometry.displacement import Displacement
from rrl_register.raster.grid import Grid
from rrl_register.raster.reader import open_info
from rrl_register.warping import inverse_map
from rrl_register.warping import warp as warping
from rrl_register.warping.warp import warp_array, warp_to_file
from warp_inputs import COMPLEX, DTYPES, METHODS, TILTED, noise, shift

Make = Callable[..., Path]


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


def warp(
    moving: Path,
    matrix: np.ndarray,
    grid: Grid | None = None,
    displacement: Displacement | None = None,
    **settings: Any,
) -> Path:
    output, config = moving.with_name("aligned.tif"), WarpConfig(**settings)
    warp_to_file(moving, matrix, grid or open_info(moving).grid, output, config, True, displacement)
    return output


def bend(scale: float) -> Displacement:
    """A quadratic displacement of up to about 5 px of a grid of ``scale`` times 310 x 330 px."""
    hull = np.array([(20.0, 10.0), (300.0, 30.0), (280.0, 300.0), (10.0, 280.0)])
    coefficients = np.array([(1, 0), (2, -1), (0, 1), (-2, 0.5), (1, 1), (0.3, 2)])
    nothing = np.empty((0, 2))
    return Displacement(2, coefficients, nothing, nothing, np.full(2, 155.0), 150.0, hull).reduced(1 / scale)


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
@pytest.mark.parametrize("displaced", [False, True])
def test_blocks_do_not_show(
    make_raster: Make,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    resampling: Resampling,
    scale: float,
    displaced: bool,
) -> None:
    image = rng.integers(1, 60_000, (2, 300, 340), dtype=np.uint16)
    image[:, 100:140, 50:200] = 0
    moving = make_raster(image, nodata=0, tiled=True, blockxsize=64, blockysize=64)
    matrix = np.diag([scale, scale, 1]) @ TILTED
    grid = Grid(round(330 * scale), round(310 * scale))
    displacement = bend(scale) if displaced else None
    whole = read(warp(moving, matrix, grid, displacement, resampling=resampling, block_size=512))
    assert np.array_equal(read(warp(moving, matrix, grid, displacement, resampling=resampling, block_size=48)), whole)
    monkeypatch.setattr(inverse_map, "_MAX_WINDOW_PX", 2000)
    assert np.array_equal(read(warp(moving, matrix, grid, displacement, resampling=resampling, block_size=128)), whole)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex64"])
@pytest.mark.parametrize("how", ["plain", "mask", "nodata", "displaced", "reduced"])
def test_neither_threads_nor_blocks_show(make_raster: Make, rng: np.random.Generator, dtype: str, how: str) -> None:
    image = noise(rng, dtype, (2, 200, 220))
    if dtype == "float32":
        image[:, 50:60, 70:90] = np.nan
    known = rng.random((200, 220)) > 0.1 if how == "mask" else None
    moving = make_raster(image, mask=known, nodata=7 if how == "nodata" else None)
    scale = 0.21 if how == "reduced" else 1.0
    matrix, grid = np.diag([scale, scale, 1]) @ TILTED, Grid(round(210 * scale), round(190 * scale))
    displacement = bend(1.0) if how == "displaced" else None

    def pixels(**settings: Any) -> bytes:
        with rasterio.open(warp(moving, matrix, grid, displacement, **settings)) as dataset:
            return bytes(dataset.read().tobytes() + dataset.dataset_mask().tobytes())

    whole = pixels(block_size=512, threads=1)
    assert pixels(block_size=32, threads=3) == whole
    assert pixels(block_size=48, threads=1) == whole


def test_no_thread_works_on_after_an_error(
    make_raster: Make, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving = make_raster(noise(rng, "uint8", (200, 220)))

    def fail(results: Any, key: object) -> None:
        next(results)
        raise ZeroDivisionError

    monkeypatch.setattr(warping, "groupby", fail)
    with pytest.raises(ZeroDivisionError):
        warp(moving, TILTED, block_size=16, threads=3)
    assert not any(thread.name.startswith("rrl-ordered") for thread in threading.enumerate())
    assert files_of(moving) == ["image.tif"]


def test_bands_that_are_too_many_at_once_share_a_mask(
    make_raster: Make, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = rng.random((7, 60, 70)).astype(np.float32)
    image[2, 5, 6] = image[6, 50, 40] = np.nan
    moving = make_raster(image)
    with rasterio.open(warp(moving, TILTED)) as dataset:
        pixels, mask = dataset.read(), dataset.dataset_mask()
    monkeypatch.setattr(warping, "_PIECE_BYTES", 3 * 32 * 32 * 4)
    with rasterio.open(warp(moving, TILTED, block_size=32)) as dataset:
        assert dataset.read().tobytes() == pixels.tobytes()
        assert np.array_equal(dataset.dataset_mask(), mask)
    assert 0 < np.count_nonzero(mask == 0) < mask.size


@pytest.mark.parametrize("shape", [(20, 40_000), (40_000, 20)])
def test_sides_of_more_pixels_than_a_short_integer_counts(
    make_raster: Make, rng: np.random.Generator, shape: tuple[int, int]
) -> None:
    image = rng.integers(1, 255, shape, dtype=np.uint8)
    moving = make_raster(image, nodata=0)
    pixels = read(warp(moving, shift(3, 2)))[0]
    assert np.array_equal(pixels[2:, 3:], image[:-2, :-3])


def test_a_file_is_warped_as_an_array_is(make_raster: Make, rng: np.random.Generator) -> None:
    image = noise(rng, "float32", (2, 90, 80))
    with rasterio.open(warp(make_raster(image), TILTED, Grid(75, 85))) as dataset:
        expected, valid = warp_array(image, TILTED, (85, 75))
        assert np.array_equal(dataset.dataset_mask() > 0, valid)
        assert np.array_equal(dataset.read()[:, valid], expected[:, valid])
    with rasterio.open(warp(make_raster(image), TILTED, Grid(75, 85), bend(0.25))) as dataset:
        displaced, valid = warp_array(image, TILTED, (85, 75), displacement=bend(0.25))
        assert np.array_equal(dataset.read()[:, valid], displaced[:, valid])
    assert not np.array_equal(displaced, expected)


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


@pytest.mark.parametrize("size", [0, 8, 100])
def test_blocks_are_multiples_of_a_tiff_tile(make_raster: Make, rng: np.random.Generator, size: int) -> None:
    with pytest.raises(UsageError, match="multiple of 16"):
        warp(make_raster(noise(rng, "uint8")), np.eye(3), block_size=size)


@pytest.mark.shared_data
def test_a_real_scene_is_kept_by_the_identity(shared_data: Path, tmp_path: Path) -> None:
    moving = shared_data / "dev" / "geo_small" / "609U_541L_3_0_moving.tif"
    output = tmp_path / "aligned.tif"
    warp_to_file(moving, np.eye(3), open_info(moving).grid, output)
    assert np.array_equal(read(output), read(moving))
    assert open_info(output).grid == open_info(moving).grid

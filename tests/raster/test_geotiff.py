"""The GeoTIFF that is written: nodata, creation options and inherited metadata."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from rrl_register.config import RasterFormat, WarpConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.raster.geotiff import (
    NodataPolicy,
    choose_nodata,
    cog_options,
    create,
    create_profile,
    fits,
    inherited_nodata,
    storage_options,
)
from rrl_register.raster.grid import Grid

Make = Callable[..., Path]

IMAGE = np.arange(1, 3001, dtype=np.uint16).reshape(50, 60)
INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


@given(value=st.integers(-(2**64), 2**64), dtype=st.sampled_from(INTEGERS))
def test_an_integer_fits_if_the_type_holds_it(value: int, dtype: str) -> None:
    limits = np.iinfo(dtype)
    exact = int(float(value))  # nodata values are floats
    assert fits(float(value), dtype) == (limits.min <= exact <= limits.max)


@pytest.mark.parametrize(
    ("value", "dtype", "fitting"),
    [
        (0.5, "int16", False),
        (math.nan, "int16", False),
        (math.inf, "uint8", False),
        (math.nan, "float32", True),
        (math.inf, "float32", True),
        (1e300, "float32", False),
        (1e300, "float64", True),
        (1e300, "complex64", False),
        (1e300, "complex128", True),
    ],
)
def test_what_fits_floats_and_what_only_floats_hold(value: float, dtype: str, fitting: bool) -> None:
    assert fits(value, dtype) == fitting


@pytest.mark.parametrize(
    ("content", "config", "expected"),
    [
        ({}, {}, NodataPolicy(0, declared=False, mask=True)),
        ({"nodata": 7}, {}, NodataPolicy(7, declared=True, mask=False)),
        ({"nodata": 7}, {"nodata": 9.0}, NodataPolicy(9, declared=True, mask=False)),
        ({"mask": IMAGE > 9}, {}, NodataPolicy(0, declared=False, mask=True)),
    ],
)
def test_nodata_is_configured_or_inherited_or_a_mask(
    make_raster: Make, content: dict[str, Any], config: dict[str, Any], expected: NodataPolicy
) -> None:
    with rasterio.open(make_raster(IMAGE, **content)) as source:
        assert choose_nodata(source, WarpConfig(**config)) == expected


def test_alpha_needs_no_mask_and_floats_are_nan_under_theirs(make_raster: Make) -> None:
    path = make_raster(np.stack([IMAGE, IMAGE]), colours=(ColorInterp.gray, ColorInterp.alpha))
    with rasterio.open(path) as source:
        assert choose_nodata(source, WarpConfig()) == NodataPolicy(0, declared=False, mask=False)
    with rasterio.open(make_raster(IMAGE.astype(np.float32))) as source:
        policy = choose_nodata(source, WarpConfig())
    assert math.isnan(policy.fill) and policy.mask and not policy.declared


def test_a_value_that_does_not_fit_is_refused(make_raster: Make) -> None:
    with rasterio.open(make_raster(IMAGE)) as source, pytest.raises(UsageError, match="-1 does not fit uint16"):
        choose_nodata(source, WarpConfig(nodata=-1))


def test_a_copy_marks_missing_pixels_as_its_source_does(make_raster: Make) -> None:
    expected = {
        "nothing": ({}, NodataPolicy(0, False, False)),
        "value": ({"nodata": 7}, NodataPolicy(7, True, False)),
        "mask": ({"mask": IMAGE > 9}, NodataPolicy(0, False, True)),
    }
    for content, policy in expected.values():
        with rasterio.open(make_raster(IMAGE, **content)) as source:
            assert inherited_nodata(source) == policy


@pytest.mark.parametrize(
    ("dtype", "gtiff", "cog"), [("uint8", "2", "YES"), ("float32", "3", "YES"), ("complex64", "1", "NO")]
)
def test_predictors_fit_the_pixel_type(dtype: str, gtiff: str, cog: str) -> None:
    assert storage_options(1, dtype, WarpConfig())["PREDICTOR"] == gtiff
    assert cog_options(dtype, WarpConfig())["PREDICTOR"] == cog


@pytest.mark.parametrize(
    ("option", "predictor"), [(("compress", "LZMA"), None), (("COMPRESS", "zstd"), "2"), (("PREDICTOR", "1"), "1")]
)
def test_configured_options_replace_the_defaults(option: tuple[str, str], predictor: str | None) -> None:
    options = storage_options(1, "uint8", WarpConfig(creation_options=(option,)))
    assert options[option[0].upper()] == option[1]
    assert options.get("PREDICTOR") == predictor


@given(blocks=st.integers(1, 200), count=st.integers(1, 300))
def test_blocks_hold_whole_tiles_and_many_bands_lie_apart(blocks: int, count: int) -> None:
    size = 16 * blocks
    options = storage_options(count, "uint8", WarpConfig(block_size=size))
    tile = int(options["BLOCKXSIZE"])
    assert size % tile == 0 and tile % 16 == 0 and tile <= 512
    assert options["INTERLEAVE"] == ("PIXEL" if count <= 4 else "BAND")


def test_a_file_that_becomes_a_cog_is_stored_quickly_with_options_of_its_own(make_raster: Make) -> None:
    config = WarpConfig(format=RasterFormat.COG, creation_options=(("COMPRESS", "ZSTD"),))
    with rasterio.open(make_raster(IMAGE)) as source:
        profile = create_profile(source, Grid(60, 50), NodataPolicy(0, False, True), config)
    assert (profile["COMPRESS"], profile["ZLEVEL"]) == ("DEFLATE", "1")
    assert cog_options("uint16", config)["COMPRESS"] == "ZSTD"


def test_bands_of_several_types_are_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "a.tif", tmp_path / "b.tif"
    for path, dtype in ((one, "uint8"), (other, "float32")):
        with rasterio.open(path, "w", driver="GTiff", width=9, height=9, count=1, dtype=dtype) as target:
            target.write(np.ones((1, 9, 9), dtype))
    bands = "".join(
        f'<VRTRasterBand dataType="{dtype}" band="{band}"><SimpleSource><SourceFilename>{path}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for band, (path, dtype) in enumerate(((one, "Byte"), (other, "Float32")), 1)
    )
    (tmp_path / "both.vrt").write_text(f'<VRTDataset rasterXSize="9" rasterYSize="9">{bands}</VRTDataset>')
    with rasterio.open(tmp_path / "both.vrt") as source, pytest.raises(InputError, match="types float32, uint8"):
        create_profile(source, Grid(9, 9), NodataPolicy(0, False, True), WarpConfig())


def test_a_file_says_about_its_bands_what_its_source_says(make_raster: Make, tmp_path: Path) -> None:
    source_path = make_raster(
        np.stack([IMAGE, IMAGE]),
        names=("first", "second"),
        tags={"SENSOR": "one", "AREA_OR_POINT": "Point"},
        band_tags={"WAVELENGTH": "842", "STATISTICS_MEAN": "3"},
        photometric="MINISBLACK",
    )
    grid = Grid(60, 50, CRS.from_epsg(32632), Affine(10, 0, 5e5, 0, -10, 4e6))
    output = tmp_path / "out.tif"
    with rasterio.open(source_path) as source:
        profile = create_profile(source, grid, NodataPolicy(0, True, False), WarpConfig())
        with create(output, output, profile, source) as target:
            target.write(source.read())
    with rasterio.open(output) as dataset:
        assert (dataset.crs, dataset.transform, dataset.nodata) == (grid.crs, grid.transform, 0)
        assert dataset.descriptions == ("first", "second")
        assert dataset.tags()["SENSOR"] == "one"
        assert dataset.tags()["AREA_OR_POINT"] == "Area"
        assert dataset.tags(1) == {"WAVELENGTH": "842"}
        assert np.array_equal(dataset.read(1), IMAGE)

"""Copies of an image with tie points as ground control points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.transform import from_gcps

from rrl_register.config import Crop, OutputGrid, RasterFormat, WarpConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.exchange.registration import apply_transform
from rrl_register.raster.grid import Grid
from rrl_register.warping.apply import copy_with_gcps, ground_control_points, require_writable_grid

Make = Callable[..., Path]

UTM = CRS.from_epsg(32632)
FIXED = Grid(200, 200, UTM, Affine.translation(5e5, 4e6) * Affine.scale(10, -10))
POINTS = np.array([(0.0, 0.0), (10.5, 20.25), (60.0, 3.0), (5.0, 50.0)])
ON_FIXED = POINTS * 2 + 0.5


def copy(image: Path, **settings: Any) -> Path:
    output = image.with_name("copy.tif")
    copy_with_gcps(image, POINTS, ON_FIXED, FIXED, output, WarpConfig(gcps_only=True, **settings), overwrite=True)
    return output


def test_gdal_counts_pixels_from_the_corner() -> None:
    points = ground_control_points(np.array([(0.0, 2.0)]), np.array([(7.0, 8.0)]))
    assert [(p.col, p.row, p.x, p.y) for p in points] == [(0.5, 2.5, 7, 8)]


@pytest.mark.parametrize("form", list(RasterFormat))
def test_pixels_are_copied_and_points_lie_on_the_fixed_ground(
    make_raster: Make, rng: np.random.Generator, form: RasterFormat
) -> None:
    pixels = rng.integers(0, 4000, (5, 60, 70), dtype=np.uint16)
    elsewhere = {"crs": CRS.from_epsg(4326), "transform": Affine.scale(0.1)}
    image = make_raster(pixels, names=("a", "b", "c", "d", "e"), tags={"SENSOR": "one"}, **elsewhere)
    with rasterio.open(copy(image, format=form)) as dataset:
        points, crs = dataset.gcps
        assert np.array_equal(dataset.read(), pixels)
        assert dataset.descriptions == ("a", "b", "c", "d", "e")
        assert dataset.tags()["SENSOR"] == "one"
        assert dataset.crs is None
    assert crs == UTM
    assert np.allclose([(p.col, p.row) for p in points], POINTS + 0.5)
    assert np.allclose([(p.x, p.y) for p in points], FIXED.pixel_to_map(ON_FIXED))
    # A pixel is 20 m wide, and the corner of the first one lies a half of it before its centre.
    assert from_gcps(points).almost_equals(Affine(20, 0, 5e5, 0, -20, 4e6), precision=1e-3)
    assert sorted(path.name for path in image.parent.iterdir()) == ["copy.tif", "image.tif"]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float64", "complex64", "complex_int16"])
def test_any_pixel_type_is_copied(make_raster: Make, rng: np.random.Generator, dtype: str) -> None:
    image = make_raster(
        rng.integers(0, 100, (60, 70)).astype("complex64" if "complex" in dtype else dtype), dtype=dtype
    )
    with rasterio.open(copy(image, block_size=16)) as dataset, rasterio.open(image) as source:
        assert dataset.dtypes == (dtype,)
        assert dataset.read().tobytes() == source.read().tobytes()


def test_nodata_masks_alpha_and_palettes_are_copied(make_raster: Make, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 9, (60, 70), dtype=np.uint8)
    with rasterio.open(copy(make_raster(pixels, nodata=3))) as dataset:
        assert (dataset.nodata, dataset.mask_flag_enums) == (3, ([MaskFlags.nodata],))
    mask = pixels > 4
    with rasterio.open(copy(make_raster(pixels, mask=mask))) as dataset:
        assert np.array_equal(dataset.read(1), pixels)
        assert np.array_equal(dataset.read_masks(1) > 0, mask)
    with rasterio.open(
        copy(make_raster(np.stack([pixels] * 3 + [255 * mask]), photometric="RGB", alpha="YES"))
    ) as dataset:
        assert dataset.colorinterp[3] is ColorInterp.alpha
    with rasterio.open(copy(make_raster(pixels))) as dataset:
        assert dataset.mask_flag_enums == ([MaskFlags.all_valid],)
    image = make_raster(pixels)
    with rasterio.open(image, "r+") as dataset:
        dataset.write_colormap(1, {index: (index, 0, 0, 255) for index in range(256)})
    with rasterio.open(copy(image)) as dataset:
        assert dataset.colormap(1)[8] == (8, 0, 0, 255)


def test_the_inliers_of_a_registration_are_the_points(make_raster: Make, make_registration: Callable[..., Any]) -> None:
    """On an image of half the resolution of the one that was registered."""
    image = make_raster(np.ones((100, 100), np.uint8))
    registration = make_registration(fixed_grid=FIXED)
    output = image.with_name("copy.tif")
    apply_transform(registration, image, output, WarpConfig(gcps_only=True))
    with rasterio.open(output) as dataset:
        points, _ = dataset.gcps
    inliers = registration.tie_points.moving[:3]
    assert np.allclose([(p.col, p.row) for p in points], (inliers + 0.5) / 2)
    assert np.allclose([(p.x, p.y) for p in points], FIXED.pixel_to_map(inliers))


@pytest.mark.parametrize("setting", [{"grid": OutputGrid.MOVING}, {"crop": Crop.OVERLAP}, {"nodata": 0.0}])
def test_what_needs_resampling_does_not_go_with_a_copy(make_raster: Make, setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="has no effect with --gcps-only"):
        copy(make_raster(np.ones((60, 70), np.uint8)), **setting)


def test_points_need_ground(make_raster: Make) -> None:
    image = make_raster(np.ones((60, 70), np.uint8))
    with pytest.raises(InputError, match="fixed image has no georeference"):
        copy_with_gcps(image, POINTS, ON_FIXED, Grid(70, 60), image.with_name("copy.tif"))
    with pytest.raises(InputError, match="fixed image has no georeference"):
        require_writable_grid(image, WarpConfig(gcps_only=True))
    require_writable_grid(image.with_name("nowhere.tif"), WarpConfig())

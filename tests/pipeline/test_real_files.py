"""Files as they are delivered: bands, masks and georeferences of many kinds lead to the same, known transform.

The fixed image is the sample's, the moving one is a known warp of the infrared band of the same ground.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.warp import Resampling, calculate_default_transform, reproject
from rasterio.warp import transform as carry

from rrl_register.config import ReadConfig, RegisterConfig
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.transforms import project
from rrl_register.nn.inference.load import load_scorer
from rrl_register.pipeline.dry_run import plan_image
from rrl_register.pipeline.register import register
from rrl_register.warping.warp import warp_array

Make = Callable[..., Path]
SHAPE = (403, 515)
NO_ALPHA = RegisterConfig(read=ReadConfig(no_alpha=True))
RGBA = {"photometric": "RGB", "alpha": "YES"}

Misses = Callable[..., float]


@pytest.fixture(scope="module")
def truth(truth_of: Callable[[str], np.ndarray]) -> np.ndarray:
    return truth_of("rgb_nir")


@pytest.fixture(scope="module")
def rgb(samples: Path) -> np.ndarray:
    with rasterio.open(samples / "rgb_nir_fixed.tif") as dataset:
        return dataset.read()


@pytest.fixture(scope="module")
def moving(samples: Path) -> Path:
    return samples / "rgb_nir_moving.tif"


@pytest.fixture(scope="module")
def georeference(samples: Path) -> dict[str, Any]:
    with rasterio.open(samples / "rgb_nir_fixed.tif") as dataset:
        return {"crs": dataset.crs, "transform": dataset.transform}


@pytest.fixture(scope="module")
def infrared(moving: Path, truth: np.ndarray) -> np.ndarray:
    """The infrared band on the fixed image's pixels."""
    with rasterio.open(moving) as dataset:
        return warp_array(dataset.read(), truth, SHAPE)[0][0]


def error(found: Registration, truth: np.ndarray) -> float:
    """Mean distance of moving pixels' places from the true ones, where these lie on the fixed image, px."""
    assert found.status == "ok", found.reason
    x, y = (np.linspace(0.05, 0.95, 12) * side for side in found.fixed_grid.shape[::-1])
    fixed = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    moving = project(np.linalg.inv(truth), fixed)
    return float(np.hypot(*(project(found.matrix, moving) - fixed).T).mean())


@pytest.fixture(scope="module")
def misses(truth: np.ndarray, moving: Path) -> Misses:
    """Registers the sample's moving image, or another, and returns the error."""
    scorer = load_scorer(None, "cpu")

    def run(
        fixed: Path, other: Path | None = None, true: np.ndarray | None = None, config: RegisterConfig | None = None
    ) -> float:
        return error(register(fixed, other or moving, config, scorer=scorer), truth if true is None else true)

    return run


def test_infrared_that_is_tagged_as_alpha_is_a_band(
    make_raster: Make, rgb: np.ndarray, infrared: np.ndarray, misses: Misses, georeference: dict[str, Any]
) -> None:
    path = make_raster(np.concatenate([rgb, infrared[None]]), **RGBA, **georeference)
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3] is ColorInterp.alpha  # GDAL's default of four bands
    plan = plan_image(path, RegisterConfig())
    assert (plan.info.untagged, plan.bands) == ((4,), (1, 2, 3, 4))
    for read in (ReadConfig(), ReadConfig(fixed_bands=(1, 2, 3)), ReadConfig(no_alpha=True)):
        assert misses(path, config=RegisterConfig(read=read)) < 0.5


def test_a_user_settles_what_alpha_holds(
    make_raster: Make, rgb: np.ndarray, misses: Misses, georeference: dict[str, Any]
) -> None:
    """A measurement that looks like a mask, such as a classification, hides all of the image but a part."""
    few = np.full(SHAPE, 0, np.uint8)
    few[:40] = 255
    path = make_raster(np.concatenate([rgb, few[None]]), **RGBA, **georeference)
    assert plan_image(path, RegisterConfig()).valid_share < 0.2
    assert misses(path, config=NO_ALPHA) < 0.5


@pytest.mark.parametrize("dead", ["nodata", "nan", "zero", "constant"])
def test_a_dead_band_is_left_out(
    make_raster: Make,
    rgb: np.ndarray,
    moving: Path,
    truth: np.ndarray,
    misses: Misses,
    georeference: dict[str, Any],
    dead: str,
) -> None:
    value = {"nodata": -1, "nan": np.nan, "zero": 0, "constant": 7}[dead]
    bands = rgb.astype(np.float32)
    bands = np.stack([bands[0], np.full(SHAPE, value, np.float32), bands[2]])
    path = make_raster(bands, photometric="MINISBLACK", nodata=-1 if dead == "nodata" else None, **georeference)
    plan = plan_image(path, RegisterConfig())
    assert (plan.bands, plan.without_content) == ((1, 3), (2,))
    assert misses(path) < 0.5
    back = register(moving, path)
    assert error(back, np.linalg.inv(truth)) < 0.5
    output = back.apply(path, path.with_name("warped.tif"))
    with rasterio.open(output) as dataset:
        known = dataset.read_masks(1) > 0
        assert dataset.count == 3
        assert known.mean() > 0.8
        assert np.allclose(dataset.read(2)[known], value, equal_nan=True)


def stretched(x: float, y: float) -> np.ndarray:
    """Pixel -> pixel x and y times as wide."""
    return np.array([[1 / x, 0, 0.5 / x - 0.5], [0, 1 / y, 0.5 / y - 0.5], [0, 0, 1]])


@pytest.mark.parametrize(("x", "y"), [(1.7, 1), (1, 1.7), (2, 1), (1, 2), (4, 1)])
def test_rectangular_pixels_are_what_the_geotransform_declares(
    make_raster: Make,
    samples: Path,
    moving: Path,
    truth: np.ndarray,
    misses: Misses,
    georeference: dict[str, Any],
    x: float,
    y: float,
) -> None:
    with rasterio.open(moving) as dataset:
        image, valid = warp_array(dataset.read(), stretched(x, y), (round(SHAPE[0] / y), round(SHAPE[1] / x)))
    place = {"crs": georeference["crs"], "transform": georeference["transform"] * Affine.scale(x, y)}
    path = make_raster(image * valid, nodata=0, **place)
    limit = 0.5 * max(1, x / 2, y / 2)
    assert misses(samples / "rgb_nir_fixed.tif", path, truth @ np.linalg.inv(stretched(x, y))) < limit


def test_degrees_in_the_north_are_rectangular(
    make_raster: Make, rgb: np.ndarray, moving: Path, truth: np.ndarray
) -> None:
    utm, place = CRS.from_epsg(32633), Affine(5, 0, 400_000, 0, -5, 6_653_000)
    fixed = make_raster(rgb, "fixed.tif", crs=utm, transform=place)
    with rasterio.open(moving) as dataset:
        image = dataset.read(1)
    bounds = (400_000, 6_653_000 - 5 * SHAPE[0], 400_000 + 5 * SHAPE[1], 6_653_000)
    degrees, width, height = calculate_default_transform(utm, "EPSG:4326", SHAPE[1], SHAPE[0], *bounds)
    carried = np.zeros((height, width), np.uint8)
    reproject(
        image,
        carried,
        src_transform=place,
        src_crs=utm,
        dst_transform=degrees,
        dst_crs="EPSG:4326",
        resampling=Resampling.cubic,
        src_nodata=0,
        dst_nodata=0,
    )
    found = register(fixed, make_raster(carried, "moving.tif", nodata=0, crs="EPSG:4326", transform=degrees))
    x, y = (np.linspace(0.05, 0.95, 9) * side for side in SHAPE[::-1])
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    pixels = project(np.linalg.inv(truth), points) + 0.5
    longitude, latitude = carry(utm, "EPSG:4326", *(place * pixels.T))
    there = np.column_stack(~degrees * (np.array(longitude), np.array(latitude))) - 0.5
    assert found.status == "ok", found.reason
    assert np.hypot(*(project(found.matrix, there) - points).T).mean() < 0.5


MIRRORS = {
    "ascending": (np.array([[1.0, 0, 0], [0, -1, SHAPE[0] - 1], [0, 0, 1]]), Affine(1, 0, 0, 0, -1, SHAPE[0])),
    "descending": (np.array([[-1.0, 0, SHAPE[1] - 1], [0, 1, 0], [0, 0, 1]]), Affine(-1, 0, SHAPE[1], 0, 1, 0)),
}


@pytest.mark.parametrize("by", ["geotransform", "EPSG:4326", "EPSG:3857", "few bad"])
@pytest.mark.parametrize("orbit", MIRRORS)
def test_mirrors_that_are_declared_are_no_mirrors(
    make_raster: Make,
    samples: Path,
    moving: Path,
    truth: np.ndarray,
    misses: Misses,
    georeference: dict[str, Any],
    orbit: str,
    by: str,
) -> None:
    matrix, mirror = MIRRORS[orbit]
    with rasterio.open(moving) as dataset:
        image = np.flip(dataset.read(), axis=1 if orbit == "ascending" else 2)
    place = georeference["transform"] * mirror
    if by == "geotransform":
        path = make_raster(image, nodata=0, crs=georeference["crs"], transform=place)
    else:
        path = make_raster(image, nodata=0)
        crs = CRS.from_user_input("EPSG:4326" if by == "few bad" else by)
        points = []
        for number, (row, col) in enumerate(np.ndindex(7, 7)):
            x, y = SHAPE[1] / 6 * col, SHAPE[0] / 6 * row
            east, north = place * (x, y)
            if by == "few bad" and number % 11 == 3:
                east, north = east + 4000, north - 3000
            (east,), (north,) = carry(georeference["crs"], crs, [east], [north])
            points.append(GroundControlPoint(row=y, col=x, x=east, y=north))
        with rasterio.open(path, "r+") as dataset:
            dataset.gcps = points, crs
    assert misses(samples / "rgb_nir_fixed.tif", path, truth @ np.linalg.inv(matrix)) < 0.5


def test_a_mirror_that_nothing_declares_is_refused(make_raster: Make, rgb: np.ndarray, moving: Path) -> None:
    found = register(make_raster(rgb[:, ::-1], photometric="RGB"), moving)
    assert found.status == "failed"

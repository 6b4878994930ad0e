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
from rasterio.enums import ColorInterp

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

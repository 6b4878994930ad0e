"""Arrays that are read like files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from rrl_register.config import ReadConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.pipeline import register as pipeline
from rrl_register.raster.grid import Grid
from rrl_register.raster.radiometry import recognise_kinds
from rrl_register.raster.reader import open_info, read_bands
from rrl_register.raster.sources import ImageArray, as_image, as_path

UTM = CRS.from_epsg(32633)


def georeferenced(width: int, height: int) -> Grid:
    return Grid(width, height, UTM, Affine.translation(500_000, 5_300_000) * Affine.scale(2, -2))


def test_a_path_stays_a_path(tmp_path: Path) -> None:
    with as_path(str(tmp_path / "a.tif"), "it") as path:
        assert path == tmp_path / "a.tif"


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", "complex64"])
def test_an_array_is_read_back_as_it_is(dtype: str, rng: np.random.Generator) -> None:
    values = (rng.random((2, 20, 30)) > 0.5).astype(dtype)
    with as_path(values, "it") as path, rasterio.open(path) as dataset:
        assert (dataset.read() == values).all()
        assert dataset.transform.is_identity


def test_what_goes_with_an_array_is_in_the_file(rng: np.random.Generator) -> None:
    valid = rng.random((20, 30)) > 0.3
    image = ImageArray(rng.random((2, 20, 30)) + 1, georeferenced(30, 20), valid, ("VV", "VH"))
    with as_path(image, "it") as path:
        info, read = open_info(path), read_bands(path)
    assert info.grid == image.grid
    assert info.descriptions == ("VV", "VH")
    assert (read.valid == valid).all()


def test_nothing_is_left_in_memory() -> None:
    with as_path(np.eye(9), "it") as path:
        pass
    with pytest.raises(InputError):
        open_info(path)


def test_errors_call_an_array_by_its_name() -> None:
    with (
        pytest.raises(InputError, match=r"^the fixed array has no valid pixel"),
        as_path(np.full((9, 9), np.nan), "the fixed array") as path,
    ):
        read_bands(path)


def test_arrays_and_files_are_read_alike(make_raster: Callable[..., Path], rng: np.random.Generator) -> None:
    fixed, moving = rng.integers(1, 255, (3, 120, 110), np.uint8), rng.random((90, 100), np.float32) + 1
    files = make_raster(fixed, "fixed.tif"), make_raster(moving, "moving.tif")
    with as_path(fixed, "fixed") as one, as_path(moving, "moving") as other:
        for array, file in zip((one, other), files, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(read_bands(array), read_bands(file), strict=True))
            assert open_info(array).grid == open_info(file).grid
        assert recognise_kinds(one, other, ReadConfig()) == recognise_kinds(*files, ReadConfig())


def test_register_takes_arrays(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    seen: list[np.ndarray] = []

    def search(fixed: Path, moving: Path, *settings: object) -> None:
        seen.extend(read_bands(path).values for path in (fixed, moving))
        raise InputError(f"{moving} is nothing")

    monkeypatch.setattr(pipeline, "search", search)
    fixed, moving = rng.random((50, 60)) + 1, rng.random((2, 50, 60)) + 1
    with pytest.raises(InputError, match=r"^the moving array is nothing"):
        pipeline.register(fixed, ImageArray(moving))
    assert np.allclose(seen[0][0], fixed) and np.allclose(seen[1], moving)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros(5), "has to hold numbers"),
        (np.zeros((2, 5, 0)), "has to hold numbers"),
        (np.array([["a"]]), "has to hold numbers"),
        (np.zeros((64, 64, 3)), "bands come first"),
        ([[1, 2], [3, 4]], "type list"),
        (None, "type NoneType"),
    ],
)
def test_what_is_no_image_is_refused(image: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        as_image(image)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"grid": Grid(8, 9)}, ".rows, columns. have to agree"),
        ({"valid": np.ones((9, 8), bool)}, "bool .* is needed"),
        ({"valid": np.ones((8, 9))}, "bool .* is needed"),
        ({"names": ("a",)}, "1 names for 2 bands"),
    ],
)
def test_what_does_not_fit_an_array_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ImageArray(np.zeros((2, 8, 9)), **fields)  # type: ignore[arg-type]


def test_the_mask_leaves_out_what_is_not_finite() -> None:
    values, valid = np.ones((2, 3, 3)), np.ones((3, 3), bool)
    values[1, 0, 0], valid[2, 2] = np.nan, False
    assert ImageArray(values, valid=valid).mask.sum() == 7
    assert ImageArray(values).mask.sum() == 8

"""The xarray accessor: coordinates, nodata, and that arrays of dask stay lazy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

xr = pytest.importorskip("xarray", reason="needs the extra xarray")
rioxarray = pytest.importorskip("rioxarray", reason="needs the extra xarray")
da = pytest.importorskip("dask.array", reason="needs the extra xarray")

from affine import Affine  # noqa: E402
from rasterio.crs import CRS  # noqa: E402

import rrl_register.xarray as module  # noqa: E402
from rrl_register.config import ReadConfig, RegisterConfig  # noqa: E402
from rrl_register.errors import NotRegisteredError, UsageError  # noqa: E402
from rrl_register.exchange.registration import Registration  # noqa: E402
from rrl_register.geometry.displacement import Displacement  # noqa: E402
from rrl_register.geometry.transforms import project  # noqa: E402
from rrl_register.raster.grid import Grid  # noqa: E402
from rrl_register.raster.sources import ImageArray  # noqa: E402
from rrl_register.warping.warp import warp_array  # noqa: E402

Build = Callable[..., Registration]

UTM = CRS.from_epsg(32633)
MATRIX = np.array([[1.01, 0.02, 4.3], [-0.02, 0.99, -2.6], [1e-5, -1e-5, 1.0]])


def georeferenced(values: Any, gsd: float = 2.0, dims: tuple[str, ...] = ("band", "y", "x"), **attrs: Any) -> Any:
    height, width = values.shape[-2:]
    coords = {"x": 5e5 + gsd * (np.arange(width) + 0.5), "y": 5.3e6 - gsd * (np.arange(height) + 0.5)}
    dims = dims[-values.ndim :]
    array = xr.DataArray(values, coords, dims, name="radar", attrs=attrs)
    return array.rio.write_crs(UTM)


@pytest.fixture
def reference() -> Any:
    return georeferenced(np.zeros((3, 90, 110), np.uint8))


@pytest.fixture
def moving(rng: np.random.Generator) -> np.ndarray:
    return (rng.random((2, 100, 95)) * 100 + 1).astype(np.float32)


@pytest.fixture
def found(make_registration: Build) -> Registration:
    return make_registration(matrix=MATRIX, fixed_grid=Grid(110, 90), moving_grid=Grid(95, 100))


def test_the_result_lies_on_the_reference(reference: Any, moving: np.ndarray, found: Registration) -> None:
    array = georeferenced(moving, 3.0, units="dB").assign_coords(band=[1, 2])
    result = array.rrl.register_to(reference, registration=found)
    assert result.dims == ("band", "y", "x")
    assert (result.x == reference.x).all() and (result.y == reference.y).all()
    assert result.band.values.tolist() == [1, 2]
    assert (result.name, result.attrs["units"]) == ("radar", "dB")
    assert result.rio.crs == UTM
    assert result.rio.transform() == reference.rio.transform()
    values, valid = warp_array(moving, MATRIX, (90, 110))
    assert np.array_equal(result.values, np.where(valid, values, np.nan), equal_nan=True)


def test_a_band_alone_stays_alone(reference: Any, moving: np.ndarray, found: Registration) -> None:
    result = georeferenced(moving[0]).rrl.register_to(reference, registration=found)
    assert (result.dims, result.shape) == (("y", "x"), (90, 110))


def test_names_of_dimensions_are_those_of_the_reference(
    reference: Any, moving: np.ndarray, found: Registration
) -> None:
    renamed = reference.rename(x="lon", y="lat").rio.set_spatial_dims("lon", "lat")
    result = georeferenced(moving).rrl.register_to(renamed, registration=found)
    assert result.dims == ("band", "lat", "lon")


@pytest.mark.parametrize("reference_chunks", [None, {"y": 40, "x": 64}])
@pytest.mark.parametrize("displaced", [False, True])
def test_dask_gives_the_same_lazily(
    reference: Any, moving: np.ndarray, found: Registration, displaced: bool, reference_chunks: dict[str, int] | None
) -> None:
    if displaced:
        found = found.enlarged(1, 1, found.fixed_grid, found.moving_grid)
        object.__setattr__(found, "displacement", bulge())
    eager = georeferenced(moving).rrl.register_to(reference, registration=found)
    lazy_array = georeferenced(da.from_array(moving, chunks=(1, 30, 50)))
    target = reference if reference_chunks is None else reference.chunk(reference_chunks)
    lazy = lazy_array.rrl.register_to(target, registration=found)
    assert isinstance(lazy.data, da.Array)
    assert np.allclose(lazy.values, eager.values, atol=1e-4, equal_nan=True)


def test_a_chunk_reads_only_what_it_needs(reference: Any, moving: np.ndarray, found: Registration) -> None:
    read: list[tuple[int, int]] = []

    def load(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        read.append(tuple(block_info[0]["chunk-location"][1:]))
        return block

    source = da.from_array(moving, chunks=(2, 25, 25)).map_blocks(load, dtype=moving.dtype, meta=moving[:0, :0, :0])
    result = georeferenced(source).rrl.register_to(reference.chunk({"y": 30, "x": 30}), registration=found)
    assert not read
    result[:, :30, :30].compute(scheduler="synchronous")
    assert set(read) == {(row, column) for row in (0, 1) for column in (0, 1)}


def test_chunks_beside_the_moving_image_are_empty(reference: Any, moving: np.ndarray, make_registration: Build) -> None:
    far = make_registration(matrix=np.array([[1, 0, 500], [0, 1, 0], [0, 0, 1.0]]), fixed_grid=Grid(110, 90))
    result = georeferenced(da.from_array(moving)).rrl.register_to(reference, registration=far)
    assert result.isnull().all()


@pytest.mark.parametrize(
    ("dtype", "nodata", "out", "fill"),
    [("uint16", 0, "uint16", 0), ("uint16", None, "float32", np.nan), ("float32", -9999.0, "float32", -9999.0)],
)
def test_nodata_goes_in_and_comes_out(
    reference: Any, moving: np.ndarray, found: Registration, dtype: str, nodata: float | None, out: str, fill: float
) -> None:
    values = moving.astype(dtype)
    if nodata is not None:
        values[:, 40:60, 40:60] = nodata
    array = georeferenced(values)
    array = array if nodata is None else array.rio.write_nodata(nodata)
    result = array.rrl.register_to(reference, registration=found)
    assert result.dtype == out
    assert np.array_equal(result.rio.nodata, fill, equal_nan=True)
    known = values[0] != nodata
    expected = warp_array(values, MATRIX, (90, 110), valid=known)[1]
    assert (~np.equal(result[0].values, fill) & ~np.isnan(result[0].values) == expected).all()


def test_slices_know_where_they_lie(monkeypatch: pytest.MonkeyPatch, reference: Any, found: Registration) -> None:
    asked = record(monkeypatch, found)
    written = reference.rio.write_transform(reference.rio.transform())
    written[:, 10:70, 20:90].rrl.registration_to(reference)
    fixed, moving = asked[0]
    assert fixed.grid.transform == Affine(2, 0, 5e5, 0, -2, 5.3e6)
    assert moving.grid.transform == Affine(2, 0, 5e5 + 40, 0, -2, 5.3e6 - 20)
    assert moving.grid.crs == UTM


def test_arrays_without_coordinates_have_no_georeference(
    monkeypatch: pytest.MonkeyPatch, moving: np.ndarray, found: Registration
) -> None:
    asked = record(monkeypatch, found)
    array = xr.DataArray(moving, dims=("band", "y", "x"))
    result = array.rrl.register_to(xr.DataArray(np.zeros((90, 110)), dims=("y", "x")))
    assert [image.grid.georeferenced for image in asked[0]] == [False, False]
    assert result.shape == (2, 90, 110)


def test_names_of_bands_tell_the_kind(monkeypatch: pytest.MonkeyPatch, moving: np.ndarray, found: Registration) -> None:
    asked = record(monkeypatch, found)
    named, single = georeferenced(moving, long_name=("VV", "VH")), georeferenced(moving[0], long_name="VV")
    named.rrl.registration_to(single)
    assert [image.names for image in asked[0]] == [("VV",), ("VV", "VH")]


def test_large_lazy_arrays_are_reduced_before_they_are_loaded(
    monkeypatch: pytest.MonkeyPatch, found: Registration, rng: np.random.Generator
) -> None:
    asked = record(monkeypatch, found)
    values = rng.integers(1, 200, (1, 203, 330)).astype(np.uint16)
    values[0, :50, :50] = 0
    whole = georeferenced(da.from_array(values, chunks=(1, 64, 64))).rio.write_nodata(0)
    config = RegisterConfig(ReadConfig(max_side=100))
    result = whole.rrl.registration_to(georeferenced(np.zeros((1, 90, 110))), config)
    image = asked[0][1]
    assert image.values.shape == (1, 67, 110)
    assert image.values[0, 30, 60] == pytest.approx(values[0, 90:93, 180:183].mean())
    assert not image.valid[:16, :16].any() and image.valid[17:, 17:].all()
    assert image.grid.transform == Affine(6, 0, 5e5, 0, -6, 5.3e6)
    # A pixel of the whole image is found where the pixel that it was averaged into is.
    inside = np.array([3 * 20 + 1, 3 * 30 + 1, 1.0])
    reduced = np.array([20, 30, 1.0])
    one, other = result.matrix @ inside, found.matrix @ reduced
    assert np.allclose(one / one[2], other / other[2])
    assert result.moving_grid.shape == (203, 330)


def test_arrays_whose_rows_run_north_are_registered(samples: Path, truth_of: Callable[[str], np.ndarray]) -> None:
    """As in netCDF."""
    fixed, moving = (rioxarray.open_rasterio(samples / f"rgb_nir_{name}.tif") for name in ("fixed", "moving"))
    found = moving.isel(y=slice(None, None, -1)).rrl.registration_to(fixed)
    assert found.status == "ok", found.reason
    upside_down = np.array([[1.0, 0, 0], [0, -1, moving.sizes["y"] - 1], [0, 0, 1]])
    place = np.array([[60.0, 60], [450, 60], [60, 340], [450, 340]])
    missed = project(found.matrix, place) - project(truth_of("rgb_nir") @ upside_down, place)
    assert np.hypot(*missed.T).mean() < 0.5


def test_a_failure_is_an_error(reference: Any, moving: np.ndarray, make_registration: Build) -> None:
    failed = make_registration(matrix=None, status="failed", reason="too few")
    with pytest.raises(NotRegisteredError, match="too few"):
        georeferenced(moving).rrl.register_to(reference, registration=failed)


@pytest.mark.parametrize("dims", [("a", "b"), ("t", "band", "y", "x")])
def test_other_dimensions_are_refused(reference: Any, dims: tuple[str, ...], found: Registration) -> None:
    array = xr.DataArray(np.zeros((4,) * len(dims)), dims=dims)
    with pytest.raises(UsageError, match="dimensions"):
        array.rrl.register_to(reference, registration=found)


def record(monkeypatch: pytest.MonkeyPatch, answer: Registration) -> list[tuple[ImageArray, ImageArray]]:
    asked: list[tuple[ImageArray, ImageArray]] = []

    def register(fixed: ImageArray, moving: ImageArray, config: RegisterConfig, scorer: object) -> Registration:
        asked.append((fixed, moving))
        return answer

    monkeypatch.setattr(module, "register", register)
    return asked


def bulge() -> Displacement:
    coefficients = np.array([[0.5, 0.2], [1, 0], [0, 1], [0.5, 0], [0, 0.5], [0.2, 0.1]])
    hull = np.array([(0, 0), (0, 89), (109, 89), (109, 0.0)])
    return Displacement(2, coefficients, np.empty((0, 2)), np.empty((0, 2)), np.array([55.0, 45.0]), 60.0, hull)

"""How an output is stored: cloud-optimised, with overviews, wholly or not at all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rio_cogeo import cog_validate

from rrl_register.config import RasterFormat, Resampling, WarpConfig
from rrl_register.errors import UsageError, WriteError
from rrl_register.raster import geotiff as storing
from rrl_register.raster.geotiff import overview_factors
from rrl_register.raster.reader import open_info
from rrl_register.warping.warp import warp_to_file

Make = Callable[..., Path]

TILTED = np.array([[0.94, 0.12, 5.3], [-0.1, 1.05, -3.7], [1e-5, -2e-5, 1]])
SMALL_TILES = (("BLOCKSIZE", "128"),)


def warp(moving: Path, matrix: np.ndarray | None = None, **settings: Any) -> Path:
    output = moving.with_name("aligned.tif")
    warp_to_file(
        moving, TILTED if matrix is None else matrix, open_info(moving).grid, output, WarpConfig(**settings), True
    )
    return output


def files_of(path: Path) -> list[str]:
    return sorted(other.name for other in path.parent.iterdir())


def smooth(dtype: str, shape: tuple[int, ...] = (300, 340)) -> np.ndarray:
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    image = np.broadcast_to(60 + 40 * np.sin(x / 9) + 20 * np.cos(y / 7), shape)
    return (image + 1j * image.T[: shape[0]].mean() if dtype.startswith("complex") else image).astype(dtype)


def is_cog(path: Path) -> bool:
    valid, errors, _ = cog_validate(path, strict=True, quiet=True)
    assert not errors
    return bool(valid)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint64", "float32", "float64", "complex64"]
)
def test_a_cog_holds_the_pixels_of_the_geotiff(make_raster: Make, dtype: str) -> None:
    moving = make_raster(smooth(dtype), crs=CRS.from_epsg(32632), transform=Affine(10, 0, 5e5, 0, -10, 4e6))
    with rasterio.open(warp(moving)) as plain:
        pixels, mask = plain.read(), plain.dataset_mask()
    output = warp(moving, format=RasterFormat.COG, creation_options=SMALL_TILES)
    assert is_cog(output)
    with rasterio.open(output) as dataset:
        assert dataset.dtypes == (dtype,)
        assert dataset.read().tobytes() == pixels.tobytes()
        assert np.array_equal(dataset.dataset_mask(), mask)
        assert dataset.overviews(1) == [2, 4]
        assert dataset.profile["compress"] == "deflate"
    assert open_info(output).grid == open_info(moving).grid
    assert files_of(output) == ["aligned.tif", "image.tif"]


def test_a_cog_of_complex_integers(make_raster: Make, rng: np.random.Generator) -> None:
    pixels = rng.integers(-99, 99, (300, 340)) + 1j * rng.integers(-99, 99, (300, 340))
    moving = make_raster(pixels.astype(np.complex64), dtype="complex_int16")
    output = warp(moving, np.eye(3), format=RasterFormat.COG, creation_options=SMALL_TILES)
    assert is_cog(output)
    with rasterio.open(output) as dataset:
        assert dataset.dtypes == ("complex_int16",)
        assert np.array_equal(dataset.read(1), pixels)


def test_a_cog_keeps_what_the_file_says_about_its_bands(make_raster: Make) -> None:
    moving = make_raster(
        smooth("int16", (5, 300, 340)),
        names=("a", "b", "c", "d", "e"),
        tags={"SENSOR": "one"},
        band_tags={"WAVELENGTH": "842"},
        nodata=-5,
        photometric="MINISBLACK",
    )
    with rasterio.open(moving, "r+") as dataset:
        dataset.scales, dataset.offsets, dataset.units = (0.1,) * 5, (2,) * 5, ("K",) * 5
    with rasterio.open(warp(moving, format=RasterFormat.COG, creation_options=SMALL_TILES)) as dataset:
        assert dataset.descriptions == ("a", "b", "c", "d", "e")
        assert dataset.tags()["SENSOR"] == "one"
        assert dataset.tags(1)["WAVELENGTH"] == "842"
        assert (dataset.scales, dataset.offsets, dataset.units) == ((0.1,) * 5, (2,) * 5, ("K",) * 5)
        assert dataset.nodata == -5
        assert dataset.colorinterp[0] is ColorInterp.gray


def test_a_cog_of_colours_with_alpha(make_raster: Make) -> None:
    image = smooth("uint8", (4, 300, 340)).copy()
    image[3] = 255
    output = warp(
        make_raster(image, photometric="RGB", alpha="YES"), format=RasterFormat.COG, creation_options=SMALL_TILES
    )
    assert is_cog(output)
    with rasterio.open(output) as dataset:
        assert [colour.name for colour in dataset.colorinterp] == ["red", "green", "blue", "alpha"]
        assert MaskFlags.alpha in dataset.mask_flag_enums[0]


def with_palette(path: Path) -> Path:
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {index: (index, 255 - index, 7, 255) for index in range(256)})
    return path


@pytest.mark.parametrize("form", list(RasterFormat))
@pytest.mark.parametrize("labels", ["palette", "nearest", "complex", None])
def test_overviews_mix_only_what_has_a_mean(
    make_raster: Make, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, form: RasterFormat, labels: str | None
) -> None:
    monkeypatch.setattr(storing, "_SMALLEST_OVERVIEW", 128)
    classes = rng.choice(np.array([10, 250], np.uint8), (300, 340))
    moving = make_raster(classes.astype(np.complex64) if labels == "complex" else classes)
    if labels == "palette":
        with_palette(moving)
    settings: dict[str, Any] = {"overviews": True, "format": form}
    if form is RasterFormat.COG:
        settings["creation_options"] = SMALL_TILES
    if labels == "nearest":
        settings["resampling"] = Resampling.NEAREST
    with rasterio.open(warp(moving, np.eye(3), **settings)) as dataset:
        assert dataset.overviews(1) == [2, 4]
    with rasterio.open(moving.with_name("aligned.tif"), overview_level=0) as dataset:
        assert (dataset.height, dataset.width) == (150, 170)
        found = set(np.unique(dataset.read(1).real))
    assert (found == {10, 250}) == (labels is not None)
    assert files_of(moving) == ["aligned.tif", "image.tif"]


@pytest.mark.parametrize(
    ("shape", "factors"), [((100, 512), []), ((513, 9), [2]), ((9, 4096), [2, 4, 8]), ((1, 1), [])]
)
def test_overviews_end_where_the_image_is_small(shape: tuple[int, int], factors: list[int]) -> None:
    assert overview_factors(shape) == factors


def test_without_being_asked_for_there_are_no_overviews(make_raster: Make) -> None:
    with rasterio.open(warp(make_raster(smooth("uint8")), np.eye(3))) as dataset:
        assert dataset.overviews(1) == []


@pytest.mark.parametrize("option", [("COMPRESS", "NONSENSE"), ("TILED", "YES"), ("LEVEL", "99")])
def test_options_that_the_cog_driver_would_pass_over_are_refused_before_the_work(
    make_raster: Make, monkeypatch: pytest.MonkeyPatch, option: tuple[str, str]
) -> None:
    moving = make_raster(smooth("uint8"))
    monkeypatch.setattr(storing, "create", lambda *_: pytest.fail("the work began"))
    with pytest.raises(UsageError, match=r"COG driver refuses a creation option"):
        warp(moving, np.eye(3), format=RasterFormat.COG, creation_options=(option,))
    assert files_of(moving) == ["image.tif"]


@pytest.mark.parametrize(("option", "found"), [(("COMPRESS", "LZW"), "lzw"), (("COMPRESS", "JPEG"), "jpeg")])
def test_options_are_handed_on_to_the_cog(make_raster: Make, option: tuple[str, str], found: str) -> None:
    output = warp(
        make_raster(smooth("uint8"), nodata=0), np.eye(3), format=RasterFormat.COG, creation_options=(option,)
    )
    with rasterio.open(output) as dataset:
        assert dataset.profile["compress"] == found


def test_a_cog_that_cannot_be_made_leaves_nothing(make_raster: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    moving = make_raster(smooth("uint8"))

    def break_off(tiles: Path, path: Path, **options: Any) -> None:
        if str(tiles).startswith("/vsimem"):
            return
        for suffix in ("", ".ovr.tmp", ".msk.ovr.tmp", ".aux.xml"):
            path.with_name(path.name + suffix).write_bytes(b"II*")
        raise rasterio.errors.RasterioIOError("No space left on device")

    monkeypatch.setattr(storing.rasterio.shutil, "copy", break_off)
    with pytest.raises(WriteError, match=r"aligned.tif.*No space left"):
        warp(moving, np.eye(3), format=RasterFormat.COG)
    assert files_of(moving) == ["image.tif"]


FULL_DISK = """
import json, resource, signal, sys
from click.testing import CliRunner
from rrl_register.cli import main

command, limit = sys.argv[2:], int(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
run = CliRunner().invoke(main, command)
print(json.dumps([run.exit_code, run.stdout, run.stderr]))
"""


@pytest.fixture
def command(make_raster: Make, rng: np.random.Generator, make_registration: Callable[..., Any]) -> list[str]:
    """The warp of noise, which no compression makes smaller, by the command line."""
    import json

    moving = make_raster(rng.integers(1, 255, (700, 700), dtype=np.uint8))
    grid = open_info(moving).grid
    result = moving.with_name("result.json")
    result.write_text(json.dumps(make_registration(fixed_grid=grid, moving_grid=grid).to_json()))
    return ["apply", str(result), str(moving), "-o", str(moving.with_name("aligned.tif"))]


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes cannot be limited")
@pytest.mark.parametrize(
    ("options", "share"),
    [("--overviews", 0.5), ("--overviews", 1.1), ("--overviews", 1.24), ("--format cog", 0.5), ("--format cog", 1.1)],
)
def test_a_full_disk_takes_one_line_and_leaves_nothing(
    command: list[str], tmp_path: Path, options: str, share: float
) -> None:
    import json

    limit = str(round(share * 700 * 700))
    words = [sys.executable, "-c", FULL_DISK, limit, *command, *options.split(), "--co", "COMPRESS=NONE"]
    done = subprocess.run(words, capture_output=True, check=True, text=True)
    assert done.stderr == ""  # where libtiff prints, past Python
    code, stdout, stderr = json.loads(done.stdout.splitlines()[-1])
    assert (code, stdout) == (3, "")
    assert stderr.startswith("Error: Cannot write")
    assert stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tif", "result.json"]

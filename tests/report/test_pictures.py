"""Pictures of a report: both images on one grid, in colour, and small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from rasterio.enums import ColorInterp

from rrl_register.config import ReadConfig, RegisterConfig
from rrl_register.errors import InputError
from rrl_register.exchange.registration import Registration
from rrl_register.raster.grid import Grid
from rrl_register.report.inputs import ReportInput
from rrl_register.report.pictures import MAX_SIDE, THUMBNAIL_SIDE, data_uri, encode, read_pictures, thumbnail

Build = Callable[..., Registration]
Write = Callable[..., Path]

ORANGE = np.repeat(np.array([[[200]], [[120]], [[20]]], np.uint8), 90, axis=1).repeat(120, axis=2)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(20, 250, shape, np.uint8)


def decoded(data: bytes) -> np.ndarray:
    image: np.ndarray = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return image


@pytest.fixture
def case(make_raster: Write, make_registration: Build) -> ReportInput:
    fixed, moving = make_raster(noise(200, 200), "fixed.tif"), make_raster(noise(200, 200), "moving.tif")
    return ReportInput(fixed, moving, make_registration())


def test_pictures_of_one_grid_are_the_images_themselves(case: ReportInput) -> None:
    pictures = read_pictures(case)
    assert pictures.fixed and pictures.moving and pictures.aligned
    np.testing.assert_allclose(pictures.aligned.levels, pictures.moving.levels, atol=1e-5)
    assert pictures.fixed.pixels.shape == (200, 200, 4)
    assert pictures.overlap is not None and pictures.overlap.all()


def test_where_the_aligned_image_has_no_data_it_is_transparent(make_raster: Write, make_registration: Build) -> None:
    image = make_raster(noise(200, 200))
    shift = np.array([[1.0, 0, 50], [0, 1, 0], [0, 0, 1]])
    aligned = read_pictures(ReportInput(image, image, make_registration(matrix=shift))).aligned
    assert aligned is not None
    assert not aligned.pixels[:, :49, 3].any()
    assert aligned.pixels[:, 51:, 3].all()


def test_large_images_are_reduced_and_lie_on_each_other_still(make_raster: Write, make_registration: Build) -> None:
    coarse = cv2.resize(noise(30, 40), (2400, 1800), interpolation=cv2.INTER_CUBIC)
    fixed, moving = make_raster(coarse, "fixed.tif"), make_raster(np.roll(coarse, -120, axis=1), "moving.tif")
    grid = Grid(2400, 1800)
    shift = np.array([[1.0, 0, 120], [0, 1, 0], [0, 0, 1]])
    pictures = read_pictures(
        ReportInput(fixed, moving, make_registration(matrix=shift, fixed_grid=grid, moving_grid=grid))
    )
    assert pictures.fixed and pictures.aligned and pictures.moving
    assert max(*pictures.fixed.size, *pictures.moving.size) == MAX_SIDE
    inside = slice(20, -20), slice(80, -20)
    assert np.abs(pictures.fixed.levels[0][inside] - pictures.aligned.levels[0][inside]).mean() < 0.02


def test_a_moving_image_of_smaller_pixels_is_not_read_finer_than_it_is_shown(
    make_raster: Write, make_registration: Build
) -> None:
    fixed, moving = make_raster(noise(200, 200), "fixed.tif"), make_raster(noise(1600, 1600), "moving.tif")
    scaled = make_registration(matrix=np.diag([0.125, 0.125, 1]), moving_grid=Grid(1600, 1600))
    moving_picture = read_pictures(ReportInput(fixed, moving, scaled)).moving
    assert moving_picture is not None and max(moving_picture.size) == MAX_SIDE // 2


def test_colours_are_shown_where_a_file_names_them(make_raster: Write, make_registration: Build) -> None:
    bands = ORANGE + noise(3, 90, 120) // 8
    colours = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    coloured = make_raster(bands, "colour.tif", colours=colours, photometric="RGB")
    plain = make_raster(
        bands, "plain.tif", photometric="MINISBLACK", colours=(ColorInterp.gray, *[ColorInterp.undefined] * 2)
    )
    grid = {"fixed_grid": Grid(120, 90), "moving_grid": Grid(120, 90)}
    pictures = read_pictures(ReportInput(coloured, plain, make_registration(**grid)))
    assert pictures.fixed and pictures.moving
    assert (len(pictures.fixed.levels), len(pictures.moving.levels)) == (3, 1)
    asked = ReportInput(coloured, plain, make_registration(**grid), RegisterConfig(ReadConfig(moving_bands=(1, 2, 3))))
    chosen = read_pictures(asked).moving
    assert chosen is not None and len(chosen.levels) == 3


def test_a_complex_image_is_shown_by_its_amplitudes(make_raster: Write, make_registration: Build) -> None:
    amplitudes = cv2.resize(noise(20, 20), (1500, 1500)).astype(np.float32)
    phases = np.exp(1j * np.random.default_rng(0).uniform(0, 6.28, (1500, 1500)))
    radar = make_raster((amplitudes * phases).astype(np.complex64), "radar.tif")
    grid = Grid(1500, 1500)
    found = make_registration(fixed_grid=grid, moving_grid=grid, fixed_kind="sar")
    shown = read_pictures(ReportInput(radar, make_raster(noise(1500, 1500), "m.tif"), found)).fixed
    assert shown is not None and max(shown.size) == MAX_SIDE
    expected = cv2.resize(amplitudes, (MAX_SIDE, MAX_SIDE), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shown.levels[0].ravel(), expected.ravel())[0, 1] > 0.9


def test_images_of_a_failure_are_shown_as_far_as_they_can_be_read(case: ReportInput, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"no image")
    pictures = read_pictures(ReportInput(case.fixed, broken, None, failure="broken.tif is no image"))
    assert pictures.fixed is not None
    assert (pictures.moving, pictures.aligned, pictures.overlap) == (None, None, None)


def test_a_registered_image_that_is_gone_is_an_error(case: ReportInput, make_registration: Build) -> None:
    with pytest.raises(InputError, match=r"nowhere\.tif"):
        read_pictures(ReportInput(case.fixed, Path("nowhere.tif"), make_registration()))


def test_pictures_survive_their_encoding(case: ReportInput) -> None:
    fixed = read_pictures(case).fixed
    assert fixed is not None
    pixels = np.full((40, 60, 4), 255, np.uint8)
    pixels[..., :3] = (200, 100, 50)
    opaque, clear = decoded(encode(pixels)), pixels.copy()
    clear[:, :30, 3] = 0
    assert opaque.shape == (40, 60, 3)
    assert np.abs(opaque[20, 30].astype(int) - (50, 100, 200)).max() < 8
    assert decoded(encode(clear)).shape == (40, 60, 4)
    assert data_uri(pixels).startswith("data:image/webp;base64,")


def test_a_thumbnail_mixes_both_images_and_is_small(case: ReportInput, make_registration: Build) -> None:
    both = decoded(thumbnail(read_pictures(case)) or b"")
    assert max(both.shape[:2]) == THUMBNAIL_SIDE
    failed = ReportInput(case.fixed, case.moving, make_registration(matrix=None, status="failed", reason="dark"))
    assert decoded(thumbnail(read_pictures(failed)) or b"").shape == both.shape
    nothing = ReportInput(Path("nowhere.tif"), Path("neither.tif"), None, failure="there is no file")
    assert thumbnail(read_pictures(nothing)) is None

"""Bands of several sensors on one grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from rrl_register.config import Kind, RegisterConfig, WarpConfig
from rrl_register.errors import InputError, NotRegisteredError, OutputExistsError, UsageError
from rrl_register.exchange.registration import Registration
from rrl_register.fusion import stack as stack_module
from rrl_register.fusion.stack import align_stack
from rrl_register.raster.grid import Grid
from rrl_register.raster.sources import ImageArray

Build = Callable[..., Registration]

HEIGHT, WIDTH = 70, 90
SHIFT = np.array([[1, 0, 5], [0, 1, -3], [0, 0, 1.0]])
"""Moving pixels lie 5 px further right and 3 px further up in the fixed image."""
GRID = Grid(WIDTH, HEIGHT, CRS.from_epsg(32633), Affine.translation(5e5, 5.3e6) * Affine.scale(2, -2))


@pytest.fixture
def shifted(make_registration: Build) -> Registration:
    return make_registration(matrix=SHIFT, fixed_grid=Grid(WIDTH, HEIGHT), moving_grid=Grid(WIDTH, HEIGHT))


@pytest.fixture
def failed(make_registration: Build) -> Registration:
    grid = Grid(WIDTH, HEIGHT)
    return make_registration(matrix=None, status="failed", reason="too few", fixed_grid=grid, moving_grid=grid)


@pytest.fixture
def optical(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(1, 255, (3, HEIGHT, WIDTH), np.uint8)


@pytest.fixture
def sar(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(1, 60_000, (1, HEIGHT, WIDTH), np.uint16)


def test_bands_lie_where_the_transform_says(optical: np.ndarray, sar: np.ndarray, shifted: Registration) -> None:
    stack = align_stack([optical, sar], registrations=[shifted])
    assert (stack.data.dtype, stack.data.shape) == (np.float32, (4, HEIGHT, WIDTH))
    assert (stack.data[:3] == optical).all()
    assert (stack.data[3, :-3, 5:] == sar[0, 3:, :-5]).all()
    assert np.isnan(stack.data[3, -3:]).all() and np.isnan(stack.data[3, :, :5]).all()


def test_masks_are_known_by_image_and_jointly(optical: np.ndarray, sar: np.ndarray, shifted: Registration) -> None:
    seen = np.ones((HEIGHT, WIDTH), bool)
    seen[40:50, 60:70] = False
    stack = align_stack([ImageArray(optical, valid=seen), sar], registrations=[shifted], labels=["optical", "sar"])
    by_image = stack.valid_by_image
    assert (by_image["optical"] == seen).all()
    assert by_image["sar"].sum() == (HEIGHT - 3) * (WIDTH - 5)
    assert (stack.valid == by_image["optical"] & by_image["sar"]).all()


def test_bands_say_where_they_come_from(optical: np.ndarray, sar: np.ndarray, shifted: Registration) -> None:
    named = ImageArray(optical, names=("red", "green", "blue"))
    stack = align_stack([named, sar], registrations=[shifted], labels=["spot", "radar"])
    assert stack.names == ("spot:red", "spot:green", "spot:blue", "radar:1")
    assert stack.bands[3] == ("radar:1", "radar", 1)
    assert [member.label for member in stack.members] == ["spot", "radar"]
    assert stack.members[1].registration is shifted


def test_a_file_holds_what_the_array_does(
    optical: np.ndarray, sar: np.ndarray, shifted: Registration, tmp_path: Path
) -> None:
    images = [ImageArray(optical, GRID), sar]
    config = RegisterConfig(warp=WarpConfig(block_size=32))
    in_memory = align_stack(images, config, registrations=[shifted])
    on_disk = align_stack(images, config, registrations=[shifted], output=tmp_path / "stack.tif")
    assert on_disk.path == tmp_path / "stack.tif"
    assert np.array_equal(on_disk.data, in_memory.data, equal_nan=True)
    assert (on_disk.valid == in_memory.valid).all()
    with rasterio.open(on_disk.path) as dataset:
        assert (dataset.crs, dataset.transform) == (GRID.crs, GRID.transform)
        assert dataset.descriptions == in_memory.names
        assert np.isnan(dataset.nodata)
        assert dataset.profile["tiled"]


def test_files_are_stacked_without_their_alpha_bands(
    make_raster: Callable[..., Path], optical: np.ndarray, sar: np.ndarray, shifted: Registration
) -> None:
    alpha = np.full((1, HEIGHT, WIDTH), 255, np.uint8)
    alpha[0, :10] = 0
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    fixed = make_raster(np.concatenate([optical, alpha]), "rgba.tif", colours=colours)
    moving = make_raster(sar, "radar.tif", names=("VV",), nodata=0)
    stack = align_stack([fixed, moving], registrations=[shifted])
    assert stack.names == ("rgba:1", "rgba:2", "rgba:3", "radar:VV")
    assert (stack.valid_by_image["rgba"] == (alpha[0] > 0)).all()


def test_wide_integers_keep_their_values(optical: np.ndarray, shifted: Registration) -> None:
    wide = np.full((HEIGHT, WIDTH), 2**31 - 5, np.int32)
    stack = align_stack([optical, wide], registrations=[shifted])
    assert stack.data.dtype == np.float64
    assert np.nanmax(stack.data) == 2**31 - 5


def test_images_are_registered_with_their_own_kinds(
    monkeypatch: pytest.MonkeyPatch, optical: np.ndarray, sar: np.ndarray, shifted: Registration
) -> None:
    asked = []

    def register(fixed: object, moving: object, config: RegisterConfig, scorer: object) -> Registration:
        asked.append((config.read.fixed_kind, config.read.moving_kind, scorer))
        return shifted

    monkeypatch.setattr(stack_module, "register", register)
    monkeypatch.setattr(stack_module, "load_scorer", lambda *settings: "the network")
    align_stack([optical, sar, sar], kinds=["optical", "sar", Kind.IR])
    assert asked == [(Kind.OPTICAL, Kind.SAR, "the network"), (Kind.OPTICAL, Kind.IR, "the network")]


def test_a_failure_ends_it_all(
    optical: np.ndarray, sar: np.ndarray, shifted: Registration, failed: Registration, tmp_path: Path
) -> None:
    with pytest.raises(NotRegisteredError, match="image3: too few"):
        align_stack([optical, sar, sar], registrations=[shifted, failed], output=tmp_path / "stack.tif")
    assert not list(tmp_path.iterdir())


def test_a_failure_is_left_out_if_asked(
    optical: np.ndarray, sar: np.ndarray, shifted: Registration, failed: Registration
) -> None:
    stack = align_stack([optical, sar, sar], registrations=[failed, shifted], on_failure="skip")
    assert stack.names == ("image1:1", "image1:2", "image1:3", "image3:1")
    assert stack.members[1] == ("image2", failed, "too few")
    assert "image2" not in stack.valid_by_image


def test_an_unreadable_image_is_left_out_if_asked(
    optical: np.ndarray, sar: np.ndarray, shifted: Registration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_module, "load_scorer", lambda *settings: "the network")
    images = [optical, tmp_path / "none.tif", sar]
    stack = align_stack(images, registrations=[None, shifted], on_failure="skip")
    assert "There is no file" in stack.members[1].reason
    with pytest.raises(InputError, match="There is no file"):
        align_stack(images, registrations=[None, shifted])


def test_nothing_but_the_reference_is_no_stack(optical: np.ndarray, sar: np.ndarray, failed: Registration) -> None:
    with pytest.raises(NotRegisteredError, match="no image could be registered onto image1: too few"):
        align_stack([optical, sar], registrations=[failed], on_failure="skip")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kinds": ["optical"]}, "1 kinds; needed 2"),
        ({"kinds": ["optical", "x-ray"]}, "the kind 'x-ray'"),
        ({"labels": ["a", "a"]}, "needed a different one for each"),
        ({"registrations": []}, "0 registrations; needed 1"),
        ({"on_failure": "ignore"}, "needed 'raise' or 'skip'"),
        ({"config": RegisterConfig(warp=WarpConfig(nodata=0))}, "NaN stands for no data"),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    optical: np.ndarray, sar: np.ndarray, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        align_stack([optical, sar], **changes)  # type: ignore[arg-type]


def test_one_image_is_no_stack(optical: np.ndarray) -> None:
    with pytest.raises(UsageError, match="1 images"):
        align_stack([optical])


def test_registrations_onto_another_image_are_refused(
    optical: np.ndarray, sar: np.ndarray, make_registration: Build
) -> None:
    with pytest.raises(UsageError, match="needed registrations onto the reference"):
        align_stack([optical, sar], registrations=[make_registration()])


def test_complex_images_are_refused(optical: np.ndarray, sar: np.ndarray, shifted: Registration) -> None:
    with pytest.raises(UsageError, match="image2 is complex"):
        align_stack([optical, sar.astype(np.complex64)], registrations=[shifted])


def test_an_output_that_exists_is_found_before_any_work(optical: np.ndarray, sar: np.ndarray, tmp_path: Path) -> None:
    output = tmp_path / "stack.tif"
    output.touch()
    with pytest.raises(OutputExistsError):
        align_stack([optical, sar], output=output)


def test_an_output_that_is_an_input_is_refused(
    make_raster: Callable[..., Path], optical: np.ndarray, sar: np.ndarray, shifted: Registration
) -> None:
    path = make_raster(optical)
    with pytest.raises(UsageError, match="is the input"):
        align_stack([path, sar], registrations=[shifted], output=path, overwrite=True)

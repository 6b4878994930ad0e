"""A full disk: libtiff, which would print a line of its own for every write, is silenced."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio

from rrl_register.errors import WriteError
from rrl_register.raster import write_guard
from rrl_register.raster.geotiff import create
from rrl_register.raster.write_guard import libtiff_silent

FULL = Path("/dev/full")
"""A device that takes no byte: no space is left."""
NOISE = np.random.default_rng(3).integers(0, 255, (1, 500, 500), dtype=np.uint8)
PROFILE = {"driver": "GTiff", "width": 500, "height": 500, "count": 1, "dtype": "uint8"}
PRINTING = 4711


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A file on a full disk."""
    if not FULL.exists():
        pytest.skip("there is no /dev/full")
    link = tmp_path / "aligned.tif"
    link.symlink_to(FULL)
    return link


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The handlers that a libtiff was given, one after another."""
    given: list[int | None] = [PRINTING]
    monkeypatch.setattr(write_guard, "_set_handler", lambda: lambda handler: given.append(handler) or given[-2])
    return given


def write(path: Path) -> None:
    with create(path, path, PROFILE) as target:
        target.write(NOISE)


def test_a_full_disk_is_reported_by_an_error_alone(full: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WriteError, match=r"Cannot write .*aligned\.tif"):
        write(full)
    assert capfd.readouterr() == ("", "")


def test_what_libtiff_prints_elsewhere_is_left_alone(full: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with libtiff_silent():
        pass
    with pytest.raises(rasterio.errors.RasterioError), rasterio.open(full, "w", **PROFILE) as target:
        target.write(NOISE)
    assert "No space left on device" in capfd.readouterr().err


def test_the_error_of_a_full_disk_says_so(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_guard.shutil, "disk_usage", lambda folder: SimpleNamespace(free=512))
    with pytest.raises(WriteError, match="No space left on device"):
        write(full)


def test_a_libtiff_that_cannot_be_reached_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_guard._set_handler.cache_clear()
    monkeypatch.setattr(write_guard.ctypes, "CDLL", lambda path: SimpleNamespace())
    assert write_guard._set_handler() is None
    write(tmp_path / "aligned.tif")
    write_guard._set_handler.cache_clear()
    with rasterio.open(tmp_path / "aligned.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), NOISE)


def test_silence_lasts_until_the_last_of_overlapping_blocks_ends(handlers: list[int | None]) -> None:
    first, second = libtiff_silent(), libtiff_silent()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert handlers == [PRINTING, None]
    second.__exit__(None, None, None)
    assert handlers == [PRINTING, None, PRINTING]


def test_silence_ends_with_a_block_that_fails(handlers: list[int | None]) -> None:
    with pytest.raises(ZeroDivisionError), libtiff_silent():
        raise ZeroDivisionError
    assert handlers[-1] == PRINTING

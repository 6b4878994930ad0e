"""Amplitudes of complex rasters, averaged down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from rrl_register.raster import region as averaging
from rrl_register.raster.reader import read_bands
from rrl_register.raster.region import Region, average_known

SHAPE = (60, 84)


@pytest.fixture
def amplitude(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(1, 9, SHAPE)


@pytest.fixture
def write(make_raster: Callable[..., Path], rng: np.random.Generator) -> Callable[[np.ndarray], Path]:
    def write(values: np.ndarray) -> Path:
        phase = np.exp(1j * rng.uniform(0, 2 * np.pi, SHAPE))
        return make_raster(np.stack([values * phase, 2 * values * phase]).astype(np.complex64))

    return write


@pytest.mark.parametrize("piece", [averaging._PIECE_BYTES, 8 * 2 * 84 * 7])
def test_whole_factors_average_exactly(
    write: Callable[[np.ndarray], Path], amplitude: np.ndarray, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """Whatever the rows that are read at once."""
    monkeypatch.setattr(averaging, "_PIECE_BYTES", piece)
    found = read_bands(write(amplitude), factor=3).values
    expected = amplitude.reshape(20, 3, 28, 3).mean(axis=(1, 3))
    assert np.allclose(found, [expected, 2 * expected], atol=1e-4)


def test_pixels_that_two_cells_share_count_in_both(write: Callable[[np.ndarray], Path]) -> None:
    """A ramp's mean over a cell is its value at the cell's centre."""
    ramp = np.tile(np.arange(1, SHAPE[1] + 1.0), (SHAPE[0], 1))
    with rasterio.open(write(ramp)) as dataset:
        found, share = average_known(dataset, (1,), Region(Window(10.5, 3.25, 50, 40), (16, 20)))
    centres = 10.5 + (np.arange(20) + 0.5) * 2.5 + 0.5
    assert np.allclose(found[0], centres, atol=0.13)
    assert np.allclose(found[0], found[0, 0], atol=1e-4)
    assert np.allclose(share, 1, atol=1e-5)


def test_fill_does_not_count(write: Callable[[np.ndarray], Path], amplitude: np.ndarray) -> None:
    holes = amplitude.copy()
    holes[0, 0] = np.nan
    holes[0, 1:3] = 0
    holes[30:39, 30:39] = 0
    with rasterio.open(write(holes)) as dataset:
        means, shares = average_known(dataset, (1,), Region(Window(0, 0, 84, 60), (20, 28)))
    found, share = means[0], shares[0]
    assert found[0, 0] == pytest.approx(amplitude[1:3, :3].mean(), rel=1e-5)
    assert not found[10:13, 10:13].any()
    assert share[0, 0] == pytest.approx(2 / 3)
    assert np.isfinite(found).all()


def test_a_complex_part_is_read(write: Callable[[np.ndarray], Path], amplitude: np.ndarray) -> None:
    found = read_bands(write(amplitude), (1,), factor=2, part=(20, 10, 40, 30)).values[0]
    assert np.allclose(found, amplitude[10:40, 20:60].reshape(15, 2, 20, 2).mean(axis=(1, 3)), atol=1e-4)

from __future__ import annotations

import numpy as np
import pytest

from rrl_register.matching.features import fft

RNG = np.random.default_rng(0)
PLANES = (RNG.normal(size=(2, 3, 36, 45)) + 1j * RNG.normal(size=(2, 3, 36, 45))).astype(np.complex64)


def test_spectra_are_numpys() -> None:
    np.testing.assert_allclose(fft.transform(PLANES), np.fft.fft2(PLANES), atol=1e-4)


def test_conjugates_give_conjugate_spectra() -> None:
    np.testing.assert_allclose(fft.conjugate_spectra(PLANES.conj()), np.fft.fft2(PLANES).conj(), atol=1e-4)


def test_the_way_back_undoes_the_way_there() -> None:
    np.testing.assert_allclose(fft.transform_back(fft.transform(PLANES)), PLANES, atol=1e-5)


@pytest.mark.parametrize("function", [fft.transform, fft.conjugate_spectra, fft.transform_back])
def test_planes_may_be_replaced_by_what_comes_of_them(function) -> None:
    planes = PLANES.copy()
    expected = function(planes)
    np.testing.assert_array_equal(planes, PLANES)
    assert function(planes, out=planes) is planes
    np.testing.assert_array_equal(planes, expected)


@pytest.mark.parametrize(("least", "side"), [(1, 16), (128, 128), (129, 144), (145, 160), (161, 192)])
def test_the_next_fast_side_has_small_factors_and_sixteen(least: int, side: int) -> None:
    assert fft.fast_side(least) == side

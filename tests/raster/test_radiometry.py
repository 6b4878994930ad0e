"""Guessing whether an image is radar, infrared or optical, and making one grey image of any of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from rrl_register.config import Kind, ReadConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.raster import radiometry
from rrl_register.raster.radiometry import Guess, guess_kind, is_speckled, measure_speckle, pair_kinds, recognise_kinds
from rrl_register.raster.reader import RasterInfo, open_info
from rrl_register.raster.stretch import percentile, to_grey

Make = Callable[..., Path]


def scene(rng: np.random.Generator, side: int = 256) -> np.ndarray:
    """Smooth fields with edges between them, 60 to 200, (side, side) float32."""
    fields = cv2.resize(rng.uniform(60, 200, (6, 6)).astype(np.float32), (side, side), interpolation=cv2.INTER_NEAREST)
    return cv2.GaussianBlur(fields, (0, 0), 0.7)


def speckled(image: np.ndarray, looks: float, rng: np.random.Generator) -> np.ndarray:
    amplitude = np.sqrt(rng.gamma(looks, 1 / looks, image.shape))
    return (0.5 * image * amplitude).clip(0, 255).astype(np.uint8)


def everywhere(image: np.ndarray) -> np.ndarray:
    return np.ones(image.shape[-2:], bool)


def info_of(make_raster: Make, bands: np.ndarray, **what: object) -> RasterInfo:
    return open_info(make_raster(bands, **what))


def guess(make_raster: Make, bands: np.ndarray, **what: object) -> Guess:
    guessed, _ = guess_kind(info_of(make_raster, bands, **what), (), Kind.AUTO)
    assert guessed.reason
    return guessed._replace(reason="")


@pytest.mark.parametrize("looks", [1, 2, 4])
def test_speckle_is_taken_for_radar(rng: np.random.Generator, looks: float) -> None:
    image = speckled(scene(rng), looks, rng).astype(np.float32)
    assert is_speckled(image, everywhere(image))
    found = measure_speckle(image, everywhere(image))
    assert found is not None
    assert found.contrast == pytest.approx(0.52 / np.sqrt(looks), rel=0.15)
    assert found.skew > 0 > found.log_skew


def test_additive_noise_is_no_speckle(rng: np.random.Generator) -> None:
    for noise in (0, 3, 12):
        image = (scene(rng) + rng.normal(0, noise, (256, 256))).clip(0, 255).astype(np.float32)
        assert not is_speckled(image, everywhere(image))


def test_strong_even_noise_is_no_speckle(rng: np.random.Generator) -> None:
    """Symmetric noise has the contrast of speckle, but not its skewness."""
    image = (100 + rng.normal(0, 25, (256, 256))).clip(0, 255).astype(np.float32)
    assert not is_speckled(image, everywhere(image))


@given(gain=st.floats(1e-3, 1e4))
def test_speckle_does_not_depend_on_the_unit(gain: float) -> None:
    rng = np.random.default_rng(1)
    image = speckled(scene(rng), 3, rng).astype(np.float32)
    one, other = measure_speckle(image, everywhere(image)), measure_speckle(image * np.float32(gain), everywhere(image))
    assert one is not None
    assert other is not None
    assert np.allclose(one, other, rtol=1e-3, atol=1e-3)


def test_too_little_image_is_no_evidence(rng: np.random.Generator) -> None:
    image = speckled(scene(rng, 40), 1, rng).astype(np.float32)
    assert measure_speckle(image, everywhere(image)) is None
    assert measure_speckle(image, np.zeros(image.shape, bool)) is None
    assert measure_speckle(image[:5, :5], everywhere(image[:5, :5])) is None
    assert not is_speckled(image, everywhere(image))


def test_colours_are_optical(make_raster: Make, rng: np.random.Generator) -> None:
    bands = np.stack([scene(rng), scene(rng), scene(rng)]).astype(np.uint8)
    assert guess(make_raster, bands) == Guess(Kind.OPTICAL, True)


def test_grey_stored_as_colours_is_grey(make_raster: Make, rng: np.random.Generator) -> None:
    grey = scene(rng).astype(np.uint8)
    assert guess(make_raster, np.stack([grey] * 3)) == Guess(Kind.IR, False)
    radar = speckled(scene(rng), 1, rng)
    assert guess(make_raster, np.stack([radar] * 3)) == Guess(Kind.SAR, True)


def test_a_single_grey_band_is_infrared_for_want_of_better(make_raster: Make, rng: np.random.Generator) -> None:
    assert guess(make_raster, scene(rng).astype(np.uint8)) == Guess(Kind.IR, False)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_decibels_are_radar(make_raster: Make, rng: np.random.Generator, count: int) -> None:
    bands = rng.normal(-14, 4, (count, 96, 96)).astype(np.float32)
    assert guess(make_raster, bands) == Guess(Kind.SAR, True)


def test_reflectances_around_zero_are_not_decibels(make_raster: Make, rng: np.random.Generator) -> None:
    bands = rng.normal(0.05, 0.05, (3, 96, 96)).astype(np.float32)
    assert guess(make_raster, bands).kind is Kind.OPTICAL


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ({"names": ("VV",)}, Kind.SAR),
        ({"names": ("sigma0_HH",)}, Kind.SAR),
        ({"band_tags": {"POLARISATION": "VH"}}, Kind.SAR),
        ({"names": ("B08",)}, Kind.IR),
        ({"names": ("Thermal infrared",)}, Kind.IR),
        ({"names": ("red",)}, Kind.OPTICAL),
        ({"colours": (ColorInterp.green,)}, Kind.OPTICAL),
        ({"name": "scene_NIR_2020.tif"}, Kind.IR),
        ({"name": "s1a-iw-grd-vv.tif"}, Kind.SAR),
        ({"name": "city_pan.tif"}, None),
        ({"name": "first_2.tif"}, None),
        ({"name": "T32_B08.tif"}, None),
    ],
)
def test_names_decide(make_raster: Make, rng: np.random.Generator, what: dict[str, object], kind: Kind | None) -> None:
    expected = Guess(Kind.IR, False) if kind is None else Guess(kind, True)
    assert guess(make_raster, scene(rng).astype(np.uint8), **what) == expected


def test_only_chosen_bands_count(make_raster: Make, rng: np.random.Generator) -> None:
    bands = np.stack([scene(rng)] * 4).astype(np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None]
    info = info_of(make_raster, bands, names=("B04", "B03", "B02", "B08"))
    for chosen, kind in (((), Kind.OPTICAL), ((4,), Kind.IR), ((1,), Kind.OPTICAL)):
        assert guess_kind(info, chosen, Kind.AUTO)[0].kind is kind


KNOWN = {kind: Guess(kind, True) for kind in (Kind.OPTICAL, Kind.IR, Kind.SAR)}
GREY = Guess(Kind.IR, False)


@pytest.mark.parametrize(
    ("fixed", "moving", "expected"),
    [
        (KNOWN[Kind.OPTICAL], GREY, (Kind.OPTICAL, Kind.IR)),
        (GREY, KNOWN[Kind.OPTICAL], (Kind.IR, Kind.OPTICAL)),
        (GREY, GREY, (Kind.OPTICAL, Kind.IR)),
        (GREY, KNOWN[Kind.SAR], (Kind.OPTICAL, Kind.SAR)),
        (KNOWN[Kind.SAR], GREY, (Kind.SAR, Kind.OPTICAL)),
        (KNOWN[Kind.IR], GREY, (Kind.IR, Kind.OPTICAL)),
        (KNOWN[Kind.IR], KNOWN[Kind.SAR], (Kind.IR, Kind.SAR)),
        (KNOWN[Kind.OPTICAL], KNOWN[Kind.OPTICAL], (Kind.OPTICAL, Kind.OPTICAL)),
    ],
)
def test_two_guesses_are_combined(fixed: Guess, moving: Guess, expected: tuple[Kind, Kind]) -> None:
    assert pair_kinds(fixed, moving) == expected


def test_a_configured_kind_is_taken_as_it_is(make_raster: Make, rng: np.random.Generator) -> None:
    grey = make_raster(scene(rng).astype(np.uint8), "grey.tif")
    radar = make_raster(speckled(scene(rng), 1, rng), "other.tif")
    assert recognise_kinds(grey, radar, ReadConfig()) == (Kind.OPTICAL, Kind.SAR)
    assert recognise_kinds(grey, radar, ReadConfig(fixed_kind=Kind.IR)) == (Kind.IR, Kind.SAR)
    assert recognise_kinds(grey, radar, ReadConfig(moving_kind=Kind.OPTICAL)) == (Kind.IR, Kind.OPTICAL)


def test_pixels_are_not_read_if_names_decide(
    make_raster: Make, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_raster(scene(rng).astype(np.uint8), "vh.tif")
    monkeypatch.setattr(radiometry, "read_sample", None)
    assert guess_kind(open_info(path), (), Kind.AUTO) == (Guess(Kind.SAR, True, "names of bands, tags or file"), None)
    with pytest.raises(UsageError, match="no band 2"):
        guess_kind(open_info(path), (2,), Kind.AUTO)


@pytest.mark.parametrize("n", [1, 2, 99, 300_000])
@pytest.mark.parametrize("percent", [0, 0.5, 50, 99.5, 100])
def test_percentiles_are_those_of_all_values(n: int, percent: float, rng: np.random.Generator) -> None:
    clustered = np.repeat(rng.normal(size=(n + 6) // 7), 7)[:n]
    for values in (rng.normal(size=n), np.sort(rng.exponential(size=n)), np.sort(clustered)[::-1], np.full(n, 3.0)):
        values = values.astype(np.float32)
        assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), rel=1e-6)


@given(low=st.floats(-500, 5000), span=st.floats(1, 1e5), kind=st.sampled_from([Kind.OPTICAL, Kind.IR, Kind.SAR]))
def test_grey_fills_zero_to_one_in_the_order_of_the_values(low: float, span: float, kind: Kind) -> None:
    rng = np.random.default_rng(2)
    bands = (low + span * rng.random((1, 40, 50))).astype(np.float32)
    valid = rng.random((40, 50)) > 0.2
    grey = to_grey(bands, valid, kind)
    assert grey.dtype == np.float32
    assert grey.min() == 0
    assert grey.max() == pytest.approx(1)
    assert (grey[~valid] == 0).all()
    order = np.argsort(bands[0][valid])
    assert (np.diff(grey[valid][order]) >= 0).all()


def test_invalid_pixels_do_not_bend_the_stretch(rng: np.random.Generator) -> None:
    bands = rng.uniform(100, 200, (1, 50, 50)).astype(np.float32)
    valid = np.ones((50, 50), bool)
    valid[:20] = False
    spoiled = bands.copy()
    spoiled[0, :20] = 1e6
    assert np.array_equal(to_grey(spoiled, valid, Kind.IR), to_grey(bands, valid, Kind.IR))


def test_linear_amplitudes_are_compressed_and_decibels_are_not(rng: np.random.Generator) -> None:
    amplitude = rng.gamma(2, 50, (1, 60, 60)).astype(np.float32)
    valid = everywhere(amplitude)
    plain = to_grey(amplitude, valid, Kind.IR)
    assert np.allclose(to_grey(amplitude, valid, Kind.SAR), np.log(1 + 20 * plain) / np.log(21), atol=1e-6)
    decibels = 20 * np.log10(amplitude + 1) - 60
    assert np.array_equal(to_grey(decibels, valid, Kind.SAR), to_grey(decibels, valid, Kind.OPTICAL))


def test_bands_are_averaged(rng: np.random.Generator) -> None:
    bands = rng.uniform(0, 100, (3, 30, 30)).astype(np.float32)
    valid = everywhere(bands)
    mean = to_grey(bands.mean(axis=0, keepdims=True), valid, Kind.OPTICAL)
    assert np.allclose(to_grey(bands, valid, Kind.OPTICAL), mean, atol=1e-5)


def test_sparse_content_is_kept() -> None:
    bands = np.zeros((1, 100, 100), np.float32)
    bands[0, 50, 50:60] = 7
    assert to_grey(bands, everywhere(bands), Kind.IR).sum() == 10


def test_an_image_without_content_is_refused() -> None:
    bands = np.full((1, 20, 20), 3, np.float32)
    with pytest.raises(InputError, match="value 3"):
        to_grey(bands, everywhere(bands), Kind.IR)
    with pytest.raises(InputError, match="no valid pixel"):
        to_grey(bands, np.zeros((20, 20), bool), Kind.IR)


@pytest.mark.shared_data
def test_the_kinds_of_real_pairs_are_recognised(shared_data: Path) -> None:
    pairs = json.loads((shared_data / "dev" / "pairs.json").read_text())
    expected = {"sar": Kind.SAR, "nir": Kind.IR, "lwir": Kind.IR, "ir": Kind.IR}
    wrong = []
    suites = {"geo-sar", "geo-nir", "geo-small", "nir", "lwir", "rotated"}
    for pair in [pair for pair in pairs if pair["suite"] in suites][::3]:
        fixed, moving = (shared_data / "dev" / pair[role] for role in ("fixed", "moving"))
        if recognise_kinds(fixed, moving, ReadConfig()) != (Kind.OPTICAL, expected[pair["family"]]):
            wrong.append(pair["id"])
    assert not wrong

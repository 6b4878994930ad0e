"""What kind of image this is: optical, infrared or SAR, by its names, values and speckle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rrl_register.config import Kind, ReadConfig
from rrl_register.raster.reader import Bands, RasterInfo, checked_bands, open_info, read_sample
from rrl_register.raster.stretch import percentile

_Array = npt.NDArray[Any]

_SAR_WORDS = frozenset(
    {"vv", "vh", "hh", "hv", "sar", "slc", "grd", "sigma", "sigma0", "gamma0", "beta0", "backscatter", "polarisation"}
)
_IR_WORDS = frozenset(
    {"ir", "nir", "nir08", "nir09", "swir", "swir16", "swir22", "mwir", "lwir", "tir", "tirs", "thermal", "infrared"}
    | {"b8", "b08", "b8a", "b11", "b12", "rededge"}  # Sentinel-2
)
_VISIBLE_WORDS = frozenset(
    {"red", "green", "blue", "pan", "panchromatic", "visible"} | {"b2", "b02", "b3", "b03", "b4", "b04"}
)

_WINDOW = 16
"""Side of the windows in which speckle is measured, px."""

_MIN_WINDOWS = 16
"""Fewer windows say nothing about speckle."""


def recognise_kinds(fixed: Path, moving: Path, config: ReadConfig) -> tuple[Kind, Kind]:
    """Tell the kinds of two images, as configured or, where that says ``auto``, from the files.

    Looks at the middle of each image at full resolution, because averaging would take the speckle away.

    Returns:
        The kinds of the fixed and the moving image, never ``auto``.

    Raises:
        InputError: A file cannot be read.
        UsageError: A band does not exist.
    """
    guesses = [
        look(fixed, config.fixed_bands, config.fixed_kind),
        look(moving, config.moving_bands, config.moving_kind),
    ]
    return pair_kinds(*guesses)


class Guess(NamedTuple):
    """What an image is taken for.

    Attributes:
        kind: The kind.
        founded: Whether anything but the lack of better evidence speaks for it.
        why: The evidence, in words.
    """

    kind: Kind
    founded: bool
    why: str = ""


def look(path: Path, bands: tuple[int, ...], kind: Kind) -> Guess:
    """Tell what one image shows, from the middle of it at full resolution.

    Args:
        path: The image.
        bands: 1-based bands to look at; empty: all but alpha.
        kind: What it is said to show; ``auto``: nothing is said.

    Raises:
        InputError: The file cannot be read.
        UsageError: A band does not exist.
    """
    return look_closely(open_info(path), bands, kind)[0]


def look_closely(info: RasterInfo, bands: tuple[int, ...], kind: Kind) -> tuple[Guess, Bands | None]:
    """``look``, with the middle of the image where it had to be read.

    Args:
        info: What the file says about itself.
        bands: As for ``look``.
        kind: As for ``look``.

    Raises:
        InputError, UsageError: As ``look``.
    """
    if kind is not Kind.AUTO:
        return Guess(kind, True, "as told"), None
    named = _guess_by_name(info, checked_bands(info, bands))
    if named is not None:
        return named, None
    sample = read_sample(info.path, bands)
    return guess_kind(sample.values, sample.valid, info, bands), sample


def pair_kinds(fixed: Guess, moving: Guess) -> tuple[Kind, Kind]:
    """Settle two guesses together.

    A single grey band may be infrared or a grey photograph. Alone it is taken for infrared; where that would leave a
    pair without an optical image, the first such image of the two is taken for the optical one.
    """
    if Kind.OPTICAL in (fixed.kind, moving.kind):
        return fixed.kind, moving.kind
    if not fixed.founded:
        return Kind.OPTICAL, moving.kind
    return fixed.kind, moving.kind if moving.founded else Kind.OPTICAL


def guess_kind(
    bands: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], info: RasterInfo, chosen: tuple[int, ...] = ()
) -> Guess:
    """Guess what an image shows; a single grey band without any evidence counts as infrared.

    Evidence is looked for in this order: names of bands, tags and file; values in decibels; number of bands; speckle.

    Args:
        bands: (B, H, W) float32 values in the file's units, at full resolution (averaging takes speckle away).
        valid: (H, W) bool.
        info: What the file says about itself.
        chosen: The file's bands that ``bands`` holds, 1-based; empty: all but alpha.
    """
    named = _guess_by_name(info, chosen or info.data_bands)
    if named is not None:
        return named
    if _in_decibels(bands, valid, info):
        return Guess(Kind.SAR, True, "values in decibels")
    distinct = bands[:1] if _all_equal(bands) else bands
    if len(distinct) >= 3:
        return Guess(Kind.OPTICAL, True, f"{len(distinct)} bands that differ")
    if any(is_speckled(band, valid) for band in distinct):
        return Guess(Kind.SAR, True, "speckle as of a radar")
    return Guess(Kind.IR, False, "one grey band and no other evidence")


class Speckle(NamedTuple):
    """What tells speckle from texture, measured in the most even quarter of an image's windows.

    Attributes:
        contrast: Standard deviation over mean; about 0.52 / sqrt(looks) for an amplitude.
        skew: Skewness of the values; above 0 for an amplitude.
        log_skew: Skewness of their logarithms; below 0 for an amplitude, where texture has no such rule.
        growth: Fine detail at twice the scale over detail at full scale, in all windows: 0.5 for independent pixels,
            1.6 and more where the resolution cell spans several pixels, 1 to 1.5 for sharp natural texture.
    """

    contrast: float
    skew: float
    log_skew: float
    growth: float


def is_speckled(band: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> bool:
    """Whether a band's noise is that of a coherent radar, as far as can be told.

    Source: speckle is multiplicative and the square of its amplitude follows a gamma law (Goodman, "Some fundamental
    properties of speckle", 1976). The thresholds were chosen on 54 SAR and 634 other images.

    Args:
        band: (H, W) float32, >= 0 on a linear scale; decibels are not recognised here.
        valid: (H, W) bool.
    """
    found = measure_speckle(band, valid)
    if found is None or found.skew < 0.15 or found.log_skew > -0.1:
        return False
    is_strong = found.contrast > 0.3
    is_regular = found.contrast > 0.17 and not 0.8 < found.growth < 1.55
    return is_strong or is_regular


def measure_speckle(band: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> Speckle | None:
    """Measure what tells speckle from texture; None where there are too few windows.

    Args:
        band: (H, W) float32, >= 0.
        valid: (H, W) bool.
    """
    windows = _usable_windows(band, valid)
    if len(windows) < _MIN_WINDOWS:
        return None
    contrast = windows.std(axis=(1, 2)) / windows.mean(axis=(1, 2))
    is_even = contrast <= np.percentile(contrast, 25)
    return Speckle(
        contrast=float(np.median(contrast[is_even])),
        skew=_median_skewness(windows[is_even]),
        log_skew=_median_skewness(np.log(np.maximum(windows[is_even], 1 / 255))),
        growth=_detail_growth(windows),
    )


def _guess_by_name(info: RasterInfo, bands: tuple[int, ...]) -> Guess | None:
    named = _kind_by_name(info, bands)
    return None if named is None else Guess(named, True, "names of bands, tags or file")


def _kind_by_name(info: RasterInfo, bands: tuple[int, ...]) -> Kind | None:
    """Kind that the names of the bands agree on; else what the file's name and tags say, as far as it is clear."""
    words = [_band_words(info, band) for band in bands]
    if any(found & _SAR_WORDS for found in words):
        return Kind.SAR
    if all(found & _IR_WORDS for found in words):
        return Kind.IR
    if any(found & _VISIBLE_WORDS for found in words) and len(bands) < 3:
        return Kind.OPTICAL
    if len(bands) >= 3:
        return None
    return _kind_by_file_name(info.path)


def _kind_by_file_name(path: Path) -> Kind | None:
    # Band numbers in file names mean different things for different satellites; words do not.
    words = {word for word in _words(path.stem) if not re.fullmatch(r"b\d+a?", word)}
    if words & _SAR_WORDS:
        return Kind.SAR
    return Kind.IR if words & _IR_WORDS else None


def _band_words(info: RasterInfo, band: int) -> set[str]:
    values = [value for key, value in info.band_tags[band - 1].items() if not key.startswith("STATISTICS_")]
    return _words(" ".join([info.descriptions[band - 1] or "", info.colorinterp[band - 1], *values]))


def _words(text: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", text.lower()))


def _in_decibels(bands: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], info: RasterInfo) -> bool:
    """Whether floats lie where backscatter in decibels does: mostly negative, not far."""
    if not (info.dtype.startswith("float") and valid.any()):
        return False
    low, middle, high = np.percentile(bands[:2, valid], [1, 50, 99])
    return bool(low > -80 and middle < -2 and high < 30)


def _all_equal(bands: npt.NDArray[np.float32]) -> bool:
    """Whether a grey image was stored as colours."""
    return len(bands) > 1 and all(np.array_equal(bands[0], band) for band in bands[1:])


def _usable_windows(band: _Array, valid: _Array) -> _Array:
    """Windows that are valid throughout and neither dark nor saturated, (N, 16, 16), with the whites near 1."""
    windows = _windows(band)[_windows(valid).all(axis=(1, 2))]
    if len(windows) == 0:
        return windows
    windows = windows / max(percentile(band.ravel() if valid.all() else band[valid], 99.5), 1e-12)
    mean = windows.mean(axis=(1, 2))
    # Shadow and water hold quantisation noise, saturated places hold none.
    usable: _Array = windows[(mean > 0.3 * np.median(mean)) & (mean < 0.9)]
    return usable


def _windows(image: _Array) -> _Array:
    """Cut (H, W) into (N, 16, 16)."""
    rows, columns = image.shape[0] // _WINDOW, image.shape[1] // _WINDOW
    whole = image[: rows * _WINDOW, : columns * _WINDOW].reshape(rows, _WINDOW, columns, _WINDOW)
    cut: _Array = whole.swapaxes(1, 2).reshape(-1, _WINDOW, _WINDOW)
    return cut


def _median_skewness(windows: _Array) -> float:
    away = windows - windows.mean(axis=(1, 2), keepdims=True)
    square = away * away
    spread = np.sqrt(square.mean(axis=(1, 2)))
    return float(np.median((square * away).mean(axis=(1, 2)) / (spread + 1e-3) ** 3))


def _detail_growth(windows: _Array) -> float:
    coarse, fine = _haar(windows)
    coarser = _haar(coarse)[1]
    return float(np.median(coarser.std(axis=(1, 2)) / (fine.std(axis=(1, 2)) + 1e-3)))


def _haar(windows: _Array) -> tuple[_Array, _Array]:
    """Mean and diagonal detail of every 2 x 2 pixels; the latter carries noise, but hardly any edge."""
    a, b = windows[:, ::2, ::2], windows[:, ::2, 1::2]
    c, d = windows[:, 1::2, ::2], windows[:, 1::2, 1::2]
    return (a + b + c + d) / 4, (a - b - c + d) / 2

"""The kind of an image, optical, infrared or SAR, guessed from names, values and speckle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rrl_register.config import Kind, ReadConfig
from rrl_register.geometry.arrays import Array, Image, Mask
from rrl_register.raster.alpha import IR_WORDS, words_of
from rrl_register.raster.reader import Bands, RasterInfo, chosen_bands, open_info, read_sample
from rrl_register.raster.stretch import percentile

_SAR_WORDS = frozenset(
    {"vv", "vh", "hh", "hv", "sar", "slc", "grd", "sigma", "sigma0", "gamma0", "beta0", "backscatter", "polarisation"}
)
_VISIBLE_WORDS = frozenset(
    {"red", "green", "blue", "pan", "panchromatic", "visible"} | {"b2", "b02", "b3", "b03", "b4", "b04"}
)
_WINDOW = 16
"""Side of the windows in which speckle is measured, px."""
_MIN_WINDOWS = 16
"""Fewer windows are no evidence of speckle."""


class Guess(NamedTuple):
    """The guessed kind of an image.

    Attributes:
        kind: The kind; never ``auto``.
        has_evidence: Whether anything but the lack of better evidence supports it.
        reason: The evidence, in words.
    """

    kind: Kind
    has_evidence: bool
    reason: str = ""


class Speckle(NamedTuple):
    """Statistics that distinguish speckle from texture, in the most even quarter of an image's windows.

    Attributes:
        contrast: Standard deviation over mean; about 0.52 / sqrt(looks) for an amplitude.
        skew: Skewness of the values; above 0 for an amplitude.
        log_skew: Skewness of their logarithms; below 0 for an amplitude, of either sign for texture.
        growth: Fine detail at twice the scale over detail at full scale, in all windows: 0.5 for independent pixels,
            1.6 and more if the resolution cell spans several pixels, 1 to 1.5 for sharp natural texture.
    """

    contrast: float
    skew: float
    log_skew: float
    growth: float


def recognise_kinds(fixed: Path, moving: Path, config: ReadConfig) -> tuple[Kind, Kind]:
    """Return the kinds of two images, as configured, or guessed from the files if that is ``auto``.

    Raises:
        InputError: A file cannot be read.
        UsageError: A band does not exist.
    """
    return pair_kinds(
        guess_kind(open_info(fixed), config.fixed_bands, config.fixed_kind)[0],
        guess_kind(open_info(moving), config.moving_bands, config.moving_kind)[0],
    )


def guess_kind(info: RasterInfo, bands: tuple[int, ...], kind: Kind) -> tuple[Guess, Bands | None]:
    """Guess the kind of one image; return the middle of it, at full resolution, too, if it had to be read.

    Averaging would remove the speckle. Evidence is searched in this order: names of bands, tags and file; values in
    decibels; number of bands; speckle.

    Args:
        info: Declarations of the file.
        bands: 1-based bands to use; empty: all but alpha.
        kind: The configured kind; ``auto``: guess.

    Raises:
        InputError: The file cannot be read.
        UsageError: A band does not exist.
    """
    if kind is not Kind.AUTO:
        return Guess(kind, True, "as configured"), None
    named = _guess_by_name(info, chosen_bands(info, bands))
    if named is not None:
        return named, None
    sample = read_sample(info.path, bands)
    return _guess_by_values(sample.values, sample.valid, info.dtype), sample


def pair_kinds(fixed: Guess, moving: Guess) -> tuple[Kind, Kind]:
    """Combine two guesses.

    A single grey band may be infrared or a grey photograph. Alone it is taken for infrared; if that would leave a
    pair without an optical image, the first such image of the two is taken for the optical one.
    """
    if Kind.OPTICAL in (fixed.kind, moving.kind):
        return fixed.kind, moving.kind
    if not fixed.has_evidence:
        return Kind.OPTICAL, moving.kind
    return fixed.kind, moving.kind if moving.has_evidence else Kind.OPTICAL


def is_speckled(band: Image, valid: Mask) -> bool:
    """Return true if a band's noise is that of a coherent radar, as far as can be decided.

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


def measure_speckle(band: Image, valid: Mask) -> Speckle | None:
    """Measure the statistics of speckle; None if there are too few windows.

    Args:
        band: (H, W) float32, >= 0.
        valid: (H, W) bool.
    """
    windows = _usable_windows(band, valid)
    if len(windows) < _MIN_WINDOWS:
        return None
    contrast = windows.std(axis=(1, 2)) / windows.mean(axis=(1, 2))
    is_even = contrast <= np.percentile(contrast, 25)
    even = windows[is_even]
    coarse, fine = _haar(windows)
    coarser = _haar(coarse)[1]
    return Speckle(
        contrast=float(np.median(contrast[is_even])),
        skew=_median_skewness(even),
        log_skew=_median_skewness(np.log(np.maximum(even, 1 / 255))),
        growth=float(np.median(coarser.std(axis=(1, 2)) / (fine.std(axis=(1, 2)) + 1e-3))),
    )


def _guess_by_name(info: RasterInfo, bands: tuple[int, ...]) -> Guess | None:
    """Guess the kind on which the names of the bands agree; else that of the file's name, if it is clear."""
    words = [_band_words(info, band) for band in bands]
    kind = None
    if any(found & _SAR_WORDS for found in words):
        kind = Kind.SAR
    elif all(found & IR_WORDS for found in words):
        kind = Kind.IR
    elif len(bands) < 3:
        is_visible = any(found & _VISIBLE_WORDS for found in words)
        kind = Kind.OPTICAL if is_visible else _kind_by_file_name(info.path)
    return None if kind is None else Guess(kind, True, "names of bands, tags or file")


def _kind_by_file_name(path: Path) -> Kind | None:
    # Band numbers in file names mean different things for different satellites; words do not.
    words = {word for word in words_of(path.stem) if not re.fullmatch(r"b\d+a?", word)}
    if words & _SAR_WORDS:
        return Kind.SAR
    return Kind.IR if words & IR_WORDS else None


def _band_words(info: RasterInfo, band: int) -> set[str]:
    values = [value for key, value in info.band_tags[band - 1].items() if not key.startswith("STATISTICS_")]
    return words_of(" ".join([info.descriptions[band - 1] or "", info.colorinterp[band - 1], *values]))


def _guess_by_values(bands: Image, valid: Mask, dtype: str) -> Guess:
    """Guess from values (B, H, W) in the file's units; a single grey band without evidence counts as infrared."""
    if dtype.startswith("float") and valid.any():
        low, middle, high = np.percentile(bands[:2, valid], [1, 50, 99])
        if low > -80 and middle < -2 and high < 30:
            return Guess(Kind.SAR, True, "values in decibels")
    is_grey = all(np.array_equal(bands[0], band) for band in bands[1:])  # perhaps stored as colours
    distinct = bands[:1] if is_grey else bands
    if len(distinct) >= 3:
        return Guess(Kind.OPTICAL, True, f"{len(distinct)} bands that differ")
    if any(is_speckled(band, valid) for band in distinct):
        return Guess(Kind.SAR, True, "speckle as of a radar")
    return Guess(Kind.IR, False, "one grey band and no other evidence")


def _usable_windows(band: Image, valid: Mask) -> Array:
    """Cut out windows, valid throughout and neither dark nor saturated: (N, 16, 16), with the whites near 1."""
    windows = _windows(band)[_windows(valid).all(axis=(1, 2))]
    if len(windows) == 0:
        return windows
    windows = windows / max(percentile(band.ravel() if valid.all() else band[valid], 99.5), 1e-12)
    mean = windows.mean(axis=(1, 2))
    # Shadow and water hold quantisation noise, saturated places hold none.
    usable: Array = windows[(mean > 0.3 * np.median(mean)) & (mean < 0.9)]
    return usable


def _windows(image: Array) -> Array:
    """Cut (H, W) into (N, 16, 16)."""
    rows, columns = image.shape[0] // _WINDOW, image.shape[1] // _WINDOW
    whole = image[: rows * _WINDOW, : columns * _WINDOW].reshape(rows, _WINDOW, columns, _WINDOW)
    cut: Array = whole.swapaxes(1, 2).reshape(-1, _WINDOW, _WINDOW)
    return cut


def _median_skewness(windows: Array) -> float:
    away = windows - windows.mean(axis=(1, 2), keepdims=True)
    square = away * away
    spread = np.sqrt(square.mean(axis=(1, 2)))
    return float(np.median((square * away).mean(axis=(1, 2)) / (spread + 1e-3) ** 3))


def _haar(windows: Array) -> tuple[Array, Array]:
    """Return mean and diagonal detail of every 2 x 2 pixels; the latter carries noise, but hardly any edge."""
    a, b = windows[:, ::2, ::2], windows[:, ::2, 1::2]
    c, d = windows[:, 1::2, ::2], windows[:, 1::2, 1::2]
    return (a + b + c + d) / 4, (a - b - c + d) / 2

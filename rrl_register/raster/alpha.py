"""Alpha bands: which ones hold opacity, and from which value on there is data.

Writers tag the fourth band of four as alpha by default, infrared or not, and store opacity on scales of their own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio.shutil
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader, MemoryFile
from rasterio.windows import Window

from rrl_register.geometry.arrays import Array

IR_WORDS = frozenset(
    {"ir", "nir", "nir08", "nir09", "swir", "swir16", "swir22", "mwir", "lwir", "tir", "tirs", "thermal", "infrared"}
    | {"b8", "b08", "b8a", "b11", "b12", "rededge"}  # Sentinel-2
)
_MASK_WORDS = frozenset({"alpha", "mask", "opacity", "transparency", "valid", "validity", "coverage"})
_SAMPLED, _PLACES = 64, 5
"""Side of the parts of a band that are looked at, px, and their number along each axis."""
_SMALL = 2**18
"""A band of so many pixels is looked at whole."""
_FLAT = 0.5
"""Share of the pixels with data that are fully opaque, at least, in a mask."""
_MAX_LOOKS = 64
_TAGGED, _UNTAGGED = "<ColorInterp>Alpha</ColorInterp>", '<ColorInterp was="Alpha">Undefined</ColorInterp>'


def words_of(text: str) -> set[str]:
    """Split names and tags into lower-case words."""
    return set(re.split(r"[^a-z0-9]+", text.lower()))


def alpha_band(dataset: DatasetReader) -> int | None:
    """Return the first band, 1-based, that is tagged as alpha; None if there is none."""
    return next((band for band, colour in enumerate(dataset.colorinterp, 1) if colour is ColorInterp.alpha), None)


def least_opacity(dataset: DatasetReader, band: int) -> float:
    """Return the opacity from which a pixel has data: half of the largest one, which may be 1, 255 or 65535."""
    return max(_look(dataset, band).largest / 2, 1e-6)


def measures(dataset: DatasetReader, band: int) -> bool:
    """Return true if a band that is tagged as alpha holds measurements, by its name or else by its values.

    Most of a mask has one value, opaque; a ramp at its edges and transparent pixels are the rest.
    """
    named = words_of(dataset.descriptions[band - 1] or "")
    if named & (IR_WORDS | _MASK_WORDS):
        return not named & _MASK_WORDS
    return not _look(dataset, band).flat


def without_alpha(dataset: DatasetReader) -> str:
    """Describe the same raster with no band tagged as alpha, as a VRT that GDAL opens in place of a name."""
    with MemoryFile(ext=".vrt") as memory:
        rasterio.shutil.copy(dataset, memory.name, driver="VRT")
        text: str = memory.read().decode()
    return text.replace(_TAGGED, _UNTAGGED)


def untagged_bands(dataset: DatasetReader) -> tuple[int, ...]:
    """List the bands, 1-based, of a raster opened by ``without_alpha`` that were tagged as alpha."""
    bands = dataset.name.split("<VRTRasterBand") if dataset.name.startswith("<VRTDataset") else []
    return tuple(band for band, text in enumerate(bands) if _UNTAGGED in text)


class _Look(NamedTuple):
    """Largest value of a sample of a band, and true if most values but 0 are this one."""

    largest: float
    flat: bool


_looks: dict[tuple[object, ...], _Look] = {}
"""A file is opened many times and looked at once."""


def _look(dataset: DatasetReader, band: int) -> _Look:
    stats = [Path(file).stat() for file in dataset.files if Path(file).is_file()]
    key = (dataset.name, band, *((stat.st_mtime_ns, stat.st_size) for stat in stats))
    if key not in _looks:
        values = _sample(dataset, band)
        shown = values[values > 0]
        largest = float(shown.max()) if shown.size else 0.0
        if len(_looks) >= _MAX_LOOKS:
            _looks.clear()
        _looks[key] = _Look(largest, not shown.size or bool(np.mean(shown == largest) >= _FLAT))
    return _looks[key]


def _sample(dataset: DatasetReader, band: int) -> Array:
    """Read values from all over a band."""
    if dataset.width * dataset.height <= _SMALL:
        return np.asarray(dataset.read(band)).ravel()
    rows, columns = (np.linspace(0, side - min(side, _SAMPLED), _PLACES).astype(int).tolist() for side in dataset.shape)
    parts = [dataset.read(band, window=Window(x, y, _SAMPLED, _SAMPLED)).ravel() for y in rows for x in columns]
    return np.concatenate(parts)

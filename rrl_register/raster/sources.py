"""Sources: images that are read in parts, from arrays or from files that several threads read at once."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile

from rrl_register.errors import RegistrationError, UsageError
from rrl_register.geometry.arrays import Array, Mask
from rrl_register.geometry.window import Box
from rrl_register.raster.geotiff import layout
from rrl_register.raster.grid import Grid
from rrl_register.raster.reader import gdal_offline, open_dataset, open_quietly, unreadable
from rrl_register.raster.region import Declared

_STORED_AS = {"bool": "uint8", "float16": "float32"}
"""Types that GDAL does not know, and types that hold their values."""
_KINDS = "biufc"
"""Numpy's kinds of pixel types: boolean, integer, floating, complex."""


@dataclass(frozen=True, eq=False)
class ImageArray:
    """An image in memory with its georeference, mask and band names.

    Attributes:
        values: (H, W) or (B, H, W), boolean, integer, floating or complex. NaN stands for no data.
        grid: Size and georeference; None: not georeferenced.
        valid: (H, W) bool, pixels with data; None: those that are finite in all bands.
        names: Names of the bands, such as ``red``, ``nir``, ``VV``; the kind of the image is guessed from them.

    Raises:
        UsageError: Shapes or types do not fit.
    """

    values: npt.NDArray[Any]
    grid: Grid | None = None
    valid: npt.NDArray[np.bool_] | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        values, shape = self.values, self.values.shape[-2:]
        if values.ndim not in (2, 3) or min(values.shape) < 1 or values.dtype.kind not in _KINDS:
            raise UsageError(f"The array is {values.dtype} {values.shape}; it has to hold numbers (H, W) or (B, H, W)")
        if values.ndim == 3 and values.shape[2] <= 4 < min(values.shape[:2]):
            raise UsageError(f"The array is {values.shape}; bands come first, (B, H, W); try np.moveaxis(a, -1, 0)")
        if self.grid is not None and self.grid.shape != shape:
            raise UsageError(f"The array has {shape} px, its grid {self.grid.shape}; (rows, columns) have to agree")
        if self.valid is not None and (self.valid.shape != shape or self.valid.dtype != np.bool_):
            raise UsageError(f"The mask is {self.valid.dtype} {self.valid.shape}; bool {shape} is needed, True: data")
        if self.names and len(self.names) != len(self.bands):
            raise UsageError(f"There are {len(self.names)} names for {len(self.bands)} bands; give one each, or none")

    @property
    def bands(self) -> npt.NDArray[Any]:
        """(B, H, W), of a type that files can hold."""
        values = self.values if self.values.ndim == 3 else self.values[None]
        return values.astype(_STORED_AS.get(values.dtype.name, values.dtype), copy=False)

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(H, W), where ``valid`` is not False and all bands are finite, except those that are so nowhere."""
        known = np.isfinite(self.bands)
        finite = np.all(known[known.any(axis=(1, 2))], axis=0) & known.any()
        return np.asarray(finite if self.valid is None else finite & self.valid)

    @property
    def known_grid(self) -> Grid:
        """``grid``, or one without georeference."""
        return self.grid or Grid(self.values.shape[-1], self.values.shape[-2])


ImageLike: TypeAlias = str | os.PathLike[str] | npt.NDArray[Any] | ImageArray
"""A file's path, a plain array (H, W) or (B, H, W), or an array with its georeference and mask."""


def as_image(image: ImageLike) -> Path | ImageArray:
    """Distinguish files from arrays.

    Raises:
        UsageError: It is neither, or an array that is no image.
    """
    if isinstance(image, str | os.PathLike):
        return Path(image)
    if isinstance(image, ImageArray):
        return image
    if isinstance(image, np.ndarray):
        return ImageArray(image)
    raise UsageError(
        f"An image of type {type(image).__name__} is neither a path nor a numpy array nor an ImageArray; "
        "use rrl_register.xarray for xarray's arrays"
    )


@contextmanager
def as_path(image: ImageLike, called: str) -> Iterator[Path]:
    """Yield a path that GDAL opens within the block; an array lies in GDAL's memory, not on the disk.

    Args:
        image: A file or an array.
        called: The name of an array in errors.

    Raises:
        UsageError: It is no image.
    """
    found = as_image(image)
    if isinstance(found, Path):
        yield found
        return
    with MemoryFile(ext=".tif") as memory:
        _write(memory, found)
        try:
            yield Path(memory.name)
        except RegistrationError as error:
            raise type(error)(str(error).replace(memory.name, called)) from error


def _write(memory: MemoryFile, image: ImageArray) -> None:
    bands = image.bands
    # Without a photometric interpretation GDAL takes the first bands for colours.
    stored = {"BIGTIFF": "IF_SAFER", "PHOTOMETRIC": "MINISBLACK"}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(**layout(image.known_grid, len(bands), bands.dtype.name, None), **stored) as target:
            target.write(bands)
            if image.names:
                target.descriptions = image.names
            if image.valid is not None:
                target.write_mask(image.valid)


class Source(Protocol):
    """An image that can be read in parts."""

    shape: tuple[int, int]
    count: int
    dtype: np.dtype[Any]

    def read(self, band: int, box: Box) -> tuple[Array, Mask | None]:
        """Read a band, 0-based, within a box inside the image; return it and where it has data (None: everywhere)."""
        ...


class ArraySource:
    """Bands in memory: of an image, or of a part of it.

    Args:
        bands: (B, h, w), any real or complex type.
        valid: (h, w) bool, pixels with data.
        part: Where the arrays lie in the image; None: they are all of it.
        shape: (rows, columns) of the image; None: that of the arrays.
    """

    def __init__(
        self, bands: Array, valid: Mask, part: Box | None = None, shape: tuple[int, int] | None = None
    ) -> None:
        self._bands, self._valid = bands, valid
        self._part = part or Box.of_shape(valid.shape)
        self.shape: tuple[int, int] = shape or self._part.shape
        self.count = len(bands)
        self.dtype = bands.dtype

    def read(self, band: int, box: Box) -> tuple[Array, Mask | None]:
        """See ``Source``; the box has to lie in the part that the arrays cover."""
        place = box.slices_from(self._part)
        return self._bands[band][place], self._valid[place]


class FileSource:
    """A raster file; each thread that reads opens it for itself, because GDAL's datasets cannot be shared.

    Attributes:
        dataset: The file, for the thread that created this.
        shape: (rows, columns).
        count: Bands.
        has_palette: Whether values are indices of colours, which cannot be mixed.
        dtype: Type of the arrays that are read.
    """

    def __init__(self, path: Path) -> None:
        with open_dataset(path) as dataset:  # raises errors of one line
            self._name: str = dataset.name
        self._path, self._opened, self._lock, self._own = path, ExitStack(), threading.Lock(), threading.local()
        self.dataset = self._reader()
        self.shape: tuple[int, int] = self.dataset.shape
        self.count: int = self.dataset.count
        self.has_palette = ColorInterp.palette in self.dataset.colorinterp
        dtype = self.dataset.dtypes[0]
        # GDAL returns its complex integers as complex floats.
        self.dtype = np.dtype("complex64" if dtype == "complex_int16" else dtype)
        self._declared = Declared.of(self.dataset)

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def is_alpha(self, band: int) -> bool:
        """Return true if a band, 0-based, holds opacity."""
        return band + 1 == self._declared.alpha

    def read(self, band: int, box: Box) -> tuple[Array, Mask | None]:
        """See ``Source``.

        Raises:
            InputError: The file cannot be read.
        """
        try:
            with gdal_offline(self._path):  # so that GDAL raises its errors in every thread and does not print them
                return self._declared.read(self._reader(), band + 1, box.window())
        except RasterioError as error:
            raise unreadable(self._path, error) from error

    def _reader(self) -> DatasetReader:
        if not hasattr(self._own, "dataset"):
            dataset = open_quietly(self._name)
            # Closed instead of left as a context, which rasterio allows only in the thread that entered it.
            with self._lock:
                self._opened.callback(dataset.close)
            self._own.dataset = dataset
        found: DatasetReader = self._own.dataset
        return found

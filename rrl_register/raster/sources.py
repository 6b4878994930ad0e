"""Sources: images that are read in parts, from arrays or from files that several threads read at once."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from rrl_register.geometry.arrays import Array, Mask
from rrl_register.geometry.window import Box
from rrl_register.raster.reader import gdal_offline, open_dataset, open_quietly, unreadable
from rrl_register.raster.region import Declared


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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

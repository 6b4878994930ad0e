"""Patches of an aligned stack, in a fixed order, for training and for prediction."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from rrl_register.errors import UsageError
from rrl_register.fusion.aligned_stack import AlignedStack
from rrl_register.geometry.arrays import Mask
from rrl_register.geometry.window import Box
from rrl_register.raster.reader import gdal_name, open_dataset, open_quietly, unreadable

StackLike = AlignedStack | npt.NDArray[Any] | str | os.PathLike[str]
"""A stack, an array (B, H, W) with NaN for no data, or a raster file."""


class StackPatch(NamedTuple):
    """A square part of a stack.

    Attributes:
        data: (B, size, size) of the stack's type, ``fill`` where a band has no data.
        valid: (size, size) bool, where all bands have data.
        row, column: Its first pixel in the stack.
    """

    data: npt.NDArray[Any]
    valid: Mask
    row: int
    column: int


class Patches:
    """The patches of a stack, row by row, without those with too little data.

    A stack in a file is read in windows; only its path is kept, so that the object can be sent to worker processes. The
    last patch of a row or column is moved inwards, so that every pixel is in a patch.

    Arguments and errors are those of ``iter_patches``.

    Attributes:
        places: (row, column) of each patch's first pixel.
    """

    def __init__(
        self, stack: StackLike, size: int = 256, stride: int | None = None, min_valid: float = 0.5, fill: float = 0.0
    ) -> None:
        step = size if stride is None else stride
        if size < 1 or step < 1:
            raise UsageError(f"patches of {size} px every {step} px; needed at least 1 px for both")
        if not 0 <= min_valid <= 1:
            raise UsageError(f"a share of valid pixels of {min_valid:g}; needed 0 to 1")
        self.size, self.fill, self._source = size, fill, _source(stack)
        height, width = self._source.shape
        if min(height, width) < size:
            raise UsageError(
                f"a stack of {width} x {height} px; needed {size} px a side for a patch; try a smaller size"
            )
        rows, columns = (np.array([*range(0, side - size, step), side - size]) for side in (height, width))
        needed = math.ceil(min_valid * size**2 - 1e-9)
        self.places: list[tuple[int, int]] = []
        for row in rows.tolist():
            valid = self._source.read(Box(row, row + size, 0, width))[1].all(axis=0)
            up_to = np.concatenate([[0], np.cumsum(valid.sum(axis=0))])
            chosen = columns[up_to[columns + size] - up_to[columns] >= needed]
            self.places += [(row, column) for column in chosen.tolist()]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> StackPatch:
        row, column = self.places[index]
        data, known = self._source.read(Box(row, row + self.size, column, column + self.size))
        filled = np.where(known, data, data.dtype.type(self.fill))
        return StackPatch(filled, np.asarray(known.all(axis=0)), row, column)

    def __iter__(self) -> Iterator[StackPatch]:
        return (self[index] for index in range(len(self)))


def iter_patches(
    stack: StackLike, size: int = 256, stride: int | None = None, min_valid: float = 0.5, fill: float = 0.0
) -> Iterator[StackPatch]:
    """Cut an aligned stack into patches, row by row.

    Args:
        stack: The result of ``align_stack``, an array (B, H, W) with NaN for no data, or any raster file.
        size: Side of the patches, px.
        stride: Distance from one patch to the next, px; None: ``size``. The last ones are moved inwards to the edge.
        min_valid: Smallest share of pixels in which all bands have data, 0 to 1; other patches are left out.
        fill: Value of pixels without data.

    Returns:
        An iterator over the patches.

    Raises:
        UsageError: The stack is smaller than a patch, or of an unknown type; or a setting is out of range.
        InputError: The file cannot be read.
    """
    return iter(Patches(stack, size, stride, min_valid, fill))


class _ArrayStack:
    """A stack in memory."""

    def __init__(self, data: npt.NDArray[Any]) -> None:
        if data.ndim != 3 or data.dtype.kind not in "biuf":
            raise UsageError(f"a stack {data.shape} of {data.dtype}; needed real numbers (B, H, W)")
        self._data = data
        self.shape: tuple[int, int] = data.shape[1:]

    def read(self, box: Box) -> tuple[npt.NDArray[Any], Mask]:
        """Read values and their validity, (B, h, w) each."""
        data = self._data[:, box.top : box.bottom, box.left : box.right]
        return data, np.isfinite(data)


class _FileStack:
    """A stack in a file, opened once in every thread of every process, because open datasets must not be shared."""

    def __init__(self, path: Path) -> None:
        self._path, self._own = path, threading.local()
        with open_dataset(path) as dataset:
            self.shape: tuple[int, int] = dataset.shape

    def __reduce__(self) -> tuple[type[_FileStack], tuple[Path]]:
        return _FileStack, (self._path,)

    def read(self, box: Box) -> tuple[npt.NDArray[Any], Mask]:
        """Read values and their validity, (B, h, w) each."""
        own = self._own
        try:
            # A forked process inherits open datasets, and would share the file position with its parent.
            if getattr(own, "process", None) != os.getpid():
                own.dataset, own.process = open_quietly(gdal_name(self._path)), os.getpid()
            dataset: DatasetReader = own.dataset
            data, masks = dataset.read(window=box.window()), dataset.read_masks(window=box.window())
        except RasterioError as error:
            raise unreadable(self._path, error) from error
        return data, (masks > 0) & np.isfinite(data)


def _source(stack: StackLike) -> _ArrayStack | _FileStack:
    found = stack.store if isinstance(stack, AlignedStack) else stack
    if isinstance(found, np.ndarray):
        return _ArrayStack(found)
    if isinstance(found, str | os.PathLike):
        return _FileStack(Path(found))
    raise UsageError(f"a stack of the type {type(found).__name__}; needed an AlignedStack, an array or a path")

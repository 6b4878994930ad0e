"""Aligned stacks: bands of several images on one grid, and the layers that they are read from and written by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rrl_register.config import Resampling, WarpConfig
from rrl_register.errors import UsageError
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.window import Box
from rrl_register.raster.geotiff import create, layout, storage_options
from rrl_register.raster.grid import Grid
from rrl_register.raster.reader import open_dataset, open_info
from rrl_register.raster.sources import ImageArray
from rrl_register.raster.writer import atomic_path
from rrl_register.warping.apply import open_view
from rrl_register.warping.warp import View, require_block_size


class StackMember(NamedTuple):
    """An image of the request.

    Attributes:
        label: Its name.
        registration: Its result; None for the reference, and if the registration did not start.
        reason: Reason why it is not in the stack; empty if it is.
    """

    label: str
    registration: Registration | None
    reason: str


class StackBand(NamedTuple):
    """A band of the stack.

    Attributes:
        name: The image's label and the band's name in it, or its number, such as ``optical:red`` or ``sar:1``.
        label: Label of its image.
        band: Its number in that image, 1-based.
    """

    name: str
    label: str
    band: int


@dataclass(frozen=True, eq=False)
class AlignedStack:
    """Bands of several images on the grid of the first one, in memory or in a file.

    Attributes:
        grid: Grid of the reference.
        bands: The bands, in the order of ``data``.
        members: All images of the request, the reference first, including those left out.
        store: The array (B, H, W), or the GeoTIFF that holds it.
    """

    grid: Grid
    bands: tuple[StackBand, ...]
    members: tuple[StackMember, ...]
    store: npt.NDArray[Any] | Path

    @property
    def path(self) -> Path | None:
        """The GeoTIFF; None for a stack in memory."""
        return self.store if isinstance(self.store, Path) else None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands."""
        return tuple(band.name for band in self.bands)

    @property
    def data(self) -> npt.NDArray[Any]:
        """(B, H, W) float32 or float64, NaN where a band's image has no data; read whole from a file.

        Raises:
            InputError: The file cannot be read.
        """
        if not isinstance(self.store, Path):
            return self.store
        with open_dataset(self.store) as dataset:
            return np.asarray(dataset.read())

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """(H, W) bool, true where all bands have data."""
        return np.asarray(np.isfinite(self.data).all(axis=0))

    @property
    def valid_by_image(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Masks (H, W) by label, true where all bands of that image have data; without images left out."""
        finite = np.isfinite(self.data)
        places: dict[str, list[int]] = {}
        for place, band in enumerate(self.bands):
            places.setdefault(band.label, []).append(place)
        return {label: np.asarray(finite[chosen].all(axis=0)) for label, chosen in places.items()}


@dataclass(frozen=True)
class Layer:
    """An image of a stack.

    Attributes:
        label: Its name.
        view: The image on the reference's grid.
        names: Names of its bands in the stack, by their 1-based number in the image.
    """

    label: str
    view: View
    names: dict[int, str]

    def read(self, box: Box, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Read a block, (B, h, w) of a floating type, NaN where the image has no data."""
        values, valid = self.view.read(box)
        return np.where(valid, values, np.nan).astype(dtype)


@contextmanager
def open_layer(image: Path | ImageArray, member: StackMember, resampling: Resampling) -> Iterator[Layer]:
    """Open an image on the reference's grid; the reference itself is not resampled.

    Raises:
        InputError: The image cannot be read, or its registration belongs to another one.
    """
    placed = member.registration.grid_transform if member.registration else None
    with open_view(image, placed, resampling) as view:
        given = image.names if isinstance(image, ImageArray) else open_info(image).descriptions
        names = {band + 1: f"{member.label}:{(given[band] if given else None) or band + 1}" for band in view.bands}
        yield Layer(member.label, view, names)


def check_layers(layers: Sequence[Layer]) -> None:
    """Check that the bands are real.

    Raises:
        UsageError: An image is complex.
    """
    for layer in layers:
        if layer.view.source.dtype.kind == "c":
            raise UsageError(f"{layer.label} is complex; a stack needs real bands; try np.abs, or an amplitude image")


def as_arrays(layers: Sequence[Layer], grid: Grid, config: WarpConfig) -> npt.NDArray[Any]:
    """Read all bands into an array (B, H, W), NaN where their image has no data."""
    dtype, everything = _dtype(layers), Box(0, grid.height, 0, grid.width)
    data = np.empty((sum(len(layer.names) for layer in layers), *grid.shape), dtype)
    for block in Box.of_shape(grid.shape).blocks(config.block_size):
        rows, columns = block.slices_from(everything)
        data[:, rows, columns] = _read(layers, block, dtype)
    return data


def write_layers(layers: Sequence[Layer], grid: Grid, output: Path, config: WarpConfig, overwrite: bool) -> None:
    """Write all bands as one GeoTIFF, block by block and atomically.

    Raises:
        OutputExistsError, UsageError, WriteError: The file cannot be written.
    """
    require_block_size(config.block_size)
    dtype, names = _dtype(layers), [name for layer in layers for name in layer.names.values()]
    profile = layout(grid, len(names), dtype.name, math.nan) | storage_options(len(names), dtype.name, config)
    with atomic_path(output, overwrite) as temporary, create(temporary, output, profile) as target:
        target.descriptions = names
        for block in Box.of_shape(grid.shape).blocks(config.block_size):
            target.write(_read(layers, block, dtype), window=block.window())


def _read(layers: Sequence[Layer], block: Box, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.concatenate([layer.read(block, dtype) for layer in layers])


def _dtype(layers: Sequence[Layer]) -> np.dtype[Any]:
    """Return the stack's type: float32, or float64 if an image needs it."""
    return np.result_type(np.float32, *(layer.view.source.dtype for layer in layers))

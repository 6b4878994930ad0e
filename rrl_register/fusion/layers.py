"""Images of a stack, resampled on the reference's grid and written as one array or file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rrl_register.config import Resampling, WarpConfig
from rrl_register.errors import UsageError
from rrl_register.fusion.stack_result import StackMember
from rrl_register.geometry.window import Box
from rrl_register.raster.geotiff import create, layout, storage_options
from rrl_register.raster.grid import Grid
from rrl_register.raster.image_array import ImageArray
from rrl_register.raster.reader import open_info
from rrl_register.raster.writer import atomic_path
from rrl_register.warping.apply import open_view
from rrl_register.warping.warp import View, require_block_size


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
        yield Layer(member.label, view, _names(image, member.label, view.bands))


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


def _names(image: Path | ImageArray, label: str, bands: Sequence[int]) -> dict[int, str]:
    given = image.names if isinstance(image, ImageArray) else open_info(image).descriptions
    return {band + 1: f"{label}:{(given[band] if given else None) or band + 1}" for band in bands}

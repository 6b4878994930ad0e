"""Result of ``align_stack``: bands on one grid, their sources and their validity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rrl_register.exchange.registration import Registration
from rrl_register.raster.grid import Grid
from rrl_register.raster.reader import open_dataset


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

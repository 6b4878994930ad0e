"""A displacement for every pixel of a fixed grid, interpolated from a lattice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates, spline_filter

from rrl_register.estimation.displacement import Displacement

CELLS = 128
"""Cells of the lattice along the longer side: a dozen for each knot of a thin plate, so that splines follow it."""
_MIN_STEP = 4.0
_MARGIN = 8
"""Nodes beyond the grid's edge: what the splines take for granted there has faded out at the edge."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DisplacementField:
    """A displacement sampled once for a whole fixed grid, so that no pixel's value depends on how the grid is cut.

    Attributes:
        splines: (2, rows, columns) cubic spline coefficients of the displacements along x and along y, fixed px.
        step: Fixed px between nodes.
    """

    splines: Array
    step: float

    @classmethod
    def over(cls, displacement: Displacement, shape: tuple[int, ...]) -> DisplacementField:
        """Sample a displacement over a fixed grid of a shape (rows, columns)."""
        step = max(_MIN_STEP, max(shape[:2]) / CELLS)
        rows, columns = (
            (np.arange(np.ceil((side - 1) / step) + 1 + 2 * _MARGIN) - _MARGIN) * step for side in shape[:2]
        )
        nodes = np.stack(np.meshgrid(columns, rows), axis=-1)
        sampled = displacement.at(nodes.reshape(-1, 2)).reshape(nodes.shape)
        return cls(np.stack([spline_filter(sampled[..., axis], order=3, mode="mirror") for axis in (0, 1)]), step)

    def at(self, columns: Array, rows: Array) -> tuple[Array, Array]:
        """Displacements along x and along y, (h, w) each, of the pixels of columns (w,) and rows (h, 1)."""
        places = np.stack(np.broadcast_arrays(rows, columns)) / self.step + _MARGIN
        along_x, along_y = (
            map_coordinates(spline, places, order=3, mode="mirror", prefilter=False) for spline in self.splines
        )
        return along_x, along_y

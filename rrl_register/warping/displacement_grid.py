"""A displacement for every pixel of a grid, interpolated from a lattice of nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import RectBivariateSpline

from rrl_register.geometry.arrays import Points
from rrl_register.geometry.window import Box
from rrl_register.parallel import parallel_map

CELLS = 128
"""Cells of the lattice along the longer side: a dozen per knot of a thin plate, so that splines follow it."""
_NODES_PER_TASK = 2048
"""Nodes whose displacements one thread computes at a time."""
_MIN_STEP = 4.0
_MARGIN = 8
"""Nodes beyond the edge of the box: end conditions of the splines have faded out at the edge."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DisplacementGrid:
    """A displacement sampled once for all of a grid, so that no pixel's value depends on how the grid is cut.

    Attributes:
        splines: Cubic splines (row, column) of the displacements along x and along y, px.
        step: Px between nodes.
        box: Pixels that are sampled; a pixel outside is displaced as the nearest one inside.
    """

    splines: tuple[RectBivariateSpline, RectBivariateSpline]
    step: float
    box: Box

    @classmethod
    def sample(cls, displacement: Callable[[Points], Points], box: Box) -> DisplacementGrid:
        """Sample a displacement over a box of pixels.

        Args:
            displacement: Maps places (N, 2) to their displacements (N, 2), px.
            box: Where it is needed.
        """
        step = max(_MIN_STEP, max(box.shape) / CELLS)
        rows, columns = (
            start + (np.arange(np.ceil((side - 1) / step) + 1 + 2 * _MARGIN) - _MARGIN) * step
            for start, side in ((box.top, box.shape[0]), (box.left, box.shape[1]))
        )
        places = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
        tasks = [places[first : first + _NODES_PER_TASK] for first in range(0, len(places), _NODES_PER_TASK)]
        sampled = np.concatenate(parallel_map(displacement, tasks)).reshape(len(rows), len(columns), 2)
        along_x, along_y = (RectBivariateSpline(rows, columns, sampled[..., axis]) for axis in (0, 1))
        return cls((along_x, along_y), step, box)

    def at(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Interpolate the displacements along x and along y, (h, w) each, at ascending columns (w,) and rows (h,)."""
        x = np.clip(columns, self.box.left, self.box.right - 1)
        y = np.clip(rows, self.box.top, self.box.bottom - 1)
        along_x, along_y = (spline(y, x) for spline in self.splines)
        return along_x, along_y

"""A displacement for every pixel of a grid, interpolated from a lattice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import spline_filter

from rrl_register.geometry.window import Box
from rrl_register.parallel import parallel_map

CELLS = 128
"""Cells of the lattice along the longer side: a dozen for each knot of a thin plate, so that splines follow it."""
_AT_ONCE = 2048
"""Nodes whose displacements are found by one thread."""
_MIN_STEP = 4.0
_MARGIN = 8
"""Nodes beyond the box's edge: what the splines take for granted there has faded out at the edge."""

Array = npt.NDArray[np.float64]
Weights = tuple[Array, Array, Array, Array]


@dataclass(frozen=True)
class DisplacementField:
    """A displacement sampled once for all of a grid, so that no pixel's value depends on how the grid is cut.

    Attributes:
        splines: (2, rows, columns) cubic B-spline coefficients of the displacements along x and along y, px.
        step: Px between nodes.
        box: Pixels that are sampled; one outside is displaced as the nearest one of them is.
    """

    splines: Array
    step: float
    box: Box

    @classmethod
    def over(cls, displacement: Callable[[Array], Array], box: Box) -> DisplacementField:
        """Sample a displacement over a box of pixels.

        Args:
            displacement: Gives the displacements (N, 2), px, of places (N, 2).
            box: Where it is needed.
        """
        step = max(_MIN_STEP, max(box.shape) / CELLS)
        rows, columns = (
            start + (np.arange(np.ceil((side - 1) / step) + 1 + 2 * _MARGIN) - _MARGIN) * step
            for start, side in ((box.top, box.shape[0]), (box.left, box.shape[1]))
        )
        nodes = np.stack(np.meshgrid(columns, rows), axis=-1)
        places = nodes.reshape(-1, 2)
        parts = [places[first : first + _AT_ONCE] for first in range(0, len(places), _AT_ONCE)]
        sampled = np.concatenate(parallel_map(displacement, parts)).reshape(nodes.shape)
        splines = np.stack([spline_filter(sampled[..., axis], order=3, mode="mirror") for axis in (0, 1)])
        return cls(splines, step, box)

    def at(self, columns: Array, rows: Array) -> tuple[Array, Array]:
        """Displacements along x and along y, (h, w) each, of the pixels of columns (w,) and rows (h, 1).

        Pixels lie in rows and columns, so splines are evaluated along one and then the other. Written out, since a
        matrix product may round differently from one block to the next.
        """
        column, weights_x = self._nodes(columns, self.box.left, self.box.right)
        row, weights_y = self._nodes(rows, self.box.top, self.box.bottom)
        start, stop = int(column.min()) - 1, int(column.max()) + 3
        first = column - 1 - start
        along_x, along_y = (
            _weighted(_weighted(spline[:, start:stop], row - 1, weights_y, 0), first, weights_x, 1)
            for spline in self.splines
        )
        return along_x, along_y

    def _nodes(self, places: Array, low: int, high: int) -> tuple[npt.NDArray[np.intp], Weights]:
        """The node at or before each place, and the weights of that before it, it and the two after it."""
        scaled = (np.clip(places, low, high - 1) - low) / self.step + _MARGIN
        node = np.floor(scaled)
        return node.astype(np.intp).reshape(-1), _spline_weights(scaled - node)


def _weighted(values: Array, first: npt.NDArray[np.intp], weights: Weights, axis: int) -> Array:
    """Weighted sum of four neighbours along an axis, from the first on."""
    total = weights[0] * values.take(first, axis=axis)
    for offset in (1, 2, 3):
        total += weights[offset] * values.take(first + offset, axis=axis)
    return total


def _spline_weights(t: Array) -> Weights:
    """Cubic B-spline at the nodes before, at, after and two after a place at t in [0, 1)."""
    return (
        (1 - t) * (1 - t) * (1 - t) / 6,
        (0.5 * t - 1) * t * t + 2 / 3,
        ((-0.5 * t + 0.5) * t + 0.5) * t + 1 / 6,
        t * t * t / 6,
    )

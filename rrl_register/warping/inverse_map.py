"""The way back from an output grid to the moving image: which pixels a block needs, and where it samples them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rrl_register.config import Resampling
from rrl_register.errors import UsageError
from rrl_register.geometry.arrays import Array, Mask, Matrix, Points
from rrl_register.geometry.window import Box
from rrl_register.parallel import parallel_map
from rrl_register.warping.interpolation import CHUNK, MARGIN, SamplePoints

if TYPE_CHECKING:
    from scipy.interpolate import RectBivariateSpline

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
        # SciPy's splines take 0.1 s to import, and most transforms are a matrix alone.
        from scipy.interpolate import RectBivariateSpline

        along_x, along_y = (RectBivariateSpline(rows, columns, sampled[..., axis]) for axis in (0, 1))
        return cls((along_x, along_y), step, box)

    def at(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Interpolate the displacements along x and along y, (h, w) each, at ascending columns (w,) and rows (h,)."""
        x = np.clip(columns, self.box.left, self.box.right - 1)
        y = np.clip(rows, self.box.top, self.box.bottom - 1)
        along_x, along_y = (spline(y, x) for spline in self.splines)
        return along_x, along_y


_MAX_WINDOW_PX = 2048 * 2048
"""Largest window of the source that is read at once for one band; a block that needs more is cut."""
_SNAP = 2.0**20
"""Coordinates are rounded to this part of a pixel, so that rounding noise does not turn a whole shift into a blur, and
so that the fraction of a pixel fits into a float32."""
_SMALLEST_AREA = 1e-12
"""A matrix that shrinks the central pixel to less than this part of its area counts as singular."""
OUTSIDE = -(2**30)
"""Column of a place that is not in the source; far enough off for any image."""


@dataclass(frozen=True)
class Patch:
    """A part of the output grid and the places of its pixels in the (averaged) source."""

    box: Box
    inside: Mask | None
    """Pixels of the box that fall into the source; None: all. ``points`` has one place for each."""
    window: Box
    """Part of the averaged source that is needed; it may reach over the edge."""
    points: SamplePoints


@dataclass(frozen=True)
class InverseMap:
    """The way from output pixels back to the source.

    Attributes:
        inverse: (3, 3), output pixel -> source pixel, scaled so that the third coordinate is positive in front of the
            horizon.
        shape: (rows, columns) of the source.
        factor: Source pixels per averaged pixel along each side; 1 unless the transform reduces by 2 or more.
        resampling: Interpolation.
        displacements: Displacement of the output pixels; None: none.
    """

    inverse: Matrix
    shape: tuple[int, int]
    factor: int
    resampling: Resampling
    displacements: DisplacementGrid | None = None

    @classmethod
    def onto(
        cls,
        matrix: npt.ArrayLike,
        shape: tuple[int, int],
        resampling: Resampling,
        displacements: DisplacementGrid | None = None,
    ) -> InverseMap:
        """Invert a matrix source -> output and a displacement, for a source of a shape.

        Raises:
            UsageError: The matrix has no inverse.
        """
        forward = facing_forward(matrix, shape)
        factor = 1 if resampling is Resampling.NEAREST else _reduction(forward, shape)
        return cls(np.linalg.inv(forward).astype(np.float64), shape, factor, resampling, displacements)

    def patches(self, box: Box) -> Iterator[Patch]:
        """Plan a block; cut it if it needs too much of the source at once."""
        left, top, fx, fy = self._split_places(box)
        inside = left != OUTSIDE
        if not inside.any():
            return
        chosen = None if inside.all() else inside
        left, top, fx, fy = (_chosen(side, chosen) for side in (left, top, fx, fy))
        before, after = MARGIN
        low, high = (int(top.min()), int(left.min())), (int(top.max()) + 1, int(left.max()) + 1)
        window = Box(low[0] - before, high[0] + after, low[1] - before, high[1] + after)
        if math.prod(window.shape) * self.factor**2 > _MAX_WINDOW_PX and max(box.shape) > 1:
            for part in box.quarters():
                yield from self.patches(part)
            return
        columns = window.shape[1]
        index = (top - window.top).astype(np.intp) * columns + (left - window.left)
        yield Patch(box, chosen, window, SamplePoints(columns, index, fx, fy))

    def window(self, box: Box) -> Box:
        """Find the part of the source that a block needs, source pixels; empty if the block falls beside it."""
        windows = [patch.window for patch in self.patches(box)]
        if not windows:
            return Box(0, 0, 0, 0)
        top, bottom, left, right = zip(*windows, strict=True)
        reach = min(top), max(bottom), min(left), max(right)
        return Box(*(self.factor * side for side in reach)).within(Box.of_shape(self.shape))

    def _split_places(
        self, box: Box
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Map pixels into the source, (h, w): column (``OUTSIDE`` beside it) and row up left, and the fractions."""
        rows, columns = (math.ceil(side / self.factor) for side in self.shape)
        left, top = np.empty(box.shape, np.int32), np.empty(box.shape, np.int32)
        fx, fy = np.empty(box.shape, np.float32), np.empty(box.shape, np.float32)
        for strip in box.strips(CHUNK):
            part = strip.slices_from(box)
            x, y = self._places(strip)
            outside = ~((x >= -0.5) & (x < columns - 0.5) & (y >= -0.5) & (y < rows - 0.5))
            if outside.any():
                x[outside], y[outside] = OUTSIDE, OUTSIDE
            for places, whole, fraction in ((x, left, fx), (y, top, fy)):
                floor = np.floor(places)
                whole[part] = floor
                fraction[part] = np.subtract(places, floor, out=places)
        return left, top, fx, fy

    def _places(self, box: Box) -> tuple[Floats, Floats]:
        """Map the pixels of a box into the averaged source, (h, w) each; NaN behind the horizon.

        Written out, because a matrix product may round differently from one block to the next.
        """
        u = np.arange(box.left, box.right, dtype=np.float64)
        v = np.arange(box.top, box.bottom, dtype=np.float64)
        if self.displacements is None:
            v = v[:, None]
        else:
            along_x, along_y = self.displacements.at(u, v)
            u, v = u - along_x, v[:, None] - along_y
        x, y, depth = (row[0] * u + (row[1] * v + row[2]) for row in self.inverse)
        if depth.min() <= 0:
            depth[depth <= 0] = np.nan
        for places in (x, y):  # in place, into averaged pixels
            places /= depth
            if self.factor > 1:
                places += 0.5
                places /= self.factor
                places -= 0.5
            places *= _SNAP
            np.rint(places, out=places)
            places /= _SNAP
        return x, y


def _chosen(values: Array, inside: Mask | None) -> Array:
    return values.reshape(-1) if inside is None else values[inside]


def facing_forward(matrix: npt.ArrayLike, shape: tuple[int, int]) -> Matrix:
    """Scale a matrix (3, 3) so that the third coordinate of the source's centre is 1.

    Args:
        matrix: Source pixel -> output pixel.
        shape: (rows, columns) of the source.

    Raises:
        UsageError: The matrix has no inverse.
    """
    given = np.array(matrix, np.float64)
    if given.shape == (3, 3) and np.isfinite(given).all():
        depth = float(given[2] @ ((shape[1] - 1) / 2, (shape[0] - 1) / 2, 1))
        if depth != 0 and abs(np.linalg.det(given / depth)) > _SMALLEST_AREA:
            return given / depth
    raise UsageError(f"Transform {given.tolist()} has no inverse; needed: an invertible 3 x 3 matrix; register again")


def _reduction(forward: Matrix, shape: tuple[int, int]) -> int:
    """Count whole source pixels per output pixel, along each side, in the median over the source."""
    x, y = np.meshgrid(np.linspace(0, shape[1] - 1, 9), np.linspace(0, shape[0] - 1, 9))
    depth = forward[2, 0] * x + forward[2, 1] * y + forward[2, 2]
    # The Jacobian of a homography has the determinant det(H) / depth^3.
    area = depth[depth > 0] ** 3 / abs(np.linalg.det(forward))
    return max(1, math.floor(math.sqrt(np.median(area)) + 1e-6))

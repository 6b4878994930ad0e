"""Least-squares homographies, many at once: the same points under several sets of weights.

Leaving points out block by block fits a homography a few dozen times to points that hardly differ. One pass over arrays
with an axis for the fits costs little more than a single fit does, whose time is that of the calls.

The points come normalised, of a size of about 1 around 0: normal equations square the condition number, and that of
pixel coordinates would be too large for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]

_STEPS = 8
_SETTLED = 1e-8
"""Step, of a matrix of norm 1, after which none is needed: 1e-5 px in an image of 1000 px, and the next one is smaller
by as much as the points' errors are smaller than the image."""
_CLEAR = 1e-12
"""Ratio of eigenvalues from which normal equations show that the points determine a homography: rounding leaves 1e-15,
and of points on one line nothing but that is left."""


def linear_homographies(moving: _Array, fixed: _Array, roots: _Array) -> tuple[_Array, NDArray[np.bool_]]:
    """Direct linear transforms, by the smallest eigenvector of the normal equations.

    Args:
        moving: ``(N, 2)`` normalised points.
        fixed: ``(N, 2)`` corresponding points, normalised.
        roots: ``(B, N)`` of the weights, >= 0, largest about 1.

    Returns:
        ``(B, 3, 3)`` matrices of norm 1, and ``(B,)`` whether the points clearly determine them.
    """
    rows = homography_rows(roots[:, :, None] * _homogeneous(moving), fixed)
    values, vectors = np.linalg.eigh(rows.swapaxes(1, 2) @ rows)
    return vectors[:, :, 0].reshape(-1, 3, 3), values[:, 1] > _CLEAR * values[:, 8]


def gauss_newton(matrices: _Array, moving: _Array, fixed: _Array, roots: _Array) -> _Array:
    """Minimise the weighted squared distances to ``fixed``; of each matrix, only steps that help are taken.

    Args:
        matrices: ``(B, 3, 3)`` to start from, of norm 1.
        moving: ``(N, 2)`` normalised points.
        fixed: ``(N, 2)`` corresponding points, normalised.
        roots: ``(B, N)`` of the weights of the squared residuals, >= 0.

    Returns:
        ``(B, 3, 3)`` matrices of norm 1.
    """
    source, scale = _homogeneous(moving), np.asarray((roots**2).sum(axis=1))[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        best = _state(matrices, source, fixed, roots)
        for _ in range(_STEPS):
            current, depth, target, error, cost = best
            rows = homography_rows((roots / depth)[:, :, None] * source, target)
            flat = current.reshape(-1, 9, 1)
            # A multiple of the matrix maps as it does: that direction, which the points leave open, is closed.
            normal = rows.swapaxes(1, 2) @ rows + scale * flat * flat.swapaxes(1, 2)
            try:
                step = np.linalg.solve(normal, rows.swapaxes(1, 2) @ error[:, :, None])
            except np.linalg.LinAlgError:
                break
            tried = _state(_unit(current - step.reshape(-1, 3, 3)), source, fixed, roots)
            helps = tried[-1] < cost
            if not helps.any():
                break
            best = tried if helps.all() else _chosen(helps, tried, best)
            if np.abs(step[helps]).max() < _SETTLED:
                break
    return best[0]


def homography_rows(source: _Array, target: _Array) -> _Array:
    """Two rows for each point, (s, 0, -u s) and (0, s, -v s): of the linear equations, and of the derivatives.

    Args:
        source: ``(B, N, 3)`` homogeneous points s; over their depth for the derivatives.
        target: ``(B, N, 2)`` or ``(N, 2)`` places (u, v); those that the matrix gives, for the derivatives.

    Returns:
        ``(B, 2 N, 9)``.
    """
    rows = np.zeros((*source.shape[:2], 2, 3, 3))
    rows[:, :, 0, 0] = rows[:, :, 1, 1] = source
    rows[:, :, :, 2] = -target[..., None] * source[:, :, None]
    return rows.reshape(len(source), -1, 9)


_State = tuple[_Array, _Array, _Array, _Array, _Array]


def _state(matrices: _Array, source: _Array, fixed: _Array, roots: _Array) -> _State:
    """Matrices, depths ``(B, N)``, places ``(B, N, 2)``, weighted errors ``(B, 2 N)`` and their squared sums ``(B,)``.

    None of it is finite for a point on the matrix's horizon, and a sum that is not finite is less than none.
    """
    placed = source @ matrices.swapaxes(1, 2)
    depth = placed[:, :, 2]
    target = placed[:, :, :2] / depth[:, :, None]
    error = ((target - fixed) * roots[:, :, None]).reshape(len(matrices), -1)
    return matrices, depth, target, error, np.asarray((error * error).sum(axis=1))


def _chosen(mask: NDArray[np.bool_], first: _State, second: _State) -> _State:
    """Of each matrix, the first state where the mask says so, else the second."""
    chosen = (np.where(mask.reshape(-1, *(1,) * (a.ndim - 1)), a, b) for a, b in zip(first, second, strict=True))
    a, b, c, d, e = chosen
    return a, b, c, d, e


def _homogeneous(points: _Array) -> _Array:
    source = np.ones((len(points), 3))
    source[:, :2] = points
    return source


def _unit(matrices: _Array) -> _Array:
    return np.asarray(matrices / np.sqrt((matrices * matrices).sum(axis=(1, 2), keepdims=True)))

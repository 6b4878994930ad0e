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

_DIFFERENT = np.triu_indices(3)
"""Rows and columns of a symmetric matrix's different elements."""
_SQUARE = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
"""Which of those stands where in the matrix."""


def linear_homographies(moving: _Array, fixed: _Array, weights: _Array) -> tuple[_Array, NDArray[np.bool_]]:
    """Direct linear transforms, by the smallest eigenvector of the normal equations.

    Args:
        moving: ``(N, 2)`` normalised points.
        fixed: ``(N, 2)`` corresponding points, normalised.
        weights: ``(B, N)`` of the squared equations, >= 0, largest about 1.

    Returns:
        ``(B, 3, 3)`` matrices of norm 1, and ``(B,)`` whether the points clearly determine them.
    """
    values, vectors = np.linalg.eigh(_normal(weights, fixed.T, _products(_homogeneous(moving))))
    return vectors[:, :, 0].reshape(-1, 3, 3), values[:, 1] > _CLEAR * values[:, 8]


def gauss_newton(matrices: _Array, moving: _Array, fixed: _Array, weights: _Array) -> _Array:
    """Minimise the weighted squared distances to ``fixed``; of each matrix, only steps that help are taken.

    Args:
        matrices: ``(B, 3, 3)`` to start from, of norm 1.
        moving: ``(N, 2)`` normalised points.
        fixed: ``(N, 2)`` corresponding points, normalised.
        weights: ``(B, N)`` of the squared residuals, >= 0.

    Returns:
        ``(B, 3, 3)`` matrices of norm 1.
    """
    source, wanted = _homogeneous(moving), fixed.T.copy()
    products, scale = _products(source), weights.sum(axis=1)[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        best = _state(matrices, source, wanted, weights)
        for _ in range(_STEPS):
            current, depth, target, error, cost = best
            flat = current.reshape(-1, 9, 1)
            # A multiple of the matrix maps as it does: that direction, which the points leave open, is closed.
            normal = _normal(weights / (depth * depth), target.swapaxes(0, 1), products)
            normal += scale * flat * flat.swapaxes(1, 2)
            try:
                step = np.linalg.solve(normal, _gradient(weights / depth, target, error, source))
            except np.linalg.LinAlgError:
                break
            tried = _state(_unit(current - step.reshape(-1, 3, 3)), source, wanted, weights)
            helps = tried[-1] < cost
            if not helps.any():
                break
            best = tried if helps.all() else _chosen(helps, tried, best)
            if np.abs(step[helps]).max() < _SETTLED:
                break
    return best[0]


def homography_rows(source: _Array, target: _Array) -> _Array:
    """Two linear equations for each point, (s, 0, -u s) and (0, s, -v s).

    Args:
        source: ``(N, 3)`` homogeneous points s, times the roots of their weights.
        target: ``(N, 2)`` places (u, v).

    Returns:
        ``(2 N, 9)``.
    """
    rows = np.zeros((len(source), 2, 3, 3))
    rows[:, 0, 0] = rows[:, 1, 1] = source
    rows[:, :, 2] = -target[..., None] * source[:, None]
    return rows.reshape(-1, 9)


def _normal(weights: _Array, target: _Array, products: _Array) -> _Array:
    """``(B, 9, 9)`` sums of the squares of ``homography_rows``, without the rows: by sums over products of places.

    Args:
        weights: ``(B, N)``; over the squared depths for the derivatives.
        target: ``(2, N)`` or ``(2, B, N)`` places (u, v); those that the matrix gives, for the derivatives.
        products: ``(N, 6)``, see ``_products``.
    """
    u, v = target
    factors = np.stack([weights, -u * weights, -v * weights, (u * u + v * v) * weights])
    plain, of_u, of_v, of_both = (factors @ products)[..., _SQUARE]
    normal = np.zeros((len(weights), 3, 3, 3, 3))
    normal[:, 0, :, 0] = normal[:, 1, :, 1] = plain
    normal[:, 0, :, 2] = normal[:, 2, :, 0] = of_u
    normal[:, 1, :, 2] = normal[:, 2, :, 1] = of_v
    normal[:, 2, :, 2] = of_both
    return normal.reshape(-1, 9, 9)


def _gradient(weights: _Array, target: _Array, error: _Array, source: _Array) -> _Array:
    """``(B, 9, 1)`` sums of the rows times the errors ``(B, 2, N)``; weights ``(B, N)`` over the depths."""
    factors = np.empty((len(weights), 3, len(source)))
    np.multiply(weights[:, None], error, out=factors[:, :2])
    np.negative(_dot(target, factors[:, :2]), out=factors[:, 2])
    return np.asarray((factors @ source).reshape(-1, 9, 1))


def _products(source: _Array) -> _Array:
    """``(N, 6)`` different products of the coordinates of homogeneous points ``(N, 3)``."""
    first, second = _DIFFERENT
    return source[:, first] * source[:, second]


_State = tuple[_Array, _Array, _Array, _Array, _Array]


def _state(matrices: _Array, source: _Array, fixed: _Array, weights: _Array) -> _State:
    """Matrices, depths ``(B, N)``, places ``(B, 2, N)``, errors ``(B, 2, N)`` and their weighted squared sums ``(B,)``.

    None of it is finite for a point on the matrix's horizon, and a sum that is not finite is less than none.
    """
    placed = matrices @ source.T
    depth = placed[:, 2]
    target = placed[:, :2] / depth[:, None]
    error = target - fixed
    return matrices, depth, target, error, (weights * _dot(error, error)).sum(axis=1)


def _dot(first: _Array, second: _Array) -> _Array:
    """``(B, N)`` products of vectors ``(B, 2, N)``."""
    return first[:, 0] * second[:, 0] + first[:, 1] * second[:, 1]


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

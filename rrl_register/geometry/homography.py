"""Least-squares homographies, many at once: the same points under several sets of weights.

Cross-validation fits a homography a few dozen times to points that hardly differ. One pass over arrays with an axis of
fits costs little more than a single fit, which spends its time in calls; no library fits in such batches.

The solvers take normalised points, of a size of about 1 around 0: normal equations square the condition number, and
that of pixel coordinates would be too large for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rrl_register.errors import NotRegisteredError
from rrl_register.geometry.arrays import Flags, Floats, Matrix, Points, Weights
from rrl_register.geometry.transforms import DEGENERATE, degenerate_points, fit_or_none, normalised, weighted_points

_MAX_STEPS = 8
_CONVERGED = 1e-8
"""Step, of a matrix of norm 1, at which Gauss-Newton ends: 1e-5 px in an image of 1000 px, and the next one would be
smaller by as much as the points' errors are smaller than the image."""
_CLEAR = 1e-12
"""Ratio of eigenvalues from which normal equations show that the points determine a homography: rounding leaves 1e-15,
and points on one line leave nothing but that."""

_UPPER = np.triu_indices(3)
"""Rows and columns of a symmetric matrix's different elements."""
_SYMMETRIC = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
"""Index of each element of the matrix among those."""


def fit_homography(moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None = None) -> Matrix:
    """Fit a homography by weighted least squares of distances in the fixed image.

    Source: direct linear transform on normalised points (Hartley, "In defense of the eight-point algorithm", 1997),
    then Gauss-Newton on the transfer error, which the linear solution only approximates.

    Args:
        moving: (N, 2) points, N >= 4 and no three of the four on one line.
        fixed: (N, 2) corresponding points.
        weights: (N,) weights of the squared residuals, >= 0; None: all 1.

    Returns:
        (3, 3) transform moving -> fixed, last element 1.

    Raises:
        NotRegisteredError: Too few points have a weight, or their arrangement determines no homography.
    """
    m, f, w = weighted_points(moving, fixed, weights, 4, "homography")
    return _fit_all(m, f, w[None])[0]


def fit_homographies(moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike) -> list[Matrix | None]:
    """Fit a homography under each of several sets of weights, all at once.

    Args:
        moving: (N, 2) points.
        fixed: (N, 2) corresponding points.
        weights: (B, N) weights of the squared residuals, >= 0.

    Returns:
        B transforms; None where the points with a weight determine none.
    """
    w = np.asarray(weights, np.float64)
    used = np.any(w > 0, axis=0)
    m, f, w = np.asarray(moving, np.float64)[used], np.asarray(fixed, np.float64)[used], w[:, used]
    enough = np.flatnonzero((w > 0).sum(axis=1) >= 4)
    try:
        found: Sequence[Matrix | None] = _fit_all(m, f, w[enough]) if len(enough) else []
    except NotRegisteredError:
        found = [fit_or_none(fit_homography, m, f, w[row]) for row in enough]
    by_row = dict(zip(enough.tolist(), found, strict=True))
    return [by_row.get(row) for row in range(len(w))]


def _fit_all(moving: Points, fixed: Points, weights: Floats) -> list[Matrix]:
    """Fit a homography under each of the weights ``(B, N)``, at least four of each > 0.

    Raises:
        NotRegisteredError: The points with a weight determine no homography, under any one of the weights.
    """
    together = weights.sum(axis=0)
    (nm, to_m), (nf, to_f) = _normalised_points(moving, together), _normalised_points(fixed, together)
    shares = weights / weights.max(axis=1, keepdims=True)
    linear, clear = linear_homographies(nm, nf, shares)
    for row in np.flatnonzero(~clear):
        linear[row] = _direct_linear(nm, nf, np.sqrt(shares[row]))
    return [normalised(matrix) for matrix in np.linalg.inv(to_f) @ gauss_newton(linear, nm, nf, shares) @ to_m]


def _normalised_points(points: Points, weights: Weights) -> tuple[Points, Matrix]:
    """Move the points' centroid to 0 and their mean distance from it to sqrt(2); return the similarity, too."""
    share = weights / weights.sum()
    centroid = share @ points
    away = points - centroid
    distance = float(share @ np.sqrt((away * away).sum(axis=1)))
    scale = np.sqrt(2) / distance if distance > 0 else 1.0
    x, y = -scale * centroid
    return scale * away, np.array([[scale, 0, x], [0, scale, y], [0, 0, 1]])


def _direct_linear(moving: Points, fixed: Points, roots: Floats) -> Matrix:
    """Solve the linear equations of normalised points, ``roots`` of their weights ``(N,)``, in full float64 precision.

    Raises:
        NotRegisteredError: The points determine no homography.
    """
    used = roots > 0
    source = np.column_stack([moving[used], np.ones(used.sum())]) * roots[used, None]
    # Two equations for each point s and its place (u, v): (s, 0, -u s) and (0, s, -v s).
    rows = np.zeros((len(source), 2, 3, 3))
    rows[:, 0, 0] = rows[:, 1, 1] = source
    rows[:, :, 2] = -fixed[used][..., None] * source[:, None]
    equations = rows.reshape(-1, 9)
    # Only the eight equations of four points need the full decomposition to show their null vector; of many points it
    # would be as wide as it is high.
    _, singular, right = np.linalg.svd(equations, full_matrices=len(equations) < 9)
    if singular[7] <= DEGENERATE * singular[0]:
        seen, needed = "almost on one line", "four places, no three of them in line"
        raise degenerate_points(int(used.sum()), "homography", seen, needed)
    matrix: Matrix = right[8].reshape(3, 3)
    return matrix


def linear_homographies(moving: Points, fixed: Points, weights: Floats) -> tuple[Floats, Flags]:
    """Solve direct linear transforms by the smallest eigenvector of the normal equations.

    Points ``(N, 2)`` are normalised; weights ``(B, N)`` are those of the squared equations, >= 0, largest about 1.

    Returns:
        ``(B, 3, 3)`` matrices of norm 1, and ``(B,)`` true where the points clearly determine them.
    """
    values, vectors = np.linalg.eigh(_normal_equations(weights, fixed.T, _products(_homogeneous(moving))))
    return vectors[:, :, 0].reshape(-1, 3, 3), values[:, 1] > _CLEAR * values[:, 8]


def gauss_newton(matrices: Floats, moving: Points, fixed: Points, weights: Floats) -> Floats:
    """Minimise the weighted squared distances to ``fixed``; each matrix takes only steps that help it.

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
        for _ in range(_MAX_STEPS):
            current, depth, target, error, cost = best
            flat = current.reshape(-1, 9, 1)
            # A multiple of the matrix maps as it does: that direction, which the points leave open, is closed.
            normal = _normal_equations(weights / (depth * depth), target.swapaxes(0, 1), products)
            normal += scale * flat * flat.swapaxes(1, 2)
            try:
                step = np.linalg.solve(normal, _gradient(weights / depth, target, error, source))
            except np.linalg.LinAlgError:
                break
            moved = current - step.reshape(-1, 3, 3)
            unit = np.asarray(moved / np.sqrt((moved * moved).sum(axis=(1, 2), keepdims=True)))
            tried = _state(unit, source, wanted, weights)
            helps = tried[-1] < cost
            if not helps.any():
                break
            best = tried if helps.all() else _chosen(helps, tried, best)
            if np.abs(step[helps]).max() < _CONVERGED:
                break
    return best[0]


def _normal_equations(weights: Floats, target: Floats, products: Floats) -> Floats:
    """Return the ``(B, 9, 9)`` sums of the squared equations of ``_direct_linear``, by sums over products of places.

    Args:
        weights: ``(B, N)``; over the squared depths for the derivatives.
        target: ``(2, N)`` or ``(2, B, N)`` places (u, v); those that the matrix maps to, for the derivatives.
        products: ``(N, 6)``, see ``_products``.
    """
    u, v = target
    factors = np.stack([weights, -u * weights, -v * weights, (u * u + v * v) * weights])
    plain, of_u, of_v, of_both = (factors @ products)[..., _SYMMETRIC]
    normal = np.zeros((len(weights), 3, 3, 3, 3))
    normal[:, 0, :, 0] = normal[:, 1, :, 1] = plain
    normal[:, 0, :, 2] = normal[:, 2, :, 0] = of_u
    normal[:, 1, :, 2] = normal[:, 2, :, 1] = of_v
    normal[:, 2, :, 2] = of_both
    return normal.reshape(-1, 9, 9)


def _gradient(weights: Floats, target: Floats, error: Floats, source: Floats) -> Floats:
    """Return the ``(B, 9, 1)`` sums of the equations times the errors ``(B, 2, N)``; weights ``(B, N)`` over depths."""
    factors = np.empty((len(weights), 3, len(source)))
    np.multiply(weights[:, None], error, out=factors[:, :2])
    np.negative(target[:, 0] * factors[:, 0] + target[:, 1] * factors[:, 1], out=factors[:, 2])
    return np.asarray((factors @ source).reshape(-1, 9, 1))


def _products(source: Floats) -> Floats:
    """Return the ``(N, 6)`` different products of the coordinates of homogeneous points ``(N, 3)``."""
    first, second = _UPPER
    return source[:, first] * source[:, second]


_State = tuple[Floats, Floats, Floats, Floats, Floats]


def _state(matrices: Floats, source: Floats, fixed: Floats, weights: Floats) -> _State:
    """Return matrices, depths ``(B, N)``, places and errors ``(B, 2, N)``, and their weighted squared sums ``(B,)``.

    None of it is finite for a point on the matrix's horizon, and a sum that is not finite is less than none.
    """
    placed = matrices @ source.T
    depth = placed[:, 2]
    target = placed[:, :2] / depth[:, None]
    error = target - fixed
    return matrices, depth, target, error, (weights * (error[:, 0] ** 2 + error[:, 1] ** 2)).sum(axis=1)


def _chosen(mask: Flags, first: _State, second: _State) -> _State:
    """Select the first state of each matrix where the mask holds, else the second."""
    one, pairs = mask[:, None], mask[:, None, None]
    return (
        np.where(pairs, first[0], second[0]),
        np.where(one, first[1], second[1]),
        np.where(pairs, first[2], second[2]),
        np.where(pairs, first[3], second[3]),
        np.where(mask, first[4], second[4]),
    )


def _homogeneous(points: Points) -> Floats:
    return np.column_stack([points, np.ones(len(points))])

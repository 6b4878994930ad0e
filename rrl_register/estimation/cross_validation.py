"""Cross-validation: fits without parts of the tie points, and the residuals of the points left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from rrl_register.geometry.arrays import Floats, Indices, Mask, Points, Weights
from rrl_register.geometry.displacement import AnyFit, Transform, as_transform
from rrl_register.geometry.homography import fit_homographies, fit_homography
from rrl_register.geometry.transforms import distances, fit_or_none, normalised

LATTICE = 17
"""Places along the longer side of the overlap at which the standard error is evaluated."""
_CONVERGED_PX = 1e-4
"""Change of a place from one step to the next that hides no uncertainty."""


@dataclass(frozen=True)
class Uncertainty:
    """Standard error of the place of a transformed point: root mean square distance from its true place.

    Attributes:
        mean: Mean over the overlap, fixed px.
        max: Largest of the overlap, fixed px.
    """

    mean: float
    max: float


def in_file_px(spread: Uncertainty | None, fixed_factor: float) -> dict[str, float] | None:
    """Return the standard errors by name, px of the fixed file to three digits; None if they are not known.

    Args:
        spread: In px of the reduced image.
        fixed_factor: File px per such px.
    """
    if spread is None:
        return None
    return {"mean": round(spread.mean * fixed_factor, 3), "max": round(spread.max * fixed_factor, 3)}


def replicates(moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike, fit: AnyFit) -> tuple[Transform, ...]:
    """Fit a transform again and again, each time without one block of the scene.

    Args:
        moving: (N, 2) inliers.
        fixed: (N, 2) corresponding points.
        weights: (N,) their weights in the final fit, >= 0.
        fit: The least-squares fit that the transform comes from.

    Returns:
        One transform per block that holds points; none if fewer than two do, or the points without some block determine
        no transform.
    """
    m, f = (np.asarray(points, np.float64).reshape(-1, 2) for points in (moving, fixed))
    blocks = spatial_blocks(f)
    held = np.unique(blocks)
    if len(held) < 2:
        return ()
    found = fit_each(fit, m, f, np.where(blocks == held[:, None], 0.0, np.asarray(weights, np.float64)))
    fits = tuple(transform for transform in found if transform is not None)
    return fits if len(fits) == len(found) else ()


def matrix_covariance(fits: Sequence[Transform]) -> Floats | None:
    """Return the covariance (8, 8) of a matrix's elements, row by row, the last one being 1.

    Args:
        fits: The result of ``replicates``; empty: the covariance is not known.
    """
    if not fits:
        return None
    elements = np.stack([normalised(fit.matrix).ravel()[:8] for fit in fits])
    away = elements - elements.mean(axis=0)
    return np.asarray((len(fits) - 1) / len(fits) * away.T @ away)


def uncertainty(
    transform: Transform, fits: Sequence[Transform], overlap: Mask, factor: float = 1.0
) -> Uncertainty | None:
    """Return the standard error of a transform over the overlap; None if it is not known.

    Args:
        transform: The transform.
        fits: The result of ``replicates``; empty: the standard error is not known.
        overlap: (H, W) fixed pixels that both images cover.
        factor: Fixed px per px of the overlap.
    """
    step = max(1, max(overlap.shape) // LATTICE)
    rows, columns = np.nonzero(overlap[step // 2 :: step, step // 2 :: step])
    places = (np.column_stack([columns, rows]).astype(np.float64) * step + step // 2 + 0.5) * factor - 0.5
    if not (fits and len(places)):
        return None
    moving = transform.backward(places)
    put = np.stack([fit.forward(moving, places, _CONVERGED_PX) for fit in fits])
    variance = (len(fits) - 1) / len(fits) * ((put - put.mean(axis=0)) ** 2).sum(axis=(0, 2))
    error = np.sqrt(variance)
    return Uncertainty(float(error.mean()), float(error.max())) if np.isfinite(error).all() else None


_BLOCKS = 5
"""Blocks along each axis that the scene is cut into; as many as default folds, so that each fold meets every row."""


@runtime_checkable
class FitsEach(Protocol):
    """A fit that is faster on many sets of weights together than on one after the other."""

    def each(self, moving: Points, fixed: Points, weights: Weights) -> Sequence[Transform | None]:
        """Fit under weights ``(B, N)``; None where the points with a weight determine no transform."""


def fit_each(fit: AnyFit, moving: Points, fixed: Points, weights: Floats) -> list[Transform | None]:
    """Fit under several sets of weights.

    Args:
        fit: Weighted least-squares fit.
        moving: ``(N, 2)`` points.
        fixed: ``(N, 2)`` corresponding points.
        weights: ``(B, N)``, >= 0; a point of weight 0 is left out.

    Returns:
        B transforms; None where the points with a weight determine none.
    """
    if isinstance(fit, FitsEach):
        return list(fit.each(moving, fixed, weights))
    if fit is fit_homography:
        return [None if found is None else Transform(found) for found in fit_homographies(moving, fixed, weights)]
    found = (fit_or_none(fit, moving[some > 0], fixed[some > 0], some[some > 0]) for some in weights)
    return [None if each is None else as_transform(each) for each in found]


def cross_validation_residuals(
    moving: ArrayLike, fixed: ArrayLike, parts: Indices, fit: AnyFit = fit_homography, weights: ArrayLike | None = None
) -> Floats:
    """Return the residual of each tie point under a transform fitted without the part that it belongs to.

    The points should be the inliers of a robust fit: their choice has seen all of them, which no fold can undo.

    Args:
        moving: (N, 2) points.
        fixed: (N, 2) corresponding points.
        parts: (N,) the part of each point; one part after the other is left out.
        fit: Weighted least-squares fit.
        weights: (N,) weights in the fits; None: all 1.

    Returns:
        (N,) float64, fixed pixels; NaN where the other points determine no transform.
    """
    m, f = (np.asarray(points, np.float64).reshape(-1, 2) for points in (moving, fixed))
    w = np.ones(len(m)) if weights is None else np.asarray(weights, np.float64)
    names, part_of = np.unique(parts, return_inverse=True)
    fits = fit_each(fit, m, f, np.where(parts == names[:, None], 0.0, w)) if len(names) else []
    known = np.array([each is not None for each in fits], bool)[part_of]
    # Each point by the matrix of its part, all at once, which is faster than part by part.
    matrices = np.array([np.eye(3) if each is None else each.matrix for each in fits]).reshape(-1, 3, 3)[part_of]
    placed = (matrices @ np.column_stack([m, np.ones(len(m))])[:, :, None])[:, :, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        offsets = placed[:, :2] / placed[:, 2:] - f
    for row, each in enumerate(fits):
        if each is not None and each.displacement is not None:
            out = part_of == row
            offsets[out] += each.displacement.at(f[out])
    return np.where(known, distances(offsets), np.nan)


def cross_validation_rmse(moving: ArrayLike, fixed: ArrayLike, fit: AnyFit = fit_homography) -> float:
    """Return the root mean square of ``cross_validation_residuals`` over ``spatial_folds``, fixed pixels.

    Points are left out by blocks of the scene because neighbours share their errors.

    Args:
        moving: (N, 2) points.
        fixed: (N, 2) corresponding points.
        fit: Least-squares fit.

    Returns:
        NaN if there are no points, or those without some fold determine no transform.
    """
    residual = cross_validation_residuals(moving, fixed, spatial_folds(fixed), fit)
    return float(np.sqrt(np.mean(residual**2))) if len(residual) else float("nan")


def spatial_folds(points: ArrayLike, folds: int = 5) -> Indices:
    """Assign points to folds by blocks of the scene.

    Neighbouring blocks (see ``spatial_blocks``) get different folds, so that each fold is spread over the scene.

    Args:
        points: (N, 2) points.
        folds: Number of folds.

    Returns:
        (N,) int64, 0..folds-1.
    """
    column, row = np.divmod(spatial_blocks(points), _BLOCKS)
    return np.asarray((column + 2 * row) % folds)


def spatial_blocks(points: ArrayLike) -> Indices:
    """Cut the scene into 5 x 5 blocks that hold about equally many points per column and per row.

    Args:
        points: (N, 2) points.

    Returns:
        (N,) int64, the block of each point, 0..24: five times its column plus its row.
    """
    xy = np.asarray(points, np.float64).reshape(-1, 2)
    ranks = np.argsort(np.argsort(xy, axis=0, kind="stable"), axis=0, kind="stable")
    column, row = (ranks * _BLOCKS // max(len(xy), 1)).T
    return np.asarray(_BLOCKS * column + row)

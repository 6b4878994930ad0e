"""Standard error of a transform: its spread when tie points are left out block by block of the scene.

The delete-a-group jackknife, which for least squares is the cluster-robust covariance CR3 (Bell & McCaffrey, "Bias
reduction in standard errors for linear regression with multi-stage samples", 2002; MacKinnon, Nielsen & Webb, 2023).
Neighbouring tie points share their errors, so that blocks, not points, are what varies independently. It measures the
spread, not what the model cannot follow: a matrix over terrain is off by more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rrl_register.estimation.cross_validation import fits_without, spatial_blocks
from rrl_register.geometry.arrays import Floats, Mask
from rrl_register.geometry.displacement import AnyFit, Transform
from rrl_register.geometry.transforms import normalised

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
    found = fits_without(fit, m, f, np.asarray(weights, np.float64), spatial_blocks(f))
    fits = tuple(transform for transform in found.values() if transform is not None)
    return fits if len(fits) == len(found) >= 2 else ()


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

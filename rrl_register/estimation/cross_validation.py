"""Fits to the same points under several sets of weights, for points that are left out in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rrl_register.errors import NotRegisteredError
from rrl_register.geometry.arrays import Points, Weights
from rrl_register.geometry.displacement import AnyFit, Transform, as_transform
from rrl_register.geometry.transforms import fit_homographies, fit_homography


@runtime_checkable
class FitsEach(Protocol):
    """A fit that is faster on many sets of weights together than on one after the other."""

    def each(self, moving: Points, fixed: Points, weights: Weights) -> Sequence[Transform | None]:
        """The transforms under weights ``(B, N)``; None where the points with a weight determine none."""


def fit_each(fit: AnyFit, moving: Points, fixed: Points, weights: Weights) -> list[Transform | None]:
    """A fit under several sets of weights.

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
    return [_fit_or_none(fit, moving, fixed, some) for some in weights]


def fits_without(
    fit: AnyFit, moving: Points, fixed: Points, weights: Weights, parts: NDArray[np.int64]
) -> dict[int, Transform | None]:
    """A fit without each part of the points in turn; None where the others determine none.

    Args:
        fit: Weighted least-squares fit.
        moving: ``(N, 2)`` points.
        fixed: ``(N, 2)`` corresponding points.
        weights: ``(N,)``, >= 0.
        parts: ``(N,)`` the part of each point.
    """
    names = np.unique(parts)
    found = fit_each(fit, moving, fixed, np.where(parts == names[:, None], 0.0, weights)) if len(names) else []
    return dict(zip(names.tolist(), found, strict=True))


def _fit_or_none(fit: AnyFit, moving: Points, fixed: Points, weights: Weights) -> Transform | None:
    used = weights > 0
    try:
        return as_transform(fit(moving[used], fixed[used], weights[used]))
    except NotRegisteredError:
        return None

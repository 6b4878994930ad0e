"""Fitting a homography and a smooth displacement: for terrain and depth, which bend what a matrix keeps straight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrl_register.errors import NotRegisteredError
from rrl_register.estimation.ransac import biweight
from rrl_register.geometry.arrays import Matrix, Points
from rrl_register.geometry.displacement import Transform, distances, is_fold_free
from rrl_register.geometry.thin_plate import Basis, cells, hull_of
from rrl_register.geometry.transforms import fit_homographies, fit_homography, project

CELLS_PER_SIDE = 5
MIN_CELLS = 13
"""Of the 25 cells of the inliers' bounding box, those that have to hold some: more than half."""
WIDE = 2.5
"""Thresholds around the homography within which a true point may lie that the displacement is to explain."""
_NARROWING = (WIDE, 1.8, 1.3, *(1.0,) * 5)
"""Thresholds of the biweight from step to step: the displacement grows into the points that the homography misses."""


class DisplacedModel(StrEnum):
    """Models that are more than a matrix, from stiff to flexible."""

    POLYNOMIAL2 = "polynomial2"
    POLYNOMIAL3 = "polynomial3"
    THIN_PLATE = "thin-plate"


@dataclass(frozen=True)
class Displaced:
    """A homography with a displacement of a certain stiffness.

    Attributes:
        model: What it is called.
        degree: Of the polynomial.
        smoothing: Weight of the thin plate's bending energy against the mean squared distance, in normalised
            coordinates; None: no thin plate.
        min_points: Inliers that it needs: three for each coefficient, and for a thin plate as many as for a cubic.
    """

    model: DisplacedModel
    degree: int
    smoothing: float | None
    min_points: int

    @property
    def fit(self) -> Displaced:
        """Its weighted least-squares fit, as ``Model.fit`` is a matrix's: itself."""
        return self

    def __call__(self, moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None = None) -> Transform:
        """Weighted least-squares homography, then penalised least-squares displacement of what it leaves.

        Source: a thin-plate spline on few knots, Wood, "Thin plate regression splines", 2003; its bending energy as in
        Wahba, "Spline models for observational data", 1990, section 2.4.

        Args:
            moving: ``(N, 2)`` points, at least four with a weight.
            fixed: ``(N, 2)`` corresponding points.
            weights: ``(N,)`` weights of the squared residuals, >= 0; None: all 1.

        Raises:
            NotRegisteredError: The points do not determine it.
        """
        m, f = (np.asarray(points, np.float64).reshape(-1, 2) for points in (moving, fixed))
        w = np.ones(len(m)) if weights is None else np.asarray(weights, np.float64)
        return self.on_top_of(fit_homography(m, f, w), self.basis(f, w > 0), m, f, w)[0]

    def each(self, moving: Points, fixed: Points, weights: NDArray[np.float64]) -> list[Transform | None]:
        """The fits under weights ``(B, N)``; None where the points with a weight do not determine one."""
        # A polynomial is the same in any coordinates; the knots of a thin plate are where the points are.
        shared = None if self.smoothing is not None else _Bases(fixed).of(self, np.asarray(np.any(weights > 0, axis=0)))
        fits = (
            _or_none(self, shared or _Bases(fixed).of(self, some > 0), matrix, moving, fixed, some, shared is not None)
            for matrix, some in zip(fit_homographies(moving, fixed, weights), weights, strict=True)
        )
        return [fit and fit[0] for fit in fits]

    def basis(self, fixed: Points, used: NDArray[np.bool_]) -> Basis:
        """What its displacements are sums of, at all points ``(N, 2)``, for a fit to those that are used.

        Raises:
            NotRegisteredError: They do not determine any.
        """
        return Basis.of(fixed, used, self.degree, self.smoothing is not None)

    def on_top_of(
        self,
        matrix: Matrix,
        basis: Basis,
        moving: Points,
        fixed: Points,
        weights: NDArray[np.float64],
        shared: bool = False,
    ) -> tuple[Transform, NDArray[np.float64]]:
        """A matrix with the displacement of what it leaves.

        Args:
            matrix: ``(3, 3)`` least-squares homography.
            basis: Of the points, for those with a weight or more.
            moving: ``(N, 2)`` points.
            fixed: ``(N, 2)`` corresponding points.
            weights: ``(N,)``, >= 0.
            shared: Whether the basis is for more points than those with a weight.

        Returns:
            The transform and the residuals ``(N,)`` under it, px; of points beyond the hull of those with a weight,
            they are the transform's only where the basis is for those with a weight alone.

        Raises:
            NotRegisteredError: The points do not determine it.
        """
        left = fixed - project(matrix, moving)
        hull = hull_of(fixed[weights > 0]) if shared else basis.hull
        displacement, field = basis.fitted(left, weights, self.smoothing, hull)
        return Transform(matrix, displacement), distances(left - field)


DISPLACED = (
    Displaced(DisplacedModel.POLYNOMIAL2, 2, None, 36),
    Displaced(DisplacedModel.POLYNOMIAL3, 3, None, 60),
    *(Displaced(DisplacedModel.THIN_PLATE, 1, smoothing, 60) for smoothing in (1e-2, 1e-3, 1e-4)),
)
"""All that are tried, from stiff to flexible. The thin plates halve waves of about the scene's width, its half and a
third of it."""


def robust_displaced(
    models: Sequence[Displaced],
    moving: Points,
    fixed: Points,
    start: Matrix,
    threshold: float,
    weights: NDArray[np.float64],
) -> dict[Displaced, tuple[Transform, NDArray[np.bool_]]]:
    """Estimate displaced homographies from tie points with outliers.

    Iteratively reweighted least squares with a biweight that is wide at first, for local distortion takes true points
    off every homography, and narrows to the threshold. The models go through it side by side, which is faster.

    Args:
        models: What to fit.
        moving: ``(N, 2)`` points.
        fixed: ``(N, 2)`` corresponding points.
        start: ``(3, 3)`` robust homography within ``WIDE`` thresholds.
        threshold: Largest residual of an inlier, fixed px.
        weights: ``(N,)`` trust in each tie point, >= 0.

    Returns:
        Transform and inliers ``(N,)`` bool of each model, but for those whose inliers are too few or too badly spread,
        or whose displacement is too steep to be one.
    """
    residual = Transform(start).residuals(moving, fixed)
    within = int((residual <= WIDE * threshold).sum())
    bases = _Bases(fixed)
    now = {model: (Transform(start), residual) for model in models if within >= model.min_points}
    for width in _NARROWING if now else ():
        near = np.stack([weights * biweight(residual, width * threshold) for _, residual in now.values()])
        matrices = fit_homographies(moving, fixed, near)
        tried = zip(now, matrices, near, strict=True)
        fits = {
            model: _or_none(model, bases.of(model, some > 0), matrix, moving, fixed, some)
            for model, matrix, some in tried
        }
        now = {model: fit for model, fit in fits.items() if fit}
        if not now:
            break
    found = {model: (transform, residual <= threshold) for model, (transform, residual) in now.items()}
    return {model: fit for model, fit in found.items() if _is_sound(model, *fit, fixed)}


def _is_sound(model: Displaced, transform: Transform, inliers: NDArray[np.bool_], fixed: Points) -> bool:
    """Whether there are inliers enough all over, and a displacement that does not come near to folding the image."""
    enough = inliers.sum() >= model.min_points and _is_spread(fixed[inliers])
    return bool(enough) and transform.displacement is not None and is_fold_free(transform.displacement)


class _Bases:
    """Bases of the same points ``(N, 2)``: models and steps that leave out the same points share one."""

    def __init__(self, fixed: Points) -> None:
        self._fixed = fixed
        self._known: dict[tuple[int, bool, bytes], Basis | None] = {}

    def of(self, model: Displaced, used: NDArray[np.bool_]) -> Basis | None:
        """``Displaced.basis``; None where the points that are used determine none."""
        key = model.degree, model.smoothing is not None, used.tobytes()
        if key not in self._known:
            try:
                self._known[key] = model.basis(self._fixed, used)
            except NotRegisteredError:
                self._known[key] = None
        return self._known[key]


def _or_none(
    model: Displaced,
    basis: Basis | None,
    matrix: Matrix | None,
    moving: Points,
    fixed: Points,
    weights: NDArray[np.float64],
    shared: bool = False,
) -> tuple[Transform, NDArray[np.float64]] | None:
    """``Displaced.on_top_of`` where there are a matrix and a basis, and the points determine the displacement."""
    if matrix is None or basis is None:
        return None
    try:
        return model.on_top_of(matrix, basis, moving, fixed, weights, shared)
    except NotRegisteredError:
        return None


def _is_spread(points: Points) -> bool:
    low, high = points.min(axis=0), points.max(axis=0)
    return len(np.unique(cells((points - low) / np.maximum(high - low, 1), CELLS_PER_SIDE))) >= MIN_CELLS

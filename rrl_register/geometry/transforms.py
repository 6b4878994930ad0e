"""Plane transforms: application, construction, decomposition, plausibility, and fits up to affine ones.

A transform is a 3 x 3 float64 matrix that maps moving pixels to fixed pixels, (x, y) = (column, row), (0, 0) being the
centre of the top-left pixel. Homographies are fitted in ``geometry.homography``. The fits are hand-made because those
of scikit-image take 2 to 60 times as long on a few hundred points, at the same error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from rrl_register.errors import NotRegisteredError
from rrl_register.geometry.arrays import Floats, Matrix, Points, Weights

Fit = Callable[[Points, Points, Weights | None], Matrix]
"""Weighted least-squares fit (moving, fixed, weights) of a matrix."""
_P = ParamSpec("_P")
_R = TypeVar("_R")

DEGENERATE = 1e-9
"""Ratio of singular values below which the points do not determine the model (float64 leaves about 1e-12 of noise)."""

_SCALES = (0.3, 3.5)
_MAX_ANISOTROPY = 1.6
_MAX_PERSPECTIVE = 0.8
"""Bounds of a plausible registration; see ``Decomposition``."""


@dataclass(frozen=True)
class Decomposition:
    """Parts of a transform around the centre of the moving image.

    Attributes:
        scale: Fixed pixels per moving pixel, geometric mean of both directions; never negative, see ``mirrored``.
        rotation_deg: Rotation from the x axis towards the y axis (clockwise as seen on the screen), -180..180.
        anisotropy: Ratio of the largest to the smallest stretch, >= 1; 1 for a similarity.
        mirrored: True if the transform turns the image over.
        perspective: Largest ratio of the projective depths of two corners, minus 1; 0 for an affine, inf if the horizon
            crosses the image.
    """

    scale: float
    rotation_deg: float
    anisotropy: float
    mirrored: bool
    perspective: float


def project(matrix: ArrayLike, points: ArrayLike) -> Points:
    """Map points with a transform.

    Args:
        matrix: (3, 3) transform.
        points: (N, 2) points (x, y).

    Returns:
        (N, 2) float64; not finite where a point lies on the transform's horizon.
    """
    xy = np.asarray(points, np.float64).reshape(-1, 2)
    placed = np.column_stack([xy, np.ones(len(xy))]) @ np.asarray(matrix, np.float64).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return placed[:, :2] / placed[:, 2:]


def residuals(matrix: ArrayLike, moving: ArrayLike, fixed: ArrayLike) -> Floats:
    """Return the distances (N,) of the mapped moving points from the fixed points, fixed px; inf on the horizon."""
    return distances(project(matrix, moving) - np.asarray(fixed, np.float64))


def distances(offsets: Points) -> Floats:
    """Return the lengths (N,) of offsets (N, 2); inf where they are not finite, on a matrix's horizon."""
    distance = np.hypot(*offsets.T)
    return np.where(np.isfinite(distance), distance, np.inf)


def normalised(matrix: ArrayLike) -> Matrix:
    """Return the same transform with 1 in its last place (kept as it is if that place holds 0)."""
    array = np.asarray(matrix, np.float64)
    return array / array[2, 2] if array[2, 2] != 0 else array.copy()


def invert(matrix: ArrayLike) -> Matrix:
    """Return the transform that maps back.

    Raises:
        NotRegisteredError: The transform is singular.
    """
    try:
        return normalised(np.linalg.inv(np.asarray(matrix, np.float64)))
    except np.linalg.LinAlgError as error:
        raise NotRegisteredError(
            "the transform is singular, an invertible one is needed: try more or better spread tie points"
        ) from error


def compose(*matrices: ArrayLike) -> Matrix:
    """Return the transform that applies the last argument first: ``compose(a, b)`` maps x to a(b(x))."""
    result = np.eye(3)
    for matrix in matrices:
        result = result @ np.asarray(matrix, np.float64)
    return normalised(result)


def translation(dx: float, dy: float) -> Matrix:
    """Return the shift by (dx, dy) pixels."""
    return np.array([[1.0, 0.0, dx], [0.0, 1.0, dy], [0.0, 0.0, 1.0]])


def similarity(
    scale: float = 1.0,
    rotation_deg: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    centre: tuple[float, float] = (0.0, 0.0),
) -> Matrix:
    """Return the transform that scales and rotates about ``centre``, then shifts.

    Args:
        scale: Fixed pixels per moving pixel.
        rotation_deg: From the x axis towards the y axis, degrees.
        shift: (dx, dy), fixed pixels.
        centre: (x, y) that scale and rotation leave in place.
    """
    a = scale * complex(np.exp(1j * np.deg2rad(rotation_deg)))
    place = complex(*centre)
    return from_complex(a, place + complex(*shift) - a * place)


def from_complex(a: complex, b: complex) -> Matrix:
    """Return the similarity fixed = a * moving + b on points x + iy."""
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag], [0.0, 0.0, 1.0]])


def rescale_matrix(matrix: ArrayLike, fixed_factor: float, moving_factor: float) -> Matrix:
    """Return a transform on grids of other resolution.

    Args:
        matrix: (3, 3), moving pixel -> fixed pixel.
        fixed_factor: Pixels of the present fixed grid per pixel of the new one (2 = half the resolution).
        moving_factor: The same for the moving grid.

    Returns:
        (3, 3) float64, new moving pixel -> new fixed pixel.
    """
    return reduction_matrix(fixed_factor) @ np.asarray(matrix, np.float64) @ reduction_matrix(1 / moving_factor)


def reduction_matrix(factor: float) -> Matrix:
    """Return the (3, 3) matrix of ``x -> (x + 0.5) / factor - 0.5``: pixel -> pixel of the reduced grid."""
    shift = 0.5 / factor - 0.5
    return np.array([[1 / factor, 0, shift], [0, 1 / factor, shift], [0, 0, 1]], np.float64)


def centre_of(shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the centre (x, y) of an image of ``shape`` (H, W), in pixel-centre coordinates."""
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2


def corners_of(shape: tuple[int, ...]) -> Points:
    """Return the outer pixel centres (4, 2) of an image (H, W): top left, top right, bottom right, bottom left."""
    x, y = shape[1] - 1.0, shape[0] - 1.0
    return np.array([[0.0, 0.0], [x, 0.0], [x, y], [0.0, y]])


class Georeferences(NamedTuple):
    """Both georeferences of a pair, after which a transform leaves little to explain.

    Attributes:
        prior: (3, 3) transform moving -> fixed that they declare.
        pixel: (2, 2) steps on the ground, m, east and north, along x and y of the fixed image.
    """

    prior: Matrix
    pixel: Matrix


def decompose(matrix: ArrayLike, shape: tuple[int, ...], after: Georeferences | None = None) -> Decomposition:
    """Decompose a transform around the centre of the moving image.

    Args:
        matrix: (3, 3) transform moving -> fixed.
        shape: (H, W) of the moving image.
        after: Decompose what the transform does on the ground after these; None: what it does to pixels.
    """
    array = np.asarray(matrix, np.float64)
    jacobian = _jacobian(array, shape)
    if after is not None:
        jacobian = after.pixel @ jacobian @ np.linalg.inv(after.pixel @ _jacobian(after.prior, shape))
    left, stretch, right = np.linalg.svd(jacobian)
    mirrored = bool(np.linalg.det(jacobian) < 0)
    turn = left @ np.diag([1.0, -1.0 if mirrored else 1.0]) @ right
    depths = np.column_stack([corners_of(shape), np.ones(4)]) @ array[2]
    horizon_crosses = depths.min() * depths.max() <= 0
    return Decomposition(
        scale=float(np.sqrt(stretch[0] * stretch[1])),
        rotation_deg=float(np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0]))),
        anisotropy=float(stretch[0] / stretch[1]) if stretch[1] > 0 else float("inf"),
        mirrored=mirrored,
        perspective=float("inf") if horizon_crosses else float(np.abs(depths).max() / np.abs(depths).min() - 1),
    )


def _jacobian(matrix: Matrix, shape: tuple[int, ...]) -> Matrix:
    x, y, depth = matrix @ [*centre_of(shape), 1.0]
    return np.asarray((matrix[:2, :2] - np.outer([x / depth, y / depth], matrix[2, :2])) / depth)


def implausibility(matrix: ArrayLike, shape: tuple[int, ...], after: Georeferences | None = None) -> str | None:
    """Return the reason why a transform cannot be a registration of the moving image; None if it can.

    Args:
        matrix: (3, 3) transform moving -> fixed.
        shape: (H, W) of the moving image.
        after: Georeferences, which may declare any scale, stretch and mirror; None: none.
    """
    array = np.asarray(matrix, np.float64)
    if not np.isfinite(array).all() or abs(np.linalg.det(array)) < 1e-15:
        return "the transform is singular or not finite"
    parts = decompose(array, shape, after)
    if not np.isfinite(parts.perspective):
        return "the transform folds the image over (its horizon crosses the image)"
    if parts.mirrored:
        return "the transform turns the image over (its orientation flips)"
    if not _SCALES[0] <= parts.scale <= _SCALES[1]:
        return f"the transform scales by {parts.scale:.3g}, {_SCALES[0]:g} to {_SCALES[1]:g} is plausible"
    if parts.anisotropy > _MAX_ANISOTROPY:
        return (
            f"the transform stretches one way {parts.anisotropy:.3g} times the other, {_MAX_ANISOTROPY:g} is plausible"
        )
    if parts.perspective > _MAX_PERSPECTIVE:
        return f"the transform has a perspective of {parts.perspective:.3g}, {_MAX_PERSPECTIVE:g} is plausible"
    return None


def fit_translation(moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None = None) -> Matrix:
    """Fit a shift by weighted least squares.

    Args:
        moving: (N, 2) points, N >= 1.
        fixed: (N, 2) corresponding points.
        weights: (N,) weights of the squared residuals, >= 0; None: all 1.

    Returns:
        (3, 3) transform moving -> fixed.

    Raises:
        NotRegisteredError: Too few points have a weight.
    """
    m, f, w = weighted_points(moving, fixed, weights, 1, "shift")
    shift = w @ (f - m) / w.sum()
    return translation(float(shift[0]), float(shift[1]))


def fit_similarity(moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None = None) -> Matrix:
    """Fit scale, rotation and shift (never a reflection) by weighted least squares, in closed form.

    Source: with points as complex numbers the similarity is fixed = a * moving + b, a linear regression.

    Arguments and result are those of ``fit_translation``; it takes 2 points that are not in one place.

    Raises:
        NotRegisteredError: Too few points have a weight, or all lie in one place.
    """
    m, f, w = weighted_points(moving, fixed, weights, 2, "similarity")
    mean_m, mean_f = w @ m / w.sum(), w @ f / w.sum()
    (xm, ym), (xf, yf) = (m - mean_m).T, (f - mean_f).T
    zm, zf = xm + 1j * ym, xf + 1j * yf
    spread = float(w @ np.abs(zm) ** 2)
    if spread <= (DEGENERATE * (1 + np.abs(m).max())) ** 2 * w.sum():
        raise degenerate_points(len(m), "similarity", "in one place", "two different places")
    a = complex((w * zf) @ zm.conj()) / spread
    return from_complex(a, complex(*mean_f) - a * complex(*mean_m))


def fit_affine(moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None = None) -> Matrix:
    """Fit an affine transform by weighted least squares.

    Arguments and result are those of ``fit_translation``; it takes 3 points that are not on one line.

    Raises:
        NotRegisteredError: Too few points have a weight, or all lie on one line.
    """
    m, f, w = weighted_points(moving, fixed, weights, 3, "affine")
    mean_m, mean_f = w @ m / w.sum(), w @ f / w.sum()
    root = np.sqrt(w)[:, None]
    solution, _, _, singular = np.linalg.lstsq(root * (m - mean_m), root * (f - mean_f), rcond=None)
    if singular[1] <= DEGENERATE * singular[0]:
        raise degenerate_points(len(m), "affine", "on one line", "points off it")
    turn = solution.T
    return np.vstack([np.column_stack([turn, mean_f - turn @ mean_m]), [0.0, 0.0, 1.0]])


def weighted_points(
    moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None, needed: int, model: str
) -> tuple[Points, Points, Weights]:
    """Return the points that have a weight, and their weights, as float64.

    Raises:
        NotRegisteredError: They are fewer than the model needs.
        ValueError: The arrays differ in length.
    """
    m = np.asarray(moving, np.float64).reshape(-1, 2)
    f = np.asarray(fixed, np.float64).reshape(-1, 2)
    w = np.ones(len(m)) if weights is None else np.asarray(weights, np.float64)
    if len(m) != len(f) or w.shape != (len(m),):
        raise ValueError(f"{len(m)} moving points, {len(f)} fixed points, weights of shape {w.shape}: not one of each")
    used = w > 0
    if used.sum() < needed:
        raise NotRegisteredError(
            f"{int(used.sum())} tie points, at least {needed} are needed for a transform of the kind {model}: "
            "try more keypoints or a simpler model"
        )
    return m[used], f[used], w[used]


def fit_or_none(fit: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R | None:
    """Return the result of a fit, or None if the points do not determine it."""
    try:
        return fit(*args, **kwargs)
    except NotRegisteredError:
        return None


def degenerate_points(n: int, model: str, seen: str, needed: str) -> NotRegisteredError:
    """Return the error of points whose arrangement does not determine a model."""
    return NotRegisteredError(
        f"{n} tie points lie {seen}, a transform of the kind {model} needs {needed}: "
        "try more keypoints or a simpler model"
    )

"""Plane transforms: applying, building, fitting, taking apart and judging them.

A transform is a 3 x 3 float64 matrix that maps moving pixels to fixed pixels, (x, y) = (column, row), (0, 0) being the
centre of the top-left pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrl_register.errors import NotRegisteredError
from rrl_register.geometry.arrays import Matrix, Points
from rrl_register.geometry.homography import gauss_newton, homography_rows, linear_homographies

Fit = Callable[[Points, Points, NDArray[np.float64] | None], Matrix]

_DEGENERATE = 1e-9
"""Ratio of singular values below which the points do not determine the model (float64 leaves about 1e-12 of noise)."""


@dataclass(frozen=True)
class Decomposition:
    """What a transform does around the centre of the moving image.

    Attributes:
        scale: fixed pixels per moving pixel, geometric mean of both directions; never negative, see ``mirrored``.
        rotation_deg: rotation from the x axis towards the y axis (clockwise as seen on the screen), -180..180.
        anisotropy: ratio of the largest to the smallest stretch, >= 1; 1 for a similarity.
        mirrored: whether the transform turns the image over.
        perspective: largest ratio of the projective depths of two corners, minus 1; 0 for an affine, inf when the
            horizon crosses the image.
        corner_displacements: (4, 2) float64, fixed pixels; image of each corner (top left, top right, bottom right,
            bottom left) minus the corner itself.
    """

    scale: float
    rotation_deg: float
    anisotropy: float
    mirrored: bool
    perspective: float
    corner_displacements: Points


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


def normalised(matrix: ArrayLike) -> Matrix:
    """The same transform with 1 in its last place (kept as it is when that place holds 0)."""
    array = np.asarray(matrix, np.float64)
    return array / array[2, 2] if array[2, 2] != 0 else array.copy()


def invert(matrix: ArrayLike) -> Matrix:
    """The transform that maps back.

    Raises:
        NotRegisteredError: the transform is singular.
    """
    try:
        return normalised(np.linalg.inv(np.asarray(matrix, np.float64)))
    except np.linalg.LinAlgError as error:
        raise NotRegisteredError(
            "the transform is singular, an invertible one is needed: try more or better spread tie points"
        ) from error


def compose(*matrices: ArrayLike) -> Matrix:
    """The transform that applies the last argument first: ``compose(a, b)`` maps x to a(b(x))."""
    result = np.eye(3)
    for matrix in matrices:
        result = result @ np.asarray(matrix, np.float64)
    return normalised(result)


def translation(dx: float, dy: float) -> Matrix:
    """A shift by (dx, dy) pixels."""
    return np.array([[1.0, 0.0, dx], [0.0, 1.0, dy], [0.0, 0.0, 1.0]])


def similarity(
    scale: float = 1.0,
    rotation_deg: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    centre: tuple[float, float] = (0.0, 0.0),
) -> Matrix:
    """Scale and rotate about ``centre``, then shift.

    Args:
        scale: fixed pixels per moving pixel.
        rotation_deg: from the x axis towards the y axis, degrees.
        shift: (dx, dy), fixed pixels.
        centre: (x, y) that scale and rotation leave in place.
    """
    a = scale * complex(np.exp(1j * np.deg2rad(rotation_deg)))
    place = complex(*centre)
    return from_complex(a, place + complex(*shift) - a * place)


def from_complex(a: complex, b: complex) -> Matrix:
    """The similarity fixed = a * moving + b on points x + iy."""
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag], [0.0, 0.0, 1.0]])


def centre_of(shape: tuple[int, ...]) -> tuple[float, float]:
    """Centre (x, y) of an image of ``shape`` (H, W), in pixel-centre coordinates."""
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2


def corners_of(shape: tuple[int, ...]) -> Points:
    """Outer pixel centres (4, 2) of an image of ``shape`` (H, W): top left, top right, bottom right, bottom left."""
    x, y = shape[1] - 1.0, shape[0] - 1.0
    return np.array([[0.0, 0.0], [x, 0.0], [x, y], [0.0, y]])


def residuals(matrix: ArrayLike, moving: ArrayLike, fixed: ArrayLike) -> NDArray[np.float64]:
    """Distance (N,) in fixed pixels of the mapped moving points from the fixed points; inf on the horizon."""
    distance = np.hypot(*(project(matrix, moving) - np.asarray(fixed, np.float64)).T)
    return np.where(np.isfinite(distance), distance, np.inf)


def fit_translation(moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None = None) -> Matrix:
    """Weighted least-squares shift.

    Args:
        moving: (N, 2) points, N >= 1.
        fixed: (N, 2) corresponding points.
        weights: (N,) weights of the squared residuals, >= 0; None: all 1.

    Returns:
        (3, 3) transform moving -> fixed.

    Raises:
        NotRegisteredError: too few points with a weight.
    """
    m, f, w = _checked(moving, fixed, weights, 1, "shift")
    shift = w @ (f - m) / w.sum()
    return translation(float(shift[0]), float(shift[1]))


def fit_similarity(moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None = None) -> Matrix:
    """Weighted least-squares scale, rotation and shift (never a reflection), in closed form.

    Source: with points as complex numbers the similarity is fixed = a * moving + b, a linear regression.

    Args:
        moving: (N, 2) points, N >= 2 and not all in one place.
        fixed: (N, 2) corresponding points.
        weights: (N,) weights of the squared residuals, >= 0; None: all 1.

    Returns:
        (3, 3) transform moving -> fixed.

    Raises:
        NotRegisteredError: too few points with a weight, or all in one place.
    """
    m, f, w = _checked(moving, fixed, weights, 2, "similarity")
    mean_m, mean_f = w @ m / w.sum(), w @ f / w.sum()
    (xm, ym), (xf, yf) = (m - mean_m).T, (f - mean_f).T
    zm, zf = xm + 1j * ym, xf + 1j * yf
    spread = float(w @ np.abs(zm) ** 2)
    if spread <= (_DEGENERATE * (1 + np.abs(m).max())) ** 2 * w.sum():
        raise _degenerate(len(m), "similarity", "in one place", "two different places")
    a = complex((w * zf) @ zm.conj()) / spread
    return from_complex(a, complex(*mean_f) - a * complex(*mean_m))


def fit_affine(moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None = None) -> Matrix:
    """Weighted least-squares affine transform.

    Args:
        moving: (N, 2) points, N >= 3 and not all on one line.
        fixed: (N, 2) corresponding points.
        weights: (N,) weights of the squared residuals, >= 0; None: all 1.

    Returns:
        (3, 3) transform moving -> fixed.

    Raises:
        NotRegisteredError: too few points with a weight, or all on one line.
    """
    m, f, w = _checked(moving, fixed, weights, 3, "affine")
    mean_m, mean_f = w @ m / w.sum(), w @ f / w.sum()
    root = np.sqrt(w)[:, None]
    solution, _, _, singular = np.linalg.lstsq(root * (m - mean_m), root * (f - mean_f), rcond=None)
    if singular[1] <= _DEGENERATE * singular[0]:
        raise _degenerate(len(m), "affine", "on one line", "points off it")
    turn = solution.T
    return _affine_matrix(turn, mean_f - turn @ mean_m)


def fit_homography(moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None = None) -> Matrix:
    """Weighted least-squares homography, minimising distances in the fixed image.

    Source: direct linear transform on normalised points (Hartley, "In defense of the eight-point algorithm", 1997),
    then Gauss-Newton on the transfer error, which the linear solution only approximates.

    Args:
        moving: (N, 2) points, N >= 4 and no three of the four on one line.
        fixed: (N, 2) corresponding points.
        weights: (N,) weights of the squared residuals, >= 0; None: all 1.

    Returns:
        (3, 3) transform moving -> fixed, last element 1.

    Raises:
        NotRegisteredError: too few points with a weight, or a configuration that determines no homography.
    """
    m, f, w = _checked(moving, fixed, weights, 4, "homography")
    return _homographies(m, f, w[None])[0]


def fit_homographies(moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike) -> list[Matrix | None]:
    """``fit_homography`` under several sets of weights, all at once.

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
        found: Sequence[Matrix | None] = _homographies(m, f, w[enough]) if len(enough) else []
    except NotRegisteredError:
        found = [_or_none(fit_homography, m, f, w[row]) for row in enough]
    by_row = dict(zip(enough.tolist(), found, strict=True))
    return [by_row.get(row) for row in range(len(w))]


def rescale_matrix(matrix: ArrayLike, fixed_factor: float, moving_factor: float) -> Matrix:
    """Carry a transform over to grids of other resolution.

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


def decompose(matrix: ArrayLike, shape: tuple[int, ...]) -> Decomposition:
    """Take a transform apart around the centre of the moving image.

    Args:
        matrix: (3, 3) transform moving -> fixed.
        shape: (H, W) of the moving image.
    """
    corners = corners_of(shape)
    jacobian = _jacobian(np.asarray(matrix, np.float64), centre_of(shape))
    left, stretch, right = np.linalg.svd(jacobian)
    mirrored = bool(np.linalg.det(jacobian) < 0)
    turn = left @ np.diag([1.0, -1.0 if mirrored else 1.0]) @ right
    return Decomposition(
        scale=float(np.sqrt(stretch[0] * stretch[1])),
        rotation_deg=float(np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0]))),
        anisotropy=float(stretch[0] / stretch[1]) if stretch[1] > 0 else float("inf"),
        mirrored=mirrored,
        perspective=_perspective(np.asarray(matrix, np.float64), corners),
        corner_displacements=project(matrix, corners) - corners,
    )


def implausibility(
    matrix: ArrayLike,
    shape: tuple[int, ...],
    *,
    scale_range: tuple[float, float] = (0.3, 3.5),
    max_anisotropy: float = 1.6,
    max_perspective: float = 0.8,
) -> str | None:
    """Say why a transform cannot be a registration of the moving image, or None when it can.

    Args:
        matrix: (3, 3) transform moving -> fixed.
        shape: (H, W) of the moving image.
        scale_range: least and largest scale at the centre, fixed pixels per moving pixel.
        max_anisotropy: largest ratio of the stretches in two directions at the centre.
        max_perspective: largest ``Decomposition.perspective``.
    """
    array = np.asarray(matrix, np.float64)
    if not np.isfinite(array).all() or abs(np.linalg.det(array)) < 1e-15:
        return "the transform is singular or not finite"
    parts = decompose(array, shape)
    if not np.isfinite(parts.perspective):
        return "the transform folds the image over (its horizon crosses the image)"
    if parts.mirrored:
        return "the transform turns the image over (its orientation flips)"
    if not scale_range[0] <= parts.scale <= scale_range[1]:
        return f"the transform scales by {parts.scale:.3g}, {scale_range[0]:g} to {scale_range[1]:g} is plausible"
    if parts.anisotropy > max_anisotropy:
        return (
            f"the transform stretches one way {parts.anisotropy:.3g} times the other, {max_anisotropy:g} is plausible"
        )
    if parts.perspective > max_perspective:
        return f"the transform has a perspective of {parts.perspective:.3g}, {max_perspective:g} is plausible"
    return None


def _checked(
    moving: ArrayLike, fixed: ArrayLike, weights: ArrayLike | None, needed: int, model: str
) -> tuple[Points, Points, NDArray[np.float64]]:
    """Points with a weight, as float64; refuses fewer than the model needs."""
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


def _or_none(fit: Fit, moving: Points, fixed: Points, weights: NDArray[np.float64]) -> Matrix | None:
    try:
        return fit(moving, fixed, weights)
    except NotRegisteredError:
        return None


def _homographies(moving: Points, fixed: Points, weights: NDArray[np.float64]) -> list[Matrix]:
    """Homographies under each of the weights ``(B, N)``, at least four of each > 0; refuses them all if it does one."""
    together = weights.sum(axis=0)
    (nm, to_m), (nf, to_f) = _normalising(moving, together), _normalising(fixed, together)
    shares = weights / weights.max(axis=1, keepdims=True)
    linear, clear = linear_homographies(nm, nf, shares)
    for row in np.flatnonzero(~clear):
        linear[row] = _direct_linear(nm, nf, np.sqrt(shares[row]))
    return [normalised(matrix) for matrix in np.linalg.inv(to_f) @ gauss_newton(linear, nm, nf, shares) @ to_m]


def _degenerate(n: int, model: str, seen: str, needed: str) -> NotRegisteredError:
    return NotRegisteredError(
        f"{n} tie points lie {seen}, a transform of the kind {model} needs {needed}: "
        "try more keypoints or a simpler model"
    )


def _affine_matrix(turn: NDArray[np.float64], shift: NDArray[np.float64]) -> Matrix:
    return np.vstack([np.column_stack([turn, shift]), [0.0, 0.0, 1.0]])


def _normalising(points: Points, weights: NDArray[np.float64]) -> tuple[Points, Matrix]:
    """The points with their centroid at 0 and a mean distance of sqrt(2) from it, and the similarity that does it."""
    share = weights / weights.sum()
    centroid = share @ points
    away = points - centroid
    distance = float(share @ np.sqrt((away * away).sum(axis=1)))
    scale = np.sqrt(2) / distance if distance > 0 else 1.0
    return scale * away, similarity(scale, shift=(-scale * centroid[0], -scale * centroid[1]))


def _direct_linear(moving: Points, fixed: Points, roots: NDArray[np.float64]) -> Matrix:
    """Null vector of the homography's linear equations, to float64's full precision; ``roots``: (N,) of the weights.

    Raises:
        NotRegisteredError: The points determine no homography.
    """
    used = roots > 0
    source = np.column_stack([moving[used], np.ones(used.sum())]) * roots[used, None]
    equations = homography_rows(source, fixed[used])
    # Only the eight equations of four points need the full decomposition to show their null vector; of many points it
    # would be as wide as it is high.
    _, singular, right = np.linalg.svd(equations, full_matrices=len(equations) < 9)
    if singular[7] <= _DEGENERATE * singular[0]:
        raise _degenerate(int(used.sum()), "homography", "almost on one line", "four places, no three of them in line")
    matrix: Matrix = right[8].reshape(3, 3)
    return matrix


def _jacobian(matrix: Matrix, point: tuple[float, float]) -> NDArray[np.float64]:
    """(2, 2) derivative of the projected point with respect to the point."""
    x, y, w = matrix @ [point[0], point[1], 1.0]
    jacobian: NDArray[np.float64] = (matrix[:2, :2] - np.outer([x / w, y / w], matrix[2, :2])) / w
    return jacobian


def _perspective(matrix: Matrix, corners: Points) -> float:
    depth = np.column_stack([corners, np.ones(4)]) @ matrix[2]
    if depth.min() * depth.max() <= 0:
        return float("inf")
    return float(np.abs(depth).max() / np.abs(depth).min() - 1)

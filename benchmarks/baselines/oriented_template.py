"""Template matching of oriented gradients, after CFOG (Ye et al. 2019): for images on nearly one pixel grid.

python benchmarks/baselines/oriented_template.py FIXED MOVING RESULT.json

Windows of the fixed image are looked for in the moving one within +-60 px of their place: RANSAC similarity, then a
homography on its inliers.
"""

from __future__ import annotations

import cv2
import numpy as np
from command import Found, on_one_grid, run
from images import Grey, Image, Mask
from numpy.typing import NDArray

ORIENTATIONS = 9
GRADIENT_SIGMA = 1.2
CELL_SIGMA = 1.6
HALF_PX = 48
RADIUS_PX = 60
PLACES = 14
"""Windows along the longer side."""
MIN_STEP_PX = 16
THRESHOLD_PX = 3.0
MIN_INLIERS = 10
MIN_INLIERS_HOMOGRAPHY = 30

Points = NDArray[np.float32]


@on_one_grid
def register(fixed: Image, moving: Image) -> Found:
    """Find a similarity, and with enough inliers a homography."""
    at, found = match_windows(fixed, moving)
    if len(at) < MIN_INLIERS:
        return Found(None, 0, f"{len(at)} places for windows, fewer than {MIN_INLIERS}")
    return _fit(found, at)


def oriented_gradients(grey: Grey) -> Grey:
    """Strength of the gradient along ``ORIENTATIONS`` directions, (H, W, C), of unit length at each pixel.

    Gradients that point to opposite sides count alike, so that reversed contrast does not matter.
    """
    smooth = cv2.GaussianBlur(grey, (0, 0), GRADIENT_SIGMA)
    dx, dy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    angle = np.arange(ORIENTATIONS, dtype=np.float32) * (np.pi / ORIENTATIONS)
    channels = np.abs(dx[..., None] * np.cos(angle) + dy[..., None] * np.sin(angle))
    channels = np.dstack([cv2.GaussianBlur(channel, (0, 0), CELL_SIGMA) for channel in np.moveaxis(channels, -1, 0)])
    # The smoothing along the orientation that CFOG adds to the one along x and y; orientations are periodic.
    channels = (np.roll(channels, 1, axis=-1) + 2 * channels + np.roll(channels, -1, axis=-1)) / 4
    return channels / (np.linalg.norm(channels, axis=-1, keepdims=True) + 1e-3)


def match_windows(fixed: Image, moving: Image) -> tuple[Points, Points]:
    """Look for windows of the fixed image in the moving one, around places where both have data.

    Returns:
        (N, 2) centres of the windows, fixed px, and (N, 2) where they were found, moving px.
    """
    half, radius = _sizes(fixed.grey.shape)
    one, other = oriented_gradients(fixed.grey), oriented_gradients(moving.grey)
    places = _lattice(fixed.valid & moving.valid, half + radius)
    found = []
    for x, y in places:
        window = one[y - half : y + half, x - half : x + half]
        area = other[y - half - radius : y + half + radius, x - half - radius : x + half + radius]
        found.append(np.add((x - radius, y - radius), peak(_similarity(area, window))))
    return np.array(places, np.float32).reshape(-1, 2), np.array(found, np.float32).reshape(-1, 2)


def _sizes(shape: tuple[int, ...]) -> tuple[int, int]:
    """Half a window and the radius of search, both smaller in images that have no room for them."""
    side = min(shape)
    if side >= 2 * (HALF_PX + RADIUS_PX) + 4 * MIN_STEP_PX:
        return HALF_PX, RADIUS_PX
    return side // 10, side // 8


def _lattice(valid: Mask, margin: int) -> list[tuple[int, int]]:
    """Places (x, y) with room around, where there is data."""
    height, width = valid.shape
    step = max(MIN_STEP_PX, max(valid.shape) // PLACES)
    rows, columns = range(margin, height - margin, step), range(margin, width - margin, step)
    return [(x, y) for y in rows for x in columns if valid[y, x]]


def _similarity(area: Grey, window: Grey) -> Grey:
    """Sum of products of a window, (h, w, C), at all its places in an area, (H, W, C); (H - h + 1, W - w + 1)."""
    channels = zip(np.moveaxis(area, -1, 0), np.moveaxis(window, -1, 0), strict=True)
    return np.sum([cv2.matchTemplate(a.copy(), w.copy(), cv2.TM_CCORR) for a, w in channels], axis=0)


def peak(similarity: Grey) -> tuple[float, float]:
    """Column and row of the maximum, between pixels by a parabola through its neighbours."""
    column, row = cv2.minMaxLoc(similarity)[3]
    return column + _vertex(similarity[row, :], column), row + _vertex(similarity[:, column], row)


def _vertex(values: Grey, i: int) -> float:
    if not 0 < i < len(values) - 1:
        return 0.0
    before, here, after = map(float, values[i - 1 : i + 2])
    curvature = before - 2 * here + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0


def _fit(moving: Points, fixed: Points) -> Found:
    similarity, inlier = cv2.estimateAffinePartial2D(
        moving, fixed, method=cv2.RANSAC, ransacReprojThreshold=THRESHOLD_PX, maxIters=20000, confidence=0.9999
    )
    n_inliers = 0 if similarity is None else int(inlier.sum())
    if n_inliers < MIN_INLIERS:
        return Found(None, n_inliers, f"{n_inliers} of {len(moving)} windows agree, fewer than {MIN_INLIERS}")
    if n_inliers < MIN_INLIERS_HOMOGRAPHY:
        return Found(np.vstack([similarity, [0, 0, 1]]), n_inliers)
    keep = inlier.ravel() > 0
    return Found(cv2.findHomography(moving[keep], fixed[keep])[0], n_inliers)


if __name__ == "__main__":
    run(register, __doc__)

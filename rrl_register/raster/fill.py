"""Pixels that hold no measurement although the file does not say so: black borders, missing lines, missing blocks."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from rrl_register.geometry.arrays import Mask

_MIN_FILL_FRACTION = 1e-4
"""Smaller black corners than this part of the image are taken for dark content."""
_BLOCK = 16
"""Side of the blocks of JPEG with reduced colours, px: so far from plain black its ringing reaches."""
_MIN_BLOCK_PX = 32
"""Smaller rectangles of black happen in dark content."""
_MAX_BRIDGED = 6
"""Wider missing lines are not interpolated, px."""
_LEAST_FILLED = 0.25
"""Share of its convex hull that content within a black frame fills at least: a mosaic with half of its tiles does."""
_BLACK, _FILL = 1, 2
"""Marks of black pixels, and of those that are found to be fill."""


def find_missing(values: npt.NDArray[np.float32], tolerance: float = 0.0, grow: int = 2) -> Mask:
    """Find all that is missing: the black border, lines and blocks.

    What a frame leaves black lies around its content. Where the content lies scattered over black ground, as the lights
    of a night scene do, black is a measurement, and nothing is missing.

    Args:
        values: (B, H, W).
        tolerance: Of ``black_border``.
        grow: Of ``black_border``.

    Returns:
        (H, W) bool, True where there is no measurement.
    """
    zero = _blank(values)
    if not zero.any():
        return zero
    border = black_border(values, tolerance, grow)
    if border.any() and _is_sparse(~border):
        return np.zeros_like(zero)
    known = border | missing_lines(values, border)
    return known | missing_blocks(values, known)


def black_border(values: npt.NDArray[np.float32], tolerance: float = 0.0, grow: int = 2) -> Mask:
    """Find the black fill that rotating or cropping left around an image.

    Fill is 0 in all bands and reaches a corner of the image, as the fill of a rotated or shifted frame does; dark
    content elsewhere stays. Where a lossy compression rang into the fill, nearly black pixels belong to it that are
    connected to a corner and no farther than a block from plain black; what is dark without being 0, as a night scene
    is, stays.

    Args:
        values: (B, H, W).
        tolerance: Largest absolute value that counts as nearly black.
        grow: Pixels by which the fill is widened, because interpolation and compression mix it with its neighbours.

    Returns:
        (H, W) bool, True on the fill.
    """
    zero = _blank(values)
    fill = _reaching_corners(zero)
    if tolerance > 0 and zero.any():
        plain = cv2.erode(zero.astype(np.uint8), np.ones((2, 2), np.uint8))
        near_plain = cv2.dilate(plain, np.ones((2 * _BLOCK + 1,) * 2, np.uint8)) > 0
        fill |= _reaching_corners(np.all(np.abs(values) <= tolerance, axis=0)) & near_plain
    if not fill.any():
        return fill
    return cv2.dilate(fill.astype(np.uint8), np.ones((2 * grow + 1,) * 2, np.uint8)) > 0


def missing_lines(values: npt.NDArray[np.float32], border: Mask) -> Mask:
    """Find the rows and columns that a sensor or a transmission lost: 0 in all bands from border to border.

    Args:
        values: (B, H, W).
        border: (H, W) bool, the black border.

    Returns:
        (H, W) bool.
    """
    zero = _blank(values) & ~border
    return _whole_rows(zero, border) | _whole_rows(zero.T, border.T).T


def missing_blocks(values: npt.NDArray[np.float32], border: Mask) -> Mask:
    """Find lost tiles and pieces of lines: rectangles of 0 in all bands that stand alone.

    Content that happens to be 0, such as a shadow, has no such outline.

    Args:
        values: (B, H, W).
        border: (H, W) bool, what is known to be missing.

    Returns:
        (H, W) bool.
    """
    zero = _blank(values) & ~border
    if np.count_nonzero(zero) < _MIN_BLOCK_PX:
        return np.zeros_like(zero)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(zero.astype(np.uint8), connectivity=4)
    area = stats[:, cv2.CC_STAT_AREA]
    box = stats[:, cv2.CC_STAT_WIDTH] * stats[:, cv2.CC_STAT_HEIGHT]
    chosen = (area == box) & (area >= _MIN_BLOCK_PX)
    chosen[0] = False
    return np.asarray(chosen[labels])


def bridge_lines(values: npt.NDArray[np.float32], valid: Mask) -> None:
    """Interpolate, in place, across rows and columns that are 0 in all bands, where these are few beside each other.

    Around a pixel that is not valid nothing can be matched for some px, so that a few lost lines would cost most of an
    image; and what lies between neighbours so near is known well enough.

    Args:
        values: (B, H, W), changed on the lines.
        valid: (H, W) bool, False where the file says so: pixels that are not interpolated from.
    """
    _bridge_rows(values, valid & ~_blank(values))
    _bridge_rows(values.swapaxes(1, 2), (valid & ~_blank(values)).T)


def _blank(values: npt.NDArray[np.float32]) -> Mask:
    """Where all bands are 0."""
    zero: Mask = np.asarray(values[0] == 0)
    for band in values[1:]:
        zero &= band == 0
    return zero


def _reaching_corners(black: Mask) -> Mask:
    """The connected parts of a mask that reach a corner of the image and are large enough to be fill."""
    marks = black.astype(np.uint8)
    bottom, right = black.shape[0] - 1, black.shape[1] - 1
    for x, y in ((0, 0), (right, 0), (0, bottom), (right, bottom)):
        if marks[y, x] == _BLACK:
            before = marks.copy()
            area = cv2.floodFill(marks, None, (x, y), _FILL, flags=4)[0]
            if area < _MIN_FILL_FRACTION * black.size:
                marks = before
    return np.asarray(marks == _FILL)


def _is_sparse(content: Mask) -> bool:
    """Whether content fills little of its own convex hull, specks aside."""
    solid = cv2.morphologyEx(content.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    places = cv2.findNonZero(solid)
    if places is None:
        return bool(content.any())
    return bool(np.count_nonzero(solid) < _LEAST_FILLED * cv2.contourArea(cv2.convexHull(places)))


def _whole_rows(zero: Mask, border: Mask) -> Mask:
    """Rows that are 0 from edge to edge of what the border leaves of them."""
    rows = zero.any(axis=1) & np.all(zero | border, axis=1)
    return np.asarray(zero & rows[:, None])


def _bridge_rows(values: npt.NDArray[np.float32], known: Mask) -> None:
    """``bridge_lines`` for rows only, pixel by pixel where the rows on either side are known."""
    for first, end in _runs(np.asarray(~known.any(axis=1))):
        if first == 0 or end == len(known) or end - first > _MAX_BRIDGED:
            continue
        columns = known[first - 1] & known[end]
        above, below = values[:, None, first - 1, columns], values[:, None, end, columns]
        weight = np.linspace(0, 1, end - first + 2, dtype=np.float32)[1:-1, None]
        values[:, first:end, columns] = (1 - weight) * above + weight * below


def _runs(flags: Mask) -> npt.NDArray[np.intp]:
    """Where runs of True begin and, excluded, end: (n, 2)."""
    return np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)

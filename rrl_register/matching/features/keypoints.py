"""Keypoints: corners of the structure, spread over the scene."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.geometry.arrays import Image, Mask, Points
from rrl_register.matching.features.oriented_gradients import contrast_normalised_gradients, edge_strength, eroded
from rrl_register.parallel import map_row_blocks

_INTEGRATION = 2.5
"""Standard deviation of the window that gathers a corner's gradients, px: wide, because spectra differ in detail."""
_SUPPRESSION = 4
"""Least distance between keypoints (chessboard), px."""


def detect(image: Image, valid: Mask, n: int = 400, margin: int = 8) -> Points:
    """Detect corners of the contrast-normalised structure, spread by buckets.

    Source: the smaller eigenvalue of the structure tensor (Shi and Tomasi 1994), here of gradients divided by the mean
    gradient around, which finds corners in dim areas and in other spectra, too.

    Args:
        image: ``(H, W)`` float32.
        valid: ``(H, W)`` bool.
        n: Largest number of points.
        margin: Least distance (chessboard) from the image border and from invalid pixels, px.

    Returns:
        (m, 2) float64 points (x, y) at pixel centres, m <= n, strongest of each bucket first.
    """
    response = corner_response(image, valid)
    peak = response == cv2.dilate(response, np.ones((2 * _SUPPRESSION + 1,) * 2, np.uint8))
    rows, columns = np.nonzero(peak & (response > 0) & _interior(valid, margin))
    chosen = _by_buckets(rows, columns, response[rows, columns], image.shape, n)
    return np.column_stack([columns[chosen], rows[chosen]]).astype(np.float64)


def corner_response(image: Image, valid: Mask) -> Image:
    """Return the smaller eigenvalue of the structure tensor of the contrast-normalised gradients, ``(H, W)`` >= 0."""
    gx, gy = contrast_normalised_gradients(image, valid)
    response = np.empty_like(gx)
    halo = int(np.ceil(4 * _INTEGRATION)) + 1

    def respond(rows: slice) -> None:
        """Compute some rows; the blurs need those around."""
        first, last = max(0, rows.start - halo), rows.stop + halo
        x, y = gx[first:last], gy[first:last]
        blurred = (cv2.GaussianBlur(product, (0, 0), _INTEGRATION) for product in (x * x, y * y, x * y))
        xx, yy, xy = (product[rows.start - first : rows.stop - first] for product in blurred)
        np.maximum((xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2), 0, out=response[rows])

    map_row_blocks(respond, len(response))
    return response


def spread_grid(image: Image, valid: Mask, step: int = 32, margin: int = 8) -> Points:
    """Select one point per cell of a regular grid, where the structure of the cell is strongest.

    Args:
        image: ``(H, W)`` float32.
        valid: ``(H, W)`` bool.
        step: Side of a cell, px.
        margin: Least distance (chessboard) from the image border and from invalid pixels, px.

    Returns:
        (m, 2) float64 points (x, y) at pixel centres, row of cells by row of cells; cells without structure have none.
    """
    strength = cv2.GaussianBlur(edge_strength(image, valid), (0, 0), step / 8) * _interior(valid, margin)
    height, width = strength.shape
    padded = np.pad(strength, ((0, -height % step), (0, -width % step)))
    cells = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step).swapaxes(1, 2)
    flat = cells.reshape(*cells.shape[:2], step * step)
    rows, columns = np.nonzero(flat.max(-1) > 0)
    place = flat[rows, columns].argmax(-1)
    return np.column_stack([columns * step + place % step, rows * step + place // step]).astype(np.float64)


def _interior(valid: Mask, margin: int) -> Mask:
    """Return the pixels farther than ``margin`` from invalid ones and from the image border."""
    return eroded(np.pad(valid, 1), margin)[1:-1, 1:-1]


def _by_buckets(
    rows: NDArray[np.int64], columns: NDArray[np.int64], response: Image, shape: tuple[int, ...], n: int
) -> NDArray[np.int64]:
    """Select at most ``n`` points: the first of each bucket, then the second of each, and so on.

    Buckets are squares, four points in each if the points were spread evenly.
    """
    side = max(2.0 * np.sqrt(shape[0] * shape[1] / max(n, 1)), 1.0)
    bucket = (rows // side).astype(np.int64) * (int(shape[1] // side) + 1) + (columns // side).astype(np.int64)
    order = np.lexsort((-response, bucket))
    sorted_bucket = bucket[order]
    turn = np.arange(len(order)) - np.searchsorted(sorted_bucket, sorted_bucket)
    return order[np.lexsort((-response[order], turn))][:n]

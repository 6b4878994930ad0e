"""Preview of a registration: a checkerboard of both images, and the tie points between them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rrl_register.config import Kind, ReadConfig, Resampling
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.arrays import Points
from rrl_register.geometry.transforms import rescale_matrix
from rrl_register.raster.grid import Grid
from rrl_register.raster.radiometry import recognise_kinds
from rrl_register.raster.reader import read_bands
from rrl_register.raster.stretch import to_grey
from rrl_register.warping.warp import warp_array

Picture = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.float32]

PANEL_SIDE = 528
"""Longest side of each of the three panels, px; with the gaps between them the picture is at most 1600 px wide."""
GAP = 8
CAPTION_HEIGHT = 24
CHECKS = 8
"""Squares along the longer side of the checkerboard."""
MAX_INLIERS, MAX_OUTLIERS = 100, 50
GREEN, RED, INK, PAPER = (0, 200, 0), (230, 40, 40), (30, 30, 30), (255, 255, 255)


def preview(fixed_grey: Grey, aligned_grey: Grey | None, moving_grey: Grey, registration: Registration) -> Picture:
    """Draw a checkerboard of the fixed and the aligned image, and beside it both images with their tie points.

    Args:
        fixed_grey: (H, W) float32 in [0, 1], the fixed image at any resolution.
        aligned_grey: (H, W) float32 in [0, 1], the moving image on the same grid; None if the registration failed.
        moving_grey: (h, w) float32 in [0, 1], the moving image at any resolution.
        registration: The result; lines join its tie points, at most 100 inliers in green and 50 outliers in red.

    Returns:
        (rows, columns, 3) uint8 RGB, at most 1600 columns wide.
    """
    board = fixed_grey if aligned_grey is None else checkerboard(fixed_grey, aligned_grey)
    panels = [_panel(image) for image in (board, fixed_grey, moving_grey)]
    canvas, lefts = _side_by_side(panels)
    _draw_tie_points(canvas, panels, lefts, registration)
    n_outliers = registration.n_tie_points - registration.n_inliers
    captions = (
        "checkerboard" if registration.status == "ok" else "fixed (not registered)",
        f"fixed: {registration.n_inliers} inliers (green)",
        f"moving: {n_outliers} outliers (red)",
    )
    for text, left in zip(captions, lefts, strict=True):
        place = (left + 4, CAPTION_HEIGHT - 8)
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
    return canvas


def checkerboard(one: Grey, other: Grey) -> Grey:
    """Combine two images of one shape in alternating squares, the first image at the top left."""
    side = max(1, -(-max(one.shape) // CHECKS))
    rows, columns = np.indices(one.shape) // side
    mixed: Grey = np.where((rows + columns) % 2 == 0, one, other)
    return mixed


def preview_of_files(
    fixed: Path, moving: Path, registration: Registration, config: ReadConfig | None = None
) -> Picture:
    """Draw the preview of two files, read at the resolution of the preview.

    Args:
        fixed: The fixed image.
        moving: The moving image.
        registration: The result of registering them.
        config: Bands and kinds used by the registration.

    Returns:
        (rows, columns, 3) uint8 RGB.

    Raises:
        InputError: A file cannot be read.
    """
    config = config or ReadConfig()
    fixed_kind, moving_kind = recognise_kinds(fixed, moving, config)
    fixed_grey, _, fixed_factor = _read_grey(fixed, config.fixed_bands, fixed_kind)
    moving_grey, valid, moving_factor = _read_grey(moving, config.moving_bands, moving_kind)
    aligned = None
    if registration.matrix is not None:
        matrix = rescale_matrix(registration.matrix, fixed_factor, moving_factor)
        displacement = registration.displacement and registration.displacement.reduced(fixed_factor)
        aligned = warp_array(moving_grey, matrix, fixed_grey.shape, Resampling.BILINEAR, valid, displacement)[0]
    return preview(fixed_grey, aligned, moving_grey, registration)


def _read_grey(path: Path, bands: tuple[int, ...], kind: Kind) -> tuple[Grey, npt.NDArray[np.bool_], float]:
    values, valid, factor = read_bands(path, bands, max_side=PANEL_SIDE)
    return to_grey(values, valid, kind), valid, factor


def _panel(grey: Grey) -> Picture:
    """Convert a grey image to RGB of at most ``PANEL_SIDE`` px."""
    scale = min(1.0, PANEL_SIDE / max(grey.shape))
    size = tuple(max(1, round(side * scale)) for side in reversed(grey.shape))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    level = np.rint(255 * np.clip(small, 0, 1)).astype(np.uint8)
    return np.repeat(level[:, :, None], 3, axis=2)


def _side_by_side(panels: list[Picture]) -> tuple[Picture, list[int]]:
    """Lay panels out under a strip for captions; return the canvas and the left edge of each panel."""
    lefts = [int(left) for left in np.cumsum([0, *(panel.shape[1] + GAP for panel in panels[:-1])])]
    height = CAPTION_HEIGHT + max(panel.shape[0] for panel in panels)
    canvas = np.full((height, lefts[-1] + panels[-1].shape[1], 3), PAPER, np.uint8)
    for left, panel in zip(lefts, panels, strict=True):
        canvas[CAPTION_HEIGHT : CAPTION_HEIGHT + panel.shape[0], left : left + panel.shape[1]] = panel
    return canvas, lefts


def _draw_tie_points(canvas: Picture, panels: list[Picture], lefts: list[int], registration: Registration) -> None:
    """Draw lines from the second panel (fixed) to the third (moving), inliers on top."""
    points = registration.tie_points
    inlier = registration.inlier
    starts = _on_canvas(points.fixed, registration.fixed_grid, panels[1], lefts[1])
    ends = _on_canvas(points.moving, registration.moving_grid, panels[2], lefts[2])
    for chosen, most, colour in ((~inlier, MAX_OUTLIERS, RED), (inlier, MAX_INLIERS, GREEN)):
        indices = np.flatnonzero(chosen)
        for index in indices[np.linspace(0, len(indices) - 1, min(most, len(indices))).astype(np.intp)]:
            cv2.line(canvas, starts[index], ends[index], colour, 1, cv2.LINE_AA)


def _on_canvas(points: Points, grid: Grid, panel: Picture, left: int) -> list[tuple[int, int]]:
    """Map pixels of a grid to the canvas."""
    scale = np.array([panel.shape[1] / grid.width, panel.shape[0] / grid.height])
    shown = (np.asarray(points, np.float64).reshape(-1, 2) + 0.5) * scale - 0.5 + (left, CAPTION_HEIGHT)
    return [(round(x), round(y)) for x, y in shown]

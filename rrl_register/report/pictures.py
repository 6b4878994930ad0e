"""Pictures of a report, read at a reduced size, stretched and warped onto the fixed grid; the preview of two files."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rrl_register.config import Kind, ReadConfig, Resampling
from rrl_register.errors import InputError
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.arrays import Mask, Points
from rrl_register.geometry.transforms import decompose, rescale_matrix
from rrl_register.raster.grid import Grid
from rrl_register.raster.radiometry import recognise_kinds
from rrl_register.raster.reader import open_info, read_bands
from rrl_register.raster.stretch import to_grey
from rrl_register.report.inputs import ReportInput
from rrl_register.warping.warp import warp_array

Levels = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

MAX_SIDE = 1024
"""Longest side of a picture, px."""
MAX_SOURCE_SIDE = 4096
"""Longest side that the moving image is read at before it is warped, px: it may extend far beyond the fixed one."""
THUMBNAIL_SIDE = 96
_SQUARES = 4
"""Squares along the longer side of a thumbnail's checkerboard."""
_RGB = ("red", "green", "blue")
_QUALITY = 82
_THUMBNAIL_QUALITY = 70


class Picture(NamedTuple):
    """An image, reduced and stretched for display.

    Attributes:
        levels: (C, h, w) float32 in [0, 1]: one channel, or red, green and blue.
        valid: (h, w) bool, where the image holds data.
        factor: File px per px.
    """

    levels: Levels
    valid: Mask
    factor: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, px."""
        return self.valid.shape[1], self.valid.shape[0]

    @property
    def pixels(self) -> Pixels:
        """(h, w, 4) uint8 RGBA, transparent where the image holds no data."""
        colour = np.broadcast_to(self.levels, (3, *self.valid.shape))
        opacity = self.valid[None].astype(np.float32)
        channels = np.rint(255 * np.clip(np.concatenate([colour, opacity]), 0, 1)).astype(np.uint8)
        return np.ascontiguousarray(channels.transpose(1, 2, 0))


@dataclass(frozen=True)
class Pictures:
    """The pictures of one registration; None for those that are missing.

    Attributes:
        fixed: The fixed image.
        moving: The moving image before registration.
        aligned: The moving image on the fixed picture's pixels.
    """

    fixed: Picture | None
    moving: Picture | None
    aligned: Picture | None = None

    @property
    def overlap(self) -> Mask | None:
        """(h, w) bool on the fixed picture's pixels, where both images hold data."""
        return self.fixed.valid & self.aligned.valid if self.fixed and self.aligned else None


def read_pictures(inputs: ReportInput) -> Pictures:
    """Read both images at a reduced size; if they were registered, warp the moving one onto the fixed one.

    Raises:
        InputError: A registered image cannot be read any more. After a failed registration, it is left out instead.
        UsageError: A band does not exist.
    """
    read, kinds = inputs.config.read, inputs.kinds
    found = inputs.registration
    if found is None or found.matrix is None:
        fixed = _read_if_possible(inputs.fixed, read.fixed_bands, kinds[0])
        return Pictures(fixed, _read_if_possible(inputs.moving, read.moving_bands, kinds[1]))
    fixed = _read(inputs.fixed, read.fixed_bands, kinds[0], MAX_SIDE)
    # Pixels of the source are to be about as large as those of the fixed picture.
    scale = decompose(found.matrix, found.moving_grid.shape).scale / fixed.factor
    side = min(MAX_SOURCE_SIDE, max(MAX_SIDE // 2, round(max(found.moving_grid.shape) * scale)))
    source = _read(inputs.moving, read.moving_bands, kinds[1], side)
    aligned = Picture(*_warped(source, fixed, found), fixed.factor)
    factor = max(source.size) / MAX_SIDE
    if factor <= 1:
        return Pictures(fixed, source, aligned)
    size = tuple(max(1, round(side / factor)) for side in source.size)
    levels = np.stack([cv2.resize(band, size, interpolation=cv2.INTER_AREA) for band in source.levels])
    valid = cv2.resize(source.valid.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
    return Pictures(fixed, Picture(levels, valid, source.factor * source.size[0] / size[0]), aligned)


def data_uri(pixels: Pixels, quality: int = _QUALITY) -> str:
    """Encode RGBA pixels as a WebP data URI."""
    return "data:image/webp;base64," + base64.b64encode(encode(pixels, quality)).decode()


def encode(pixels: Pixels, quality: int = _QUALITY) -> bytes:
    """Encode (h, w, 4) uint8 RGBA as WebP, without an alpha channel if all pixels are opaque."""
    opaque = bool((pixels[..., 3] == 255).all())
    swapped = cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGR if opaque else cv2.COLOR_RGBA2BGRA)
    encoded: Pixels = cv2.imencode(".webp", swapped, [cv2.IMWRITE_WEBP_QUALITY, quality])[1]
    return encoded.tobytes()


def thumbnail(pictures: Pictures) -> bytes | None:
    """Encode a small WebP: a checkerboard of both images, or half of each if they were not registered.

    Returns:
        The file's bytes; None if there is no picture.
    """
    first = pictures.fixed or pictures.moving
    second = pictures.aligned or pictures.moving or first
    if first is None or second is None:
        return None
    scale = min(1.0, THUMBNAIL_SIDE / max(first.size))
    size = tuple(max(1, round(side * scale)) for side in first.size)
    one, other = (cv2.resize(each.pixels, size, interpolation=cv2.INTER_AREA) for each in (first, second))
    rows, columns = np.indices(one.shape[:2])
    side = max(1, max(size) // _SQUARES)
    shows_first = (rows // side + columns // side) % 2 == 0 if pictures.aligned else columns < size[0] // 2
    return encode(np.where(shows_first[..., None], one, other).astype(np.uint8), _THUMBNAIL_QUALITY)


def _read_if_possible(path: Path, bands: tuple[int, ...], kind: Kind) -> Picture | None:
    try:
        return _read(path, bands, kind, MAX_SIDE)
    except InputError:
        return None


def _read(path: Path, bands: tuple[int, ...], kind: Kind, side: int) -> Picture:
    """Read a picture, in colour if three bands are selected, or else by the bands that the file names so."""
    named = open_info(path).colorinterp
    colours: tuple[int, ...] = bands if len(bands) == 3 else ()
    if not bands and all(colour in named for colour in _RGB):
        colours = tuple(named.index(colour) + 1 for colour in _RGB)
    if kind is Kind.SAR:
        colours = ()
    read = read_bands(path, colours or bands, max_side=side)
    inside = read.values[:, read.valid]
    if colours and np.all(inside.min(axis=1) < inside.max(axis=1)):
        levels = np.stack([to_grey(band[None], read.valid, kind) for band in read.values])
    else:
        levels = to_grey(read.values, read.valid, kind)[None]
    return Picture(levels, read.valid, read.factor)


def _warped(source: Picture, fixed: Picture, registration: Registration) -> tuple[Levels, Mask]:
    """Warp the moving picture onto the fixed one's pixels; return levels and validity."""
    assert registration.matrix is not None
    matrix = rescale_matrix(registration.matrix, fixed.factor, source.factor)
    displacement = registration.displacement and registration.displacement.reduced(fixed.factor)
    levels, valid = warp_array(
        source.levels, matrix, fixed.valid.shape, Resampling.BILINEAR, source.valid, displacement
    )
    return levels.astype(np.float32), valid


PANEL_SIDE = 528
"""Longest side of each of the three panels, px; with the gaps between them the picture is at most 1600 px wide."""
GAP = 8
CAPTION_HEIGHT = 24
CHECKS = 8
"""Squares along the longer side of the preview's checkerboard."""
MAX_INLIERS, MAX_OUTLIERS = 100, 50
GREEN, RED, INK, PAPER = (0, 200, 0), (230, 40, 40), (30, 30, 30), (255, 255, 255)


def preview(fixed_grey: Levels, aligned_grey: Levels | None, moving_grey: Levels, registration: Registration) -> Pixels:
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
    panels: list[Pixels] = []
    for image in (board, fixed_grey, moving_grey):
        scale = min(1.0, PANEL_SIDE / max(image.shape))
        size = tuple(max(1, round(side * scale)) for side in reversed(image.shape))
        small = np.clip(cv2.resize(image, size, interpolation=cv2.INTER_AREA), 0, 1)
        panels.append(np.repeat(np.rint(255 * small).astype(np.uint8)[:, :, None], 3, axis=2))
    lefts = [int(left) for left in np.cumsum([0, *(panel.shape[1] + GAP for panel in panels[:-1])])]
    height = CAPTION_HEIGHT + max(panel.shape[0] for panel in panels)
    canvas = np.full((height, lefts[-1] + panels[-1].shape[1], 3), PAPER, np.uint8)
    for left, panel in zip(lefts, panels, strict=True):
        canvas[CAPTION_HEIGHT : CAPTION_HEIGHT + panel.shape[0], left : left + panel.shape[1]] = panel
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


def checkerboard(one: Levels, other: Levels) -> Levels:
    """Combine two images of one shape in alternating squares, the first image at the top left."""
    side = max(1, -(-max(one.shape) // CHECKS))
    rows, columns = np.indices(one.shape) // side
    mixed: Levels = np.where((rows + columns) % 2 == 0, one, other)
    return mixed


def preview_of_files(fixed: Path, moving: Path, registration: Registration, config: ReadConfig | None = None) -> Pixels:
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
    one, other = _grey(fixed, config.fixed_bands, fixed_kind), _grey(moving, config.moving_bands, moving_kind)
    aligned = None if registration.matrix is None else _warped(other, one, registration)[0][0]
    return preview(one.levels[0], aligned, other.levels[0], registration)


def _grey(path: Path, bands: tuple[int, ...], kind: Kind) -> Picture:
    read = read_bands(path, bands, max_side=PANEL_SIDE)
    return Picture(to_grey(read.values, read.valid, kind)[None], read.valid, read.factor)


def _draw_tie_points(canvas: Pixels, panels: list[Pixels], lefts: list[int], registration: Registration) -> None:
    """Draw lines from the second panel (fixed) to the third (moving), inliers on top."""
    points, inlier = registration.tie_points, registration.inlier
    starts = _on_canvas(points.fixed, registration.fixed_grid, panels[1], lefts[1])
    ends = _on_canvas(points.moving, registration.moving_grid, panels[2], lefts[2])
    for chosen, most, colour in ((~inlier, MAX_OUTLIERS, RED), (inlier, MAX_INLIERS, GREEN)):
        indices = np.flatnonzero(chosen)
        for index in indices[np.linspace(0, len(indices) - 1, min(most, len(indices))).astype(np.intp)]:
            cv2.line(canvas, starts[index], ends[index], colour, 1, cv2.LINE_AA)


def _on_canvas(points: Points, grid: Grid, panel: Pixels, left: int) -> list[tuple[int, int]]:
    """Map pixels of a grid to the canvas."""
    scale = np.array([panel.shape[1] / grid.width, panel.shape[0] / grid.height])
    shown = (np.asarray(points, np.float64).reshape(-1, 2) + 0.5) * scale - 0.5 + (left, CAPTION_HEIGHT)
    return [(round(x), round(y)) for x, y in shown]

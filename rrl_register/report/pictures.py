"""The images of a report: read reduced, made visible, laid on the fixed grid, encoded."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rrl_register.config import Kind, Resampling
from rrl_register.errors import InputError
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.arrays import Mask, Matrix
from rrl_register.geometry.transforms import decompose, rescale_matrix
from rrl_register.raster.reader import Bands, RasterInfo, open_info, read_bands
from rrl_register.raster.stretch import to_grey
from rrl_register.report.inputs import Case
from rrl_register.warping.warp import warp_array

Levels = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

MAX_SIDE = 1024
"""Longest side of an image in a report, px."""
MAX_SOURCE_SIDE = 4096
"""Longest side that the moving image is read at to be warped, px: it may cover far more ground than the fixed one."""
THUMBNAIL_SIDE = 96
_CHECKS = 4
_QUALITY = 82
_SMALL_QUALITY = 70


class Visible(NamedTuple):
    """An image made visible.

    Attributes:
        levels: (C, h, w) float32 in [0, 1], one channel or red, green and blue.
        valid: (h, w) bool, where it holds data.
        factor: Pixels of the file per pixel.
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
        """(h, w, 4) uint8 RGBA, transparent where it holds no data."""
        colour = np.broadcast_to(self.levels, (3, *self.valid.shape))
        opacity = self.valid[None].astype(np.float32)
        channels = np.rint(255 * np.clip(np.concatenate([colour, opacity]), 0, 1)).astype(np.uint8)
        return np.ascontiguousarray(channels.transpose(1, 2, 0))


@dataclass(frozen=True)
class Pictures:
    """The images of one registration; None for what cannot be shown.

    Attributes:
        fixed: The fixed image, reduced.
        moving: The moving image as it was, reduced.
        aligned: The moving image on the fixed picture's pixels.
    """

    fixed: Visible | None
    moving: Visible | None
    aligned: Visible | None = None

    @property
    def overlap(self) -> Mask | None:
        """(h, w) bool, where both images hold data, on the fixed picture's pixels."""
        return self.fixed.valid & self.aligned.valid if self.fixed and self.aligned else None


def read_pictures(case: Case) -> Pictures:
    """Read both images, reduced, and lay the moving one on the fixed one where they were registered.

    Raises:
        InputError: A registered image cannot be read any more. Where registering failed, such an image is left out.
        UsageError: A band does not exist.
    """
    read, kinds = case.config.read, case.kinds
    found = case.registration
    if found is None or found.matrix is None:
        fixed = _read_if_possible(case.fixed, read.fixed_bands, kinds[0])
        return Pictures(fixed, _read_if_possible(case.moving, read.moving_bands, kinds[1]))
    fixed = _read(case.fixed, read.fixed_bands, kinds[0], MAX_SIDE)
    source = _read(case.moving, read.moving_bands, kinds[1], _source_side(found.matrix, found, fixed.factor))
    return Pictures(fixed, _smaller(source), _aligned(source, fixed, found.matrix, found))


def data_uri(pixels: Pixels, quality: int = _QUALITY) -> str:
    """Encode RGBA pixels as WebP within an address."""
    return "data:image/webp;base64," + base64.b64encode(encode(pixels, quality)).decode()


def encode(pixels: Pixels, quality: int = _QUALITY) -> bytes:
    """Encode (h, w, 4) uint8 RGBA as WebP; without the opacity where all is opaque."""
    opaque = bool((pixels[..., 3] == 255).all())
    swapped = cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGR if opaque else cv2.COLOR_RGBA2BGRA)
    encoded: Pixels = cv2.imencode(".webp", swapped, [cv2.IMWRITE_WEBP_QUALITY, quality])[1]
    return encoded.tobytes()


def thumbnail(pictures: Pictures) -> bytes | None:
    """A small WebP: a checkerboard of both images, or half of each where they were not registered; None for nothing."""
    first = pictures.fixed or pictures.moving
    second = pictures.aligned or pictures.moving or first
    if first is None or second is None:
        return None
    one = _shrunk(first.pixels, THUMBNAIL_SIDE)
    other = cv2.resize(second.pixels, (one.shape[1], one.shape[0]), interpolation=cv2.INTER_AREA)
    rows, columns = np.indices(one.shape[:2])
    side = max(1, max(one.shape[:2]) // _CHECKS)
    shows_first = (rows // side + columns // side) % 2 == 0 if pictures.aligned else columns < one.shape[1] // 2
    return encode(np.where(shows_first[..., None], one, other).astype(np.uint8), _SMALL_QUALITY)


def _read_if_possible(path: Path, bands: tuple[int, ...], kind: Kind) -> Visible | None:
    try:
        return _read(path, bands, kind, MAX_SIDE)
    except InputError:
        return None


def _read(path: Path, bands: tuple[int, ...], kind: Kind, side: int) -> Visible:
    info = open_info(path)
    colours = () if kind is Kind.SAR else _colour_bands(info, bands)
    read = _read_reduced(info, colours or bands, side)
    inside = read.values[:, read.valid]
    if colours and np.all(inside.min(axis=1) < inside.max(axis=1)):
        levels = np.stack([to_grey(band[None], read.valid, kind) for band in read.values])
    else:
        levels = to_grey(read.values, read.valid, kind)[None]
    return Visible(levels, read.valid, read.factor)


def _colour_bands(info: RasterInfo, bands: tuple[int, ...]) -> tuple[int, ...]:
    """Red, green and blue: three bands that were asked for, or those that the file calls so; else none."""
    if bands:
        return bands if len(bands) == 3 else ()
    wanted = ("red", "green", "blue")
    if not all(colour in info.colorinterp for colour in wanted):
        return ()
    return tuple(info.colorinterp.index(colour) + 1 for colour in wanted)


def _read_reduced(info: RasterInfo, bands: tuple[int, ...], side: int) -> Bands:
    if not info.dtype.startswith("complex"):
        return read_bands(info.path, bands, max_side=side)
    return _reduced_amplitudes(read_bands(info.path, bands), side)


def _reduced_amplitudes(read: Bands, side: int) -> Bands:
    """Average amplitudes down; the complex numbers that they come from would cancel."""
    height, width = read.valid.shape
    factor = max(1.0, max(height, width) / side)
    size = (int(width / factor + 1e-9), int(height / factor + 1e-9))
    covered = slice(0, round(size[1] * factor)), slice(0, round(size[0] * factor))
    values = [cv2.resize(band[covered], size, interpolation=cv2.INTER_AREA) for band in read.values]
    share = cv2.resize(read.valid[covered].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return Bands(np.stack(values), share >= 0.5, factor)


def _source_side(matrix: Matrix, registration: Registration, fixed_factor: float) -> int:
    """Longest side to read the moving image at, so that its pixels are about as large as the fixed picture's."""
    grid = registration.moving_grid
    scale = decompose(matrix, grid.shape).scale
    return min(MAX_SOURCE_SIDE, max(MAX_SIDE // 2, round(max(grid.shape) * scale / fixed_factor)))


def _aligned(source: Visible, fixed: Visible, matrix: Matrix, registration: Registration) -> Visible:
    reduced = rescale_matrix(matrix, fixed.factor, source.factor)
    displacement = registration.displacement and registration.displacement.reduced(fixed.factor)
    levels, valid = warp_array(
        source.levels, reduced, fixed.valid.shape, Resampling.BILINEAR, source.valid, displacement
    )
    return Visible(levels.astype(np.float32), valid, fixed.factor)


def _smaller(image: Visible) -> Visible:
    """An image of ``MAX_SIDE`` at most."""
    factor = max(image.size) / MAX_SIDE
    if factor <= 1:
        return image
    size = tuple(max(1, round(side / factor)) for side in image.size)
    levels = np.stack([cv2.resize(band, size, interpolation=cv2.INTER_AREA) for band in image.levels])
    valid = cv2.resize(image.valid.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
    return Visible(levels, valid, image.factor * image.size[0] / size[0])


def _shrunk(pixels: Pixels, side: int) -> Pixels:
    scale = min(1.0, side / max(pixels.shape[:2]))
    size = tuple(max(1, round(length * scale)) for length in (pixels.shape[1], pixels.shape[0]))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)

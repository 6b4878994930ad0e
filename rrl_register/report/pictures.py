"""Pictures of a report: read at a reduced size, stretched, warped onto the fixed grid and encoded."""

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
from rrl_register.raster.reader import RasterInfo, open_info, read_bands
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
    return Pictures(fixed, _reduced(source), _aligned(source, fixed, found.matrix, found))


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
    info = open_info(path)
    colours = () if kind is Kind.SAR else _colour_bands(info, bands)
    read = read_bands(path, colours or bands, max_side=side)
    inside = read.values[:, read.valid]
    if colours and np.all(inside.min(axis=1) < inside.max(axis=1)):
        levels = np.stack([to_grey(band[None], read.valid, kind) for band in read.values])
    else:
        levels = to_grey(read.values, read.valid, kind)[None]
    return Picture(levels, read.valid, read.factor)


def _colour_bands(info: RasterInfo, bands: tuple[int, ...]) -> tuple[int, ...]:
    """Return the numbers of red, green and blue: three selected bands, or those that the file names; or none."""
    if bands:
        return bands if len(bands) == 3 else ()
    wanted = ("red", "green", "blue")
    if not all(colour in info.colorinterp for colour in wanted):
        return ()
    return tuple(info.colorinterp.index(colour) + 1 for colour in wanted)


def _aligned(source: Picture, fixed: Picture, matrix: Matrix, registration: Registration) -> Picture:
    reduced = rescale_matrix(matrix, fixed.factor, source.factor)
    displacement = registration.displacement and registration.displacement.reduced(fixed.factor)
    levels, valid = warp_array(
        source.levels, reduced, fixed.valid.shape, Resampling.BILINEAR, source.valid, displacement
    )
    return Picture(levels.astype(np.float32), valid, fixed.factor)


def _reduced(image: Picture) -> Picture:
    """Reduce a picture to ``MAX_SIDE`` at most."""
    factor = max(image.size) / MAX_SIDE
    if factor <= 1:
        return image
    size = tuple(max(1, round(side / factor)) for side in image.size)
    levels = np.stack([cv2.resize(band, size, interpolation=cv2.INTER_AREA) for band in image.levels])
    valid = cv2.resize(image.valid.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
    return Picture(levels, valid, image.factor * image.size[0] / size[0])

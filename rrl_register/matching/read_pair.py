"""Read a pair for matching: whole images at a bounded size, and windows at full resolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from rrl_register.config import Kind, ReadConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.transforms import decompose
from rrl_register.geometry.window import Frame, Frames, Rectangle
from rrl_register.matching.image_pair import SAME_RESOLUTION, ImagePair, MatchingImage
from rrl_register.parallel import parallel_map
from rrl_register.raster.grid import Grid, overlap_box, prior_matrix
from rrl_register.raster.radiometry import guess_kind, pair_kinds
from rrl_register.raster.reader import Bands, RasterInfo, has_content, open_info, read_bands, require_content
from rrl_register.raster.stretch import to_grey

Item = TypeVar("Item")
Result = TypeVar("Result")

MIN_SIDE = 48
_STRIP_SIDE = 64
"""Shorter side that strips keep, although their longer one exceeds the largest that is configured, px."""
_KEPT_BYTES = 16 * 2**20
"""Largest image that is kept after its kind was guessed; reading a larger one again costs less than the memory."""
_FEW_VALUES = 8 * 2**20
"""Largest number of values of all bands of both images that are read at the same time, to bound the memory."""
REACH_PX = 100.0
"""Largest error assumed of georeferences, px at the resolution that both images share."""
TURN = 0.1
"""Share of the longer side by which the georeferences' errors of rotation and scale (4 degrees, 5 %) move a corner."""
EDGE_TO_CENTRE = np.array([[0.5], [-0.5]])
"""Step from a box's first and last edge to the centres of the pixels there."""
MOVING_SIDES = 2
"""Largest length of the moving image over that of the fixed one: the moving image is only resampled."""


@dataclass(frozen=True)
class ImageFile:
    """One file of a pair.

    Attributes:
        path: Path of the file.
        bands: Bands to match on, 1-based; empty: all but alpha.
        kind: What the image shows; never ``auto``.
        grid: Size and georeference.
        n_bands: Number of bands that are read.
        known: The whole image at full resolution, if it was read to guess its kind and is small.
    """

    path: Path
    bands: tuple[int, ...]
    kind: Kind
    grid: Grid
    n_bands: int
    known: Bands | None = None

    @classmethod
    def of(cls, info: RasterInfo, bands: tuple[int, ...], kind: Kind, seen: Bands | None) -> ImageFile:
        """Describe a file; ``seen`` is what was read to guess its kind: the middle of the image, all of it, or None."""
        whole = seen is not None and seen.valid.shape == info.grid.shape and seen.values.nbytes <= _KEPT_BYTES
        return cls(info.path, bands, kind, info.grid, len(bands or info.data_bands), seen if whole else None)

    @property
    def whole(self) -> Rectangle:
        """All of the image."""
        return Rectangle(0, 0, self.grid.width, self.grid.height)

    def read(self, factor: float, part: Rectangle | None = None) -> Bands:
        """Read the bands, averaged down by a factor; all of the image or a part, px of the file."""
        if self.known is None or factor > 1 or part is not None:
            return read_bands(self.path, self.bands, factor=factor, part=part)
        require_content(self.path, self.known)
        return self.known

    def image(self, bands: Bands, frame: Frame) -> MatchingImage:
        """Turn bands that were read in a frame into the grey image that is matched."""
        return MatchingImage(to_grey(bands.values, bands.valid, self.kind), bands.valid, self.kind, self.grid, frame)


@dataclass(frozen=True)
class PairFiles:
    """Both files of a pair, before their pixels are matched.

    Attributes:
        fixed, moving: The files.
        prior: ``(3, 3)`` moving px -> fixed px of the files, from the georeferences or from the sizes.
    """

    fixed: ImageFile
    moving: ImageFile
    prior: Matrix

    @classmethod
    def of(cls, fixed: Path, moving: Path, config: ReadConfig) -> PairFiles:
        """Open both files and guess what they show.

        Raises:
            InputError: A file cannot be read, or the georeferences share no ground.
            UsageError: Both are the same file, or a band does not exist.
        """
        if fixed.exists() and moving.exists() and fixed.samefile(moving):
            raise UsageError(f"FIXED and MOVING are the same file ({fixed}): two images of one place are needed")
        infos = open_info(fixed), open_info(moving)
        prior = prior_matrix(infos[0].grid, infos[1].grid)
        chosen = config.fixed_bands, config.moving_bands
        requests = list(zip(infos, chosen, (config.fixed_kind, config.moving_kind), strict=True))
        n_values = sum(len(bands or info.data_bands) * math.prod(info.grid.shape) for info, bands, _ in requests)
        guesses, seen = zip(*_of_both(lambda request: guess_kind(*request), requests, n_values), strict=True)
        first, second = map(ImageFile.of, infos, chosen, pair_kinds(*guesses), seen)
        return cls(first, second, prior)

    @property
    def georeferenced(self) -> bool:
        """True if the prior comes from georeferences."""
        return self.fixed.grid.georeferenced and self.moving.grid.georeferenced

    @property
    def n_bands(self) -> int:
        """Number of bands read of the file with more of them."""
        return max(self.fixed.n_bands, self.moving.n_bands)

    def overview(self, max_side: int, reach: float | None = None) -> ImagePair:
        """Read both images at a bounded number of pixels, for matching without a starting point.

        The coarser one sets the resolution. If that leaves too many pixels, georeferenced images are cut to the ground
        that they can share; what is still too large is reduced.

        Args:
            max_side: Longest side of the reduced images, px.
            reach: Largest error of the georeferences, px of the fixed file; None: 100 px at the shared resolution;
                inf: unknown, so that nothing is cut.

        Raises:
            InputError: A file cannot be read, or holds nothing to match.
        """
        files = self.fixed, self.moving
        scale = decompose(self.prior, self.moving.grid.shape).scale
        factors = [ratio if ratio > SAME_RESOLUTION else 1.0 for ratio in (scale, 1 / scale)]
        parts = self.fixed.whole, self.moving.whole
        if self.georeferenced and _excess(parts, factors, max_side) > 1:
            parts = self._shared_parts(REACH_PX * factors[0] if reach is None else reach)
        further = max(1.0, min(_excess(parts, factors, max_side), _least_excess(parts, factors, max_side)))
        frames = [Frame(further * factor, part.left, part.top) for factor, part in zip(factors, parts, strict=True)]
        requests = list(zip(files, frames, parts, strict=True))
        for file, frame, part in sorted(requests, key=lambda request: min(request[0].grid.shape)):
            _require_size(file.path, part, frame.factor)

        def read(request: tuple[ImageFile, Frame, Rectangle]) -> MatchingImage:
            """Read the requested part of a file."""
            file, frame, part = request
            return file.image(file.read(frame.factor, None if part == file.whole else part), frame)

        n_values = sum(file.n_bands * part.width * part.height / frame.factor**2 for file, frame, part in requests)
        return self._pair(*_of_both(read, requests, n_values))

    def window(self, frames: Frames, fixed: Rectangle, moving: Rectangle) -> ImagePair | None:
        """Read windows of both images.

        Args:
            frames: The pixels in which the windows are given and read.
            fixed: Part of the fixed image, within it.
            moving: Part of the moving image, within it.

        Returns:
            The pair, ``prior`` included, in pixels of the windows; None if one of them holds no data.

        Raises:
            InputError: A file cannot be read.
        """
        images = []
        for file, frame, part in ((self.fixed, frames.fixed, fixed), (self.moving, frames.moving, moving)):
            bands = file.read(frame.factor, frame.in_file(part))
            if not has_content(bands):
                return None
            images.append(file.image(bands, frame.of(part)))
        return self._pair(*images)

    def _pair(self, fixed: MatchingImage, moving: MatchingImage) -> ImagePair:
        return ImagePair(fixed, moving, Frames(fixed.frame, moving.frame).from_files(self.prior))

    def _shared_parts(self, reach: float) -> tuple[Rectangle, Rectangle]:
        """Return the part of each file that the other can show, if the georeferences err by ``reach`` fixed px."""
        fixed, moving = self.fixed.grid, self.moving.grid
        scale = decompose(self.prior, moving.shape).scale
        shared = overlap_box(fixed, moving)
        margin = reach + TURN * float((shared[1] - shared[0]).max()) + fixed.error_px + scale * moving.error_px
        of_fixed, of_moving = overlap_box(fixed, moving, margin), overlap_box(moving, fixed, margin / scale)
        return (
            Rectangle.around(of_fixed + EDGE_TO_CENTRE, fixed.shape) or self.fixed.whole,
            Rectangle.around(of_moving + EDGE_TO_CENTRE, moving.shape) or self.moving.whole,
        )


def read_pair(fixed: Path, moving: Path, config: ReadConfig) -> ImagePair:
    """Read both images for matching; see ``PairFiles.of`` and ``PairFiles.overview``."""
    return PairFiles.of(fixed, moving, config).overview(config.max_side)


def _of_both(work: Callable[[Item], Result], items: Sequence[Item], n_values: float) -> list[Result]:
    """Work on both files at the same time, or in turn if ``n_values`` float32 (of all bands of both) take too much."""
    return parallel_map(work, items) if n_values <= _FEW_VALUES else [work(item) for item in items]


def _excess(parts: tuple[Rectangle, Rectangle], factors: Sequence[float], max_side: int) -> float:
    """Return the ratio of the images' longest side to the longest side allowed."""
    fixed, moving = (max(part.width, part.height) / factor for part, factor in zip(parts, factors, strict=True))
    return max(fixed, moving / MOVING_SIDES) / max_side


def _least_excess(parts: tuple[Rectangle, Rectangle], factors: Sequence[float], max_side: int) -> float:
    """Return the reduction that a long strip needs, whose width has to remain and whose area is small."""
    sides = [(part.width / factor, part.height / factor) for part, factor in zip(parts, factors, strict=True)]
    narrowest = min(min(pair) for pair in sides) / _STRIP_SIDE
    return max(narrowest, *(math.sqrt(math.prod(pair)) / max_side for pair in sides))


def _require_size(path: Path, part: Rectangle, factor: float) -> None:
    reduced = Grid(int(part.width), int(part.height)).reduced(factor)
    if min(reduced.shape) < MIN_SIDE:
        raise InputError(
            f"{path} is {reduced.width} x {reduced.height} px at the resolution that both images share, {MIN_SIDE} px "
            "are needed: take a larger part of the scene, or images closer in resolution"
        )

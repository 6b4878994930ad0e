"""The files of a pair, and what is read of them: the whole at a bounded size, windows at full resolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from rrl_register.config import Kind, ReadConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.geometry.arrays import Image, Mask, Matrix
from rrl_register.geometry.pixel_frame import Frame, Frames
from rrl_register.geometry.transforms import decompose
from rrl_register.geometry.window import Rectangle
from rrl_register.matching.image_pair import SAME_RESOLUTION, ImagePair
from rrl_register.parallel import parallel_map
from rrl_register.raster.grid import Grid, overlap_box, prior_matrix
from rrl_register.raster.radiometry import guess_kind, pair_kinds
from rrl_register.raster.reader import Bands, RasterInfo, has_content, open_info, read_bands, require_content
from rrl_register.raster.stretch import to_grey

Item = TypeVar("Item")
Result = TypeVar("Result")

MIN_SIDE = 48
_KEPT_BYTES = 16 * 2**20
"""Of an image that is not read a second time: more is not worth the memory."""
_FEW_VALUES = 8 * 2**20
"""Of all bands of two images that are read at a time: more is not worth the memory."""
REACH_PX = 100.0
"""How far georeferences may be off, px at the resolution that both images share."""
TURN = 0.1
"""Share of the longer side that georeferences' errors of rotation and scale (4 degrees, 5 %) move a corner by."""
EDGE_TO_CENTRE = np.array([[0.5], [-0.5]])
"""From a box's first and last edge to the centres of the pixels there."""
MOVING_SIDES = 2
"""The moving image may be so many times as long as the fixed one: it is only resampled."""


@dataclass(frozen=True)
class ImageFile:
    """One of the two files.

    Attributes:
        path: Where it is.
        bands: Those to match on, 1-based; empty: all but alpha.
        kind: What it shows; never ``auto``.
        grid: Its size and georeference.
        n_bands: How many are read.
        known: All of it at full resolution, where it was read to tell what it shows and is small; None: it was not.
    """

    path: Path
    bands: tuple[int, ...]
    kind: Kind
    grid: Grid
    n_bands: int
    known: Bands | None = None

    @classmethod
    def of(cls, info: RasterInfo, bands: tuple[int, ...], kind: Kind, seen: Bands | None) -> ImageFile:
        """A file of which the middle, or all, was seen."""
        whole = seen is not None and seen.valid.shape == info.grid.shape and seen.values.nbytes <= _KEPT_BYTES
        return cls(info.path, bands, kind, info.grid, len(bands or info.data_bands), seen if whole else None)

    def read(self, factor: float, part: Rectangle | None = None) -> Bands:
        """Its bands, averaged down by a factor; all of it or a part, in px of the file."""
        if self.known is None or factor > 1 or part is not None:
            return read_bands(self.path, self.bands, factor=factor, part=part)
        require_content(self.path, self.known)
        return self.known

    def grey(self, bands: Bands) -> tuple[Image, Mask]:
        """Bands as the one grey image that is matched, and where it holds data."""
        return to_grey(bands.values, bands.valid, self.kind), bands.valid


@dataclass(frozen=True)
class PairFiles:
    """Both files, before any of their pixels is matched on.

    Attributes:
        fixed, moving: The files.
        prior: What georeferences or sizes say, ``(3, 3)``, moving px -> fixed px of the files.
    """

    fixed: ImageFile
    moving: ImageFile
    prior: Matrix

    @classmethod
    def of(cls, fixed: Path, moving: Path, config: ReadConfig) -> PairFiles:
        """Looks at both files.

        Raises:
            InputError: If one cannot be read, or their georeferences say that they share no ground.
            UsageError: If both are the same file, or a band does not exist.
        """
        if fixed.exists() and moving.exists() and fixed.samefile(moving):
            raise UsageError(f"FIXED and MOVING are the same file ({fixed}): two images of one place are needed")
        infos = open_info(fixed), open_info(moving)
        grids = infos[0].grid, infos[1].grid
        prior = prior_matrix(*grids)
        chosen = config.fixed_bands, config.moving_bands
        told = config.fixed_kind, config.moving_kind
        asked = list(zip(infos, chosen, told, strict=True))
        n_values = sum(len(bands or info.data_bands) * math.prod(info.grid.shape) for info, bands, _ in asked)
        guesses, seen = zip(*_both(lambda each: guess_kind(*each), asked, n_values), strict=True)
        kinds = pair_kinds(*guesses)
        first, second = map(ImageFile.of, infos, chosen, kinds, seen)
        return cls(first, second, prior)

    @property
    def georeferenced(self) -> bool:
        """Whether the prior comes from georeferences."""
        return self.fixed.grid.georeferenced and self.moving.grid.georeferenced

    @property
    def n_bands(self) -> int:
        """Bands read of the file that more are read of."""
        return max(self.fixed.n_bands, self.moving.n_bands)

    def overview(self, max_side: int, reach: float | None = None) -> ImagePair:
        """Both images on a bounded number of pixels, for matching from nothing.

        The coarser one sets the resolution. Where that leaves too many pixels, georeferenced images are cut to what
        they can share first; what is still too large is reduced.

        Args:
            max_side: Longest side of the working images, px.
            reach: How far georeferences may be off, px of the fixed file; None: 100 px of the shared resolution; inf:
                by any distance, so that nothing is cut.

        Raises:
            InputError: If a file cannot be read, or holds nothing to be matched.
        """
        fixed_factor, moving_factor = _shared_factors(self.fixed.grid, self.moving.grid, self.prior)
        parts = _whole(self.fixed.grid), _whole(self.moving.grid)
        if self.georeferenced and _excess(parts, (fixed_factor, moving_factor), max_side) > 1:
            parts = self._shared_parts(REACH_PX * fixed_factor if reach is None else reach)
        further = max(1.0, _excess(parts, (fixed_factor, moving_factor), max_side))
        factors = fixed_factor * further, moving_factor * further
        reads = list(zip((self.fixed, self.moving), factors, parts, strict=True))
        for file, factor, part in sorted(reads, key=lambda each: min(each[0].grid.shape)):
            _require_size(file.path, part, factor)

        def grey(read: tuple[ImageFile, float, Rectangle]) -> tuple[Image, Mask]:
            """The part of a file that is asked for, as one grey image."""
            file, factor, part = read
            return file.grey(file.read(factor, None if part == _whole(file.grid) else part))

        n_values = sum(file.n_bands * part.width * part.height / factor**2 for file, factor, part in reads)
        images = _both(grey, reads, n_values)
        frames = Frames(*(Frame(factor, part.left, part.top) for _, factor, part in reads))
        return self._pair(frames, images)

    def window(self, frames: Frames, fixed: Rectangle, moving: Rectangle) -> ImagePair | None:
        """Windows of both images.

        Args:
            frames: The pixels that the windows are given and read in.
            fixed: Part of the fixed image, within it.
            moving: Part of the moving image, within it.

        Returns:
            The pair, ``prior`` included, in pixels of the windows; None where one of them holds nothing.

        Raises:
            InputError: If a file cannot be read.
        """
        images = []
        for file, frame, part in ((self.fixed, frames.fixed, fixed), (self.moving, frames.moving, moving)):
            bands = file.read(frame.factor, frame.in_file(part))
            if not has_content(bands):
                return None
            images.append(file.grey(bands))
        return self._pair(Frames(frames.fixed.of(fixed), frames.moving.of(moving)), images)

    def _pair(self, frames: Frames, images: list[tuple[Image, Mask]]) -> ImagePair:
        return ImagePair(
            *images[0],
            *images[1],
            frames.from_files(self.prior),
            frames.fixed.factor,
            frames.moving.factor,
            self.fixed.kind,
            self.moving.kind,
            self.fixed.grid,
            self.moving.grid,
            (frames.fixed.left, frames.fixed.top),
            (frames.moving.left, frames.moving.top),
        )

    def _shared_parts(self, reach: float) -> tuple[Rectangle, Rectangle]:
        """What of each file the other one can show, if its georeference is no more off than ``reach`` fixed px."""
        fixed, moving = self.fixed.grid, self.moving.grid
        scale = decompose(self.prior, moving.shape).scale
        shared = overlap_box(fixed, moving)
        margin = reach + TURN * float((shared[1] - shared[0]).max()) + fixed.error_px + scale * moving.error_px
        of_fixed, of_moving = overlap_box(fixed, moving, margin), overlap_box(moving, fixed, margin / scale)
        return (
            Rectangle.around(of_fixed + EDGE_TO_CENTRE, fixed.shape) or _whole(fixed),
            Rectangle.around(of_moving + EDGE_TO_CENTRE, moving.shape) or _whole(moving),
        )


def read_pair(fixed: Path, moving: Path, config: ReadConfig) -> ImagePair:
    """Reads both images for matching; see ``PairFiles.of`` and ``PairFiles.overview``."""
    return PairFiles.of(fixed, moving, config).overview(config.max_side)


def _both(work: Callable[[Item], Result], items: Sequence[Item], n_values: float) -> list[Result]:
    """What comes of both files, at a time if that takes little memory.

    Args:
        work: What is done with each.
        items: Of the two files.
        n_values: Pixels of all bands of both, float32.
    """
    return parallel_map(work, items) if n_values <= _FEW_VALUES else [work(item) for item in items]


def _shared_factors(fixed: Grid, moving: Grid, prior: Matrix) -> tuple[float, float]:
    """How far to reduce each image to bring both to the coarser one's pixel size."""
    scale = decompose(prior, moving.shape).scale
    return scale if scale > SAME_RESOLUTION else 1.0, 1 / scale if scale < 1 / SAME_RESOLUTION else 1.0


def _excess(parts: tuple[Rectangle, Rectangle], factors: tuple[float, float], max_side: int) -> float:
    """How many times too long the images are."""
    fixed, moving = (max(part.width, part.height) / factor for part, factor in zip(parts, factors, strict=True))
    return max(fixed, moving / MOVING_SIDES) / max_side


def _require_size(path: Path, part: Rectangle, factor: float) -> None:
    reduced = Grid(int(part.width), int(part.height)).reduced(factor)
    if min(reduced.shape) < MIN_SIDE:
        raise InputError(
            f"{path} is {reduced.width} x {reduced.height} px at the resolution that both images share, {MIN_SIDE} px "
            "are needed: take a larger part of the scene, or images closer in resolution"
        )


def _whole(grid: Grid) -> Rectangle:
    return Rectangle(0, 0, grid.width, grid.height)

"""Training images on the device that trains, sorted into groups, with the points around which patches are cut."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rrl_register.config import Kind
from rrl_register.errors import InputError
from rrl_register.nn.encoder import PATCH_SIZE
from rrl_register.raster.stretch import to_grey
from rrl_register.training.settings import plain

LEVELS = 3
"""Each image is kept at full, half and quarter resolution."""
LARGEST_STEP = 1.4
"""Largest step of a patch, px of a level; beyond it the next level is taken, so that no pixel is skipped."""
_AT_ONCE = 2048
"""Images of a stack reduced together: their floats need eight times the memory of their bytes."""


@dataclass(frozen=True)
class Atlas:
    """Images of any size and number of planes, each at several resolutions.

    Attributes:
        buffer: ``(bytes,)`` uint8: of each level the images in turn, of each image its planes, of each plane its rows.
        offset: ``(LEVELS, I)`` int64, first byte of an image.
        size: ``(LEVELS, I, 2)`` float32, width and height.
    """

    buffer: Tensor
    offset: Tensor
    size: Tensor

    @classmethod
    def of(cls, stacks: Sequence[Tensor], device: torch.device) -> Atlas:
        """Lay out stacks of images ``(S, C, H, W)``, uint8, numbered across all stacks."""
        parts, lengths, sizes = [], [], []
        for level in range(LEVELS):
            for stack in stacks:
                reduced = _reduced(stack, 2**level)
                parts.append(reduced.flatten().to(device))
                lengths += [reduced[0].numel()] * len(reduced)
                sizes += [(reduced.shape[3], reduced.shape[2])] * len(reduced)
        offsets = torch.tensor([0, *accumulate(lengths)][:-1], dtype=torch.int64)
        return cls(
            torch.cat(parts) if parts else torch.empty(0, dtype=torch.uint8, device=device),
            offsets.reshape(LEVELS, -1).to(device),
            torch.tensor(sizes, dtype=torch.float32).reshape(LEVELS, -1, 2).to(device),
        )

    def cut(self, image: Tensor, planes: Sequence[int], centres: Tensor, matrix: Tensor) -> Tensor:
        """Cut patches ``(N, P, 64, 64)`` in [0, 1], bilinear, edges repeated, each from the level of its step.

        Args:
            image: ``(N,)`` int64, image of each patch.
            planes: P planes of it.
            centres: ``(N, 2)``, (x, y), full-resolution px.
            matrix: ``(N, 2, 2)``, patch px -> full-resolution px.
        """
        step = torch.linalg.vector_norm(matrix[:, :, 0], dim=1)
        level = (torch.log2(step / LARGEST_STEP).floor() + 1).clamp(0, LEVELS - 1).long()
        size = self.size[level, image]
        ratio = size / self.size[0, image]
        axis = torch.arange(PATCH_SIZE, device=image.device) - (PATCH_SIZE - 1) / 2
        along, below = (matrix * ratio[:, :, None])[..., None, None].unbind(2)
        places = ((centres + 0.5) * ratio - 0.5)[:, :, None, None] + along * axis + below * axis[:, None]
        x, y = places.unbind(1)
        (left, right, across), (top, bottom, down) = _neighbours(x, size[:, 0]), _neighbours(y, size[:, 1])
        width = size[:, 0, None, None].long()
        area = (size[:, 0] * size[:, 1]).long()[:, None]
        plane = torch.tensor(planes, device=image.device)
        start = (self.offset[level, image][:, None] + plane * area)[:, :, None, None]

        def gathered(row: Tensor, column: Tensor) -> Tensor:
            """Return values at whole pixels, (N, K, H, W) float32."""
            index = start + (row * width + column)[:, None]
            return self.buffer.index_select(0, index.flatten()).reshape(index.shape).float()

        across, down = across[:, None], down[:, None]
        upper = torch.lerp(gathered(top, left), gathered(top, right), across)
        lower = torch.lerp(gathered(bottom, left), gathered(bottom, right), across)
        return torch.lerp(upper, lower, down) / 255


def _reduced(stack: Tensor, factor: int) -> Tensor:
    """Average images down, uint8; a side that is no multiple of the factor keeps its extent."""
    if factor == 1:
        return stack
    shape = (max(1, stack.shape[2] // factor), max(1, stack.shape[3] // factor))
    parts = (stack[start : start + _AT_ONCE] for start in range(0, len(stack), _AT_ONCE))
    return torch.cat([functional.adaptive_avg_pool2d(part.float(), shape).round().byte() for part in parts])


def _neighbours(place: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels before and after a place along one side, int64, and its fraction between them."""
    last = (length - 1)[:, None, None]
    place = torch.minimum(place.clamp(min=0), last)
    before = place.floor()
    return before.long(), torch.minimum(before + 1, last).long(), place - before


FAMILIES = ("sar", "nir", "lwir", "ir", "other")
"""Modalities of second images; ``other`` is treated like infrared."""
SIMULATED = "+simulated"
"""Ends the name of a group whose second spectrum is simulated from the colours of the first image."""
MAX_POINTS = 4000
MIN_POINTS = 16
"""Images with fewer points are skipped."""
EDGE_PX = 20
"""Patch centres keep this distance from the edge of the image and from places without data."""
_LEAST_SIDE = 100
"""A scene's scale is bounded so that its shorter side is at least this many patch px."""

VISIBLE, OTHER, COLOURS = (0,), (1,), (2, 3, 4)
"""Planes of an image."""


@dataclass(frozen=True)
class PairImages:
    """One co-registered pair, or a stack of many pairs of ready-cut patches.

    Attributes:
        name: ``set/id``.
        family: One of ``FAMILIES``.
        group: The set that the pair belongs to; batches are drawn from one group.
        planes: ``(S, C, H, W)`` uint8, on the CPU, S = 1 for a pair: visible, other, and, if the visible image has
            colours, its red, green and blue.
        points: ``(N, 2)`` patch centres, (x, y), px; None for a stack of patches, which have one each, in the middle.
        valid: ``(H, W)`` bool, True if both images hold data; None: everywhere.
    """

    name: str
    family: str
    group: str
    planes: Tensor
    points: Tensor | None
    valid: Tensor | None = None

    @property
    def has_colours(self) -> bool:
        """True if the visible image has colours."""
        return self.planes.shape[1] > 2


class Source(ABC):
    """A data set on disk; its kinds are in ``rrl_register.training.datasets``."""

    @abstractmethod
    def load(self, validation: bool) -> list[PairImages]:
        """Read the pairs kept for validation, or else all others.

        Raises:
            InputError: If the data set cannot be read.
        """

    def recipe(self) -> dict[str, Any]:
        """Return the settings that weights depend on, as plain values."""
        return plain(self)


@dataclass(frozen=True)
class ImageGroup:
    """Images that are drawn together.

    Attributes:
        family: Family of all of them.
        rows: ``(I,)`` int64, on the CPU, their numbers in the atlas.
        patches: True for ready-cut patches, without surroundings.
    """

    family: str
    rows: Tensor
    patches: bool


@dataclass(frozen=True)
class Bank:
    """All images of a run, on the device that trains.

    Attributes:
        atlas: Their planes; ``VISIBLE``, ``OTHER`` and ``COLOURS`` number them.
        points: ``(P, 2)`` float32, the points of all images in turn.
        first, n_points: ``(I,)`` int64, the first point of an image and their number.
        max_log_scale: ``(I,)`` float32, the largest reduction of a scene, natural logarithm of px per patch px.
        groups: Groups by name, ``<name>+simulated`` included.
    """

    atlas: Atlas
    points: Tensor
    first: Tensor
    n_points: Tensor
    max_log_scale: Tensor
    groups: dict[str, ImageGroup] = field(default_factory=dict)

    @classmethod
    def of(cls, pairs: Sequence[PairImages], device: torch.device) -> Bank:
        """Move images to a device.

        Raises:
            InputError: If a group mixes families, or scenes with ready-cut patches.
        """
        points = [torch.empty(0, 2)]
        counts: list[int] = []
        limits: list[float] = []
        for pair in pairs:
            n, _, height, width = pair.planes.shape
            if pair.points is None:
                points.append(torch.tensor([(width - 1) / 2, (height - 1) / 2]).repeat(n, 1))
                counts += [1] * n
                limits += [math.inf] * n
            else:
                points.append(pair.points)
                counts.append(len(pair.points))
                limits.append(math.log(min(height, width) / _LEAST_SIDE))
        count = torch.tensor(counts, dtype=torch.int64)
        return cls(
            Atlas.of([p.planes for p in pairs], device),
            torch.cat(points).to(device),
            (count.cumsum(0) - count).to(device),
            count.to(device),
            torch.tensor(limits, dtype=torch.float32, device=device),
            _groups(pairs),
        )


def load_bank(
    sources: Sequence[Source], *, validation: bool, device: torch.device, families: Sequence[str] = ()
) -> Bank:
    """Read data sets.

    Args:
        sources: The data sets, see ``rrl_register.training.datasets``.
        validation: Take what is kept for validation, or else all others. Data sets of one or two pairs keep nothing, so
            that a bank for validation may be without groups.
        device: Device that holds the images.
        families: Families to take; empty: all.

    Raises:
        InputError: If a data set cannot be read, a group mixes what cannot be drawn together, or nothing is left to
            train on.
    """
    loaded = [pair for source in sources for pair in source.load(validation)]
    pairs = [pair for pair in loaded if not families or pair.family in families]
    if not (pairs or validation):
        raise InputError(
            f"the data sets leave none of their {len(loaded)} pairs to train on: "
            "check their paths, groups and max_residual_px, and the families requested"
        )
    return Bank.of(pairs, device)


def is_validation(name: str, share: float = 0.1) -> bool:
    """Return whether a pair is kept for validation, by a hash of its name, so that it never changes sides."""
    return _hashed(name) % 1000 < share * 1000


def kept_for_validation(names: Sequence[str]) -> list[bool]:
    """Choose the pairs of a data set kept for validation, by ``is_validation``.

    If that chose none or all of three pairs or more, the pair of the least hash changes sides; fewer than three all
    train. Such a pair may change sides when the data set grows.
    """
    if len(names) < 3:
        return [False] * len(names)
    kept = [is_validation(name) for name in names]
    if any(kept) == all(kept):
        only = min(range(len(names)), key=lambda i: _hashed(names[i]))
        kept[only] = not kept[only]
    return kept


class ReadImages(NamedTuple):
    """Both images of a pair as read.

    Attributes:
        visible: ``(1, H, W)`` or, red, green and blue, ``(3, H, W)``.
        other: ``(B, H, W)`` in any units.
        valid: ``(H, W)``, True if both hold data.
    """

    visible: NDArray[np.uint8]
    other: NDArray[np.float32]
    valid: NDArray[np.bool_]


def make_pair(name: str, family: str, group: str, images: ReadImages) -> PairImages:
    """Make a training pair: grey images, colours, corners.

    Args:
        name: ``set/id``.
        family: One of ``FAMILIES``.
        group: Group to draw it in.
        images: Both images.

    Raises:
        InputError: If the images differ in size, or one shows nothing.
    """
    visible, other, valid = images
    if visible.shape[1:] != other.shape[1:]:
        seen = " and ".join(f"{image.shape[2]} x {image.shape[1]} px" for image in (visible, other))
        raise InputError(f"the images of pair {name} have {seen}: both have to lie on one pixel grid")
    try:
        grey = grey_bytes(visible.astype(np.float32), valid, Kind.OPTICAL)
        second = grey_bytes(other, valid, Kind.SAR if family == "sar" else Kind.IR)
    except InputError as error:
        raise InputError(f"pair {name}: {error}") from error
    has_colours = len(visible) == 3 and bool((visible[0] != visible[1]).any() or (visible[0] != visible[2]).any())
    planes = np.stack([grey, second, *(visible if has_colours else ())])
    points = torch.from_numpy(_corners_of_both(planes[:2], valid))
    return PairImages(name, family, group, torch.from_numpy(planes)[None], points, torch.from_numpy(valid))


def colour_bytes(bands: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Convert bands ``(B, H, W)`` of any type to 8 bit: one stretch, from the 0.5th to the 99.5th percentile of all."""
    if bands.dtype == np.uint8 or not valid.any():
        return bands.astype(np.uint8)
    low, high = np.percentile(bands[:, valid], (0.5, 99.5))
    stretched = (bands.astype(np.float32) - np.float32(low)) * np.float32(255 / max(high - low, 1e-12))
    return np.asarray(np.rint(np.clip(stretched, 0, 255)), np.uint8)


def grey_bytes(bands: NDArray[np.float32], valid: NDArray[np.bool_], kind: Kind) -> NDArray[np.uint8]:
    """Return the network's grey image ``(H, W)``, filled if data are missing.

    Raises:
        InputError: If it has no valid pixel, or one value everywhere.
    """
    return np.rint(fill_invalid(to_grey(bands, valid, kind), valid) * 255).astype(np.uint8)


def fill_invalid(grey: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fill invalid pixels with the mean of the valid ones, so that patches have no black edge."""
    filled = valid.any() and not valid.all()
    return np.where(valid, grey, grey[valid].mean()).astype(np.float32) if filled else grey


def _hashed(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16)


def _groups(pairs: Sequence[PairImages]) -> dict[str, ImageGroup]:
    members: dict[str, list[tuple[PairImages, Tensor]]] = defaultdict(list)
    row = 0
    for pair in pairs:
        rows = torch.arange(row, row + len(pair.planes))
        row += len(pair.planes)
        if pair.points is None or len(pair.points) >= MIN_POINTS:
            members[pair.group].append((pair, rows))
            if pair.has_colours:
                members[pair.group + SIMULATED].append((pair, rows))
    groups = {}
    for name, found in members.items():
        families, patches = sorted({pair.family for pair, _ in found}), {pair.points is None for pair, _ in found}
        if len(families) > 1:
            raise InputError(f"group {name} mixes the families {', '.join(families)}: give each a group of its own")
        if len(patches) > 1:
            raise InputError(f"group {name} mixes scenes and ready-cut patches: give each a group of its own")
        groups[name] = ImageGroup(families[0], torch.cat([rows for _, rows in found]), patches.pop())
    return groups


def _corners_of_both(grey: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Find corners of both images: the network has to distinguish corners of one spectrum alone, too."""
    inner = cv2.erode(np.pad(valid, 1).astype(np.uint8), np.ones((2 * EDGE_PX + 1,) * 2, np.uint8))[1:-1, 1:-1]
    inner[:EDGE_PX], inner[-EDGE_PX:], inner[:, :EDGE_PX], inner[:, -EDGE_PX:] = 0, 0, 0, 0
    found = [np.empty((0, 2), np.float32)]
    for image in grey:
        smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.2)
        corners = cv2.goodFeaturesToTrack(smooth, MAX_POINTS // 2, 0.002, 4, mask=np.asarray(inner, np.uint8))
        if corners is not None:
            found.append(np.asarray(corners, np.float32).reshape(-1, 2))
    return np.concatenate(found)

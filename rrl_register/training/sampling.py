"""Patches cut from the bank with random geometry, all on the device that trains."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rrl_register.errors import InputError
from rrl_register.nn.blocks import PATCH_SIZE
from rrl_register.training.bank import PairImages


@dataclass(frozen=True)
class GeometryConfig:
    """How patches are cut. Angles in degrees, shifts in patch px."""

    log_scale: tuple[float, float] = (-0.3, 0.85)
    """Range of the natural logarithm of image px per patch px, the same for both patches of a pair."""
    sar_log_scale: tuple[float, float] = (0.2, 0.95)
    """The same for SAR, whose speckle asks for more ground."""
    relative_rotation: float = 8.0
    relative_log_scale: float = 0.1
    jitter: float = 0.7
    near_miss: tuple[float, float] = (3.0, 16.0)
    """Distance of a near miss from the right place."""


@dataclass(frozen=True)
class PatchBatch:
    """``N`` matching pairs of patches from one group of images, and a near miss of each.

    Attributes:
        visible, other, near: ``(N, 1, 64, 64)`` in [0, 1]; ``near`` is the other image beside the right place.
        image: ``(N,)`` number of the image that each came from.
        centres: ``(N, 2)`` where, px of that image.
        scale: ``(N,)`` image px per patch px.
        family: Of the images.
    """

    visible: Tensor
    other: Tensor
    near: Tensor
    image: Tensor
    centres: Tensor
    scale: Tensor
    family: str

    def too_close(self, patch_px: float = 8.0) -> Tensor:
        """``(N, N)`` bool: pairs of the batch whose places are nearly the same, and so are no negatives."""
        distance = torch.cdist(self.centres, self.centres) / self.scale[:, None]
        return (self.image[:, None] == self.image[None]) & (distance < patch_px)


class PatchSampler:
    """Draws batches: a group by weight, some of its images, some of their points.

    Args:
        bank: Images; those with too few points are passed over.
        weights: Weight of each group; a group ``<name>+simulated`` draws other spectra simulated from the colours
            of ``<name>``.
        geometry: How patches are cut.
        generator: Source of all randomness.
        images_per_batch: Images that a batch is drawn from.
    """

    def __init__(
        self,
        bank: Sequence[PairImages],
        weights: dict[str, float],
        geometry: GeometryConfig,
        generator: torch.Generator,
        images_per_batch: int = 8,
    ) -> None:
        self._groups: dict[str, list[PairImages]] = defaultdict(list)
        for pair in bank:
            if len(pair.points) >= 16:
                self._groups[pair.group].append(pair)
                if pair.has_colours:
                    self._groups[f"{pair.group}+simulated"].append(pair)
        self._weights = {g: w for g, w in weights.items() if w > 0 and g in self._groups}
        self._geometry = geometry
        self._generator = generator
        self._images_per_batch = images_per_batch

    @property
    def groups(self) -> list[str]:
        """Groups that can be drawn, whatever their weight."""
        return sorted(self._groups)

    def draw(self, n: int, group: str | None = None) -> PatchBatch:
        """A batch of about ``n`` pairs (a multiple of the images per batch), of one group.

        Raises:
            InputError: If no group is asked for and no group that there is has a weight.
        """
        group = group or self._draw_group()
        images = self._groups[group]
        chosen = torch.randperm(len(images), generator=self._generator)[: self._images_per_batch].tolist()
        share = math.ceil(n / len(chosen))
        parts = [self._cut(images[i], index, share, group.endswith("+simulated")) for index, i in enumerate(chosen)]
        return _concatenate(parts)

    def _draw_group(self) -> str:
        if not self._weights:
            there = ", ".join(self.groups) or "none, all images have too few corners"
            raise InputError(
                f"no group can be drawn: group_weights has to give one of them a weight (there are: {there})"
            )
        names = list(self._weights)
        drawn = torch.multinomial(torch.tensor([self._weights[n] for n in names]), 1, generator=self._generator)
        return names[int(drawn)]

    def _uniform(self, n: int, low: float, high: float) -> Tensor:
        return torch.rand(n, generator=self._generator) * (high - low) + low

    def _cut(self, pair: PairImages, number: int, n: int, simulated: bool) -> PatchBatch:
        geometry = self._geometry
        device = pair.points.device
        centres = pair.points[torch.randint(len(pair.points), (n,), generator=self._generator).to(device)]
        low, high = geometry.sar_log_scale if pair.family == "sar" else geometry.log_scale
        scale = torch.exp(self._uniform(n, low, min(high, math.log(min(pair.levels[0].shape[1:]) / 100)))).to(device)
        joint = self._joint(n).to(device) * scale[:, None, None]
        relative = self._relative(n).to(device)
        shift = self._ring(n, 0.0, geometry.jitter).to(device)
        miss = self._ring(n, *geometry.near_miss).to(device)
        other = joint @ relative
        place = centres + (joint @ shift[..., None])[..., 0]
        beside = centres + (joint @ miss[..., None])[..., 0]
        channels = slice(2, 5) if simulated else slice(1, 2)
        cut_other = sample_patches(pair.levels, channels, place, other)
        cut_near = sample_patches(pair.levels, channels, beside, other)
        if simulated:
            cut_other, cut_near = self._simulate(torch.cat([cut_other, cut_near])).chunk(2)
        visible = sample_patches(pair.levels, slice(0, 1), centres, joint)
        image = torch.full((n,), number, device=device)
        family = "simulated" if simulated else pair.family
        return PatchBatch(visible, cut_other, cut_near, image, centres, scale, family)

    def _joint(self, n: int) -> Tensor:
        """Any rotation, and a flip for half of them; ``(n, 2, 2)``."""
        matrix = _rotation(self._uniform(n, -math.pi, math.pi))
        matrix[:, 0] *= torch.where(self._uniform(n, 0, 1) < 0.5, -1.0, 1.0)[:, None]
        return matrix

    def _relative(self, n: int) -> Tensor:
        limit = math.radians(self._geometry.relative_rotation)
        zoom = torch.exp(self._uniform(n, -self._geometry.relative_log_scale, self._geometry.relative_log_scale))
        return _rotation(self._uniform(n, -limit, limit)) * zoom[:, None, None]

    def _ring(self, n: int, low: float, high: float) -> Tensor:
        """Vectors whose lengths are uniform in ``low..high``; ``(n, 2)``."""
        angle = self._uniform(n, -math.pi, math.pi)
        return self._uniform(n, low, high)[:, None] * torch.stack([angle.cos(), angle.sin()], 1)

    def _simulate(self, colours: Tensor) -> Tensor:
        """Another spectrum ``(N, 1, 64, 64)`` out of colours ``(N, 3, 64, 64)`` of one image.

        A random mix of the colours goes through a random tone curve, seldom a monotone one.
        """
        mix = self._uniform(3, -0.6, 1.0).to(colours.device)
        plane = torch.einsum("c,nchw->nhw", mix, colours)[:, None]
        low, high = plane.aminmax()
        return tone_curve((plane - low) / (high - low + 1e-6), self._uniform(6, 0.0, 1.0).to(plane.device))


def tone_curve(image: Tensor, nodes: Tensor) -> Tensor:
    """Applies the piecewise linear curve through ``nodes`` (values at equal steps of [0, 1]) to an image in [0, 1]."""
    position = image.clamp(0, 1) * (len(nodes) - 1)
    low = position.floor().clamp(max=len(nodes) - 2).long()
    part = position - low
    return nodes[low] * (1 - part) + nodes[low + 1] * part


def _rotation(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)


def sample_patches(levels: tuple[Tensor, Tensor], channels: slice, centres: Tensor, matrix: Tensor) -> Tensor:
    """Cuts patches ``(N, C, 64, 64)`` in [0, 1], bilinear, edges repeated.

    All come from the level that suits their mean step, so that none skips pixels.

    Args:
        levels: Planes at full and at half resolution, ``(C, H, W)``, uint8.
        channels: Planes to cut from.
        centres: ``(N, 2)``, full-resolution px.
        matrix: ``(N, 2, 2)``, patch px -> full-resolution px.
    """
    full, half = levels
    coarse = float(torch.linalg.vector_norm(matrix[:, 0], dim=1).mean()) > 1.4
    image = (half if coarse else full)[channels].float() / 255
    axis = torch.arange(PATCH_SIZE, device=centres.device) - (PATCH_SIZE - 1) / 2
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    offsets = torch.stack([u, v], -1).reshape(1, -1, 2) @ matrix.transpose(1, 2)
    size = torch.tensor([full.shape[2], full.shape[1]], device=centres.device)
    grid = (2 * (centres[:, None] + offsets) + 1) / size - 1
    cut = functional.grid_sample(image[None], grid[None], padding_mode="border", align_corners=False)
    return cut[0].transpose(0, 1).reshape(len(centres), -1, PATCH_SIZE, PATCH_SIZE)


def _concatenate(parts: Sequence[PatchBatch]) -> PatchBatch:
    def join(name: str) -> Tensor:
        return torch.cat([getattr(p, name) for p in parts])

    return PatchBatch(
        join("visible"), join("other"), join("near"), join("image"), join("centres"), join("scale"), parts[0].family
    )

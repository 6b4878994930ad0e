"""Patches cut from the bank with random geometry, a whole batch at once, on the device that trains."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from pydantic.dataclasses import dataclass as settings_dataclass
from torch import Tensor

from rrl_register.errors import InputError
from rrl_register.nn.encoder import PATCH_SIZE
from rrl_register.training.augmentation import simulate
from rrl_register.training.bank import COLOURS, OTHER, SIMULATED, VISIBLE, Bank, ImageGroup
from rrl_register.training.settings import KNOWN_ONLY, Number

SIMULATED_WEIGHT = 0.25
"""Weight of a group of simulated spectra if no weights are set; each real group has 1."""
_PATCH_LIMIT = 0.05
"""Ready-cut patches are scaled and shifted by this share at most, as in the paper: they have no surroundings."""


class Rotation(StrEnum):
    """Common rotation of both patches of a pair; half of all pairs are flipped as well."""

    ANY = "any"
    QUARTER = "quarter"


@settings_dataclass(frozen=True, config=KNOWN_ONLY)
class GeometryConfig:
    """Geometry of cutting patches. Angles in degrees, shifts in patch px."""

    log_scale: tuple[Number, Number] = (-0.3, 0.85)
    """Range of the natural logarithm of image px per patch px, the same for both patches of a pair."""
    sar_log_scale: tuple[Number, Number] = (0.2, 0.95)
    """The same for SAR, whose speckle needs more ground."""
    rotation: Rotation = Rotation.ANY
    relative_rotation: Number = 8.0
    relative_log_scale: Number = 0.1
    jitter: Number = 0.7
    near_miss: tuple[Number, Number] = (3.0, 16.0)
    """Distance of a near miss from the true place."""


@dataclass(frozen=True)
class PatchBatch:
    """``N`` matching pairs of patches from one group of images, and a near miss of each.

    Attributes:
        visible, other, near: ``(N, 1, 64, 64)`` in [0, 1]; ``near`` is the other image beside the true place.
        image: ``(N,)`` number of each one's image in the bank.
        centres: ``(N, 2)`` place in that image, px.
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
        """Mark pairs of the batch, ``(N, N)``, whose places nearly agree, so that they are no negatives."""
        distance = torch.cdist(self.centres, self.centres) / self.scale[:, None]
        return (self.image[:, None] == self.image[None]) & (distance < patch_px)


class PatchSampler:
    """Draw batches: a group by weight, some of its images, some of their points.

    Args:
        bank: Images.
        weights: Weight of each group; a group ``<name>+simulated`` draws other spectra simulated from the colours
            of ``<name>``. Empty: all groups alike, those of simulated spectra a quarter as often.
        geometry: Geometry of cutting.
        generator: Source of all randomness, on the CPU.
        images_per_batch: Scenes that a batch is drawn from; of ready-cut patches, each is an image of its own.
    """

    def __init__(
        self,
        bank: Bank,
        weights: dict[str, float],
        geometry: GeometryConfig,
        generator: torch.Generator,
        images_per_batch: int = 8,
    ) -> None:
        self._bank = bank
        weights = weights or {g: SIMULATED_WEIGHT if g.endswith(SIMULATED) else 1.0 for g in bank.groups}
        self._weights = {g: w for g, w in weights.items() if w > 0 and g in bank.groups}
        self._geometry = geometry
        self._generator = generator
        self._images_per_batch = images_per_batch

    @property
    def groups(self) -> list[str]:
        """All groups, of any weight."""
        return sorted(self._bank.groups)

    def draw(self, n: int, group: str | None = None) -> PatchBatch:
        """Draw ``n`` pairs of one group, those of one image side by side.

        Raises:
            InputError: If no group is named and none has a weight.
        """
        name = group or self._draw_group()
        bank, members = self._bank, self._bank.groups[name]
        geometry, simulated = _fitting(self._geometry, members), name.endswith(SIMULATED)
        image = self._rows(members, n).to(bank.points.device)
        draw = _Draws(torch.rand(n, 11, generator=self._generator).to(image.device))
        centres = bank.points[bank.first[image] + (draw.next() * bank.n_points[image]).long()]
        low, high = geometry.sar_log_scale if members.family == "sar" else geometry.log_scale
        largest = bank.max_log_scale[image]
        scale = torch.exp(torch.lerp(largest.clamp(max=low), largest.clamp(max=high), draw.next()))
        joint = _joint(draw, geometry.rotation) * scale[:, None, None]
        limit = math.radians(geometry.relative_rotation)
        zoom = torch.exp(draw.next(-geometry.relative_log_scale, geometry.relative_log_scale))
        other_matrix = joint @ (_rotation(draw.next(-limit, limit)) * zoom[:, None, None])
        beside = (_ring(draw, 0.0, geometry.jitter), _ring(draw, *geometry.near_miss))
        places = torch.cat([centres + (joint @ shift[..., None])[..., 0] for shift in beside])
        cut = bank.atlas.cut(image.repeat(2), COLOURS if simulated else OTHER, places, other_matrix.repeat(2, 1, 1))
        other, near = cut[:n], cut[n:]
        if simulated:
            other, near = simulate(torch.stack([other, near], 1), self._generator).unbind(1)
        visible = bank.atlas.cut(image, VISIBLE, centres, joint)
        return PatchBatch(visible, other, near, image, centres, scale, "simulated" if simulated else members.family)

    def _draw_group(self) -> str:
        if not self._weights:
            there = ", ".join(self.groups) or "none, all images have too few corners"
            raise InputError(
                f"no group can be drawn: group_weights has to give one of them a weight (there are: {there})"
            )
        names = list(self._weights)
        drawn = torch.multinomial(torch.tensor([self._weights[n] for n in names]), 1, generator=self._generator)
        return names[int(drawn)]

    def _rows(self, group: ImageGroup, n: int) -> Tensor:
        """Draw the image of each of ``n`` pairs."""
        count = len(group.rows)
        if group.patches:
            return group.rows[torch.randint(count, (n,), generator=self._generator)]
        chosen = torch.randperm(count, generator=self._generator)[: self._images_per_batch]
        return group.rows[chosen[torch.arange(n) * len(chosen) // n]]


class _Draws:
    """Columns of uniform random numbers ``(N, K)``, each used once; drawn together, because every transfer waits."""

    def __init__(self, drawn: Tensor) -> None:
        self._columns = iter(drawn.unbind(1))

    def next(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return ``(N,)`` in [low, high)."""
        return next(self._columns) * (high - low) + low


def _fitting(geometry: GeometryConfig, group: ImageGroup) -> GeometryConfig:
    """Restrict the geometry to what a group allows."""
    if not group.patches:
        return geometry
    return replace(
        geometry,
        log_scale=(-_PATCH_LIMIT, _PATCH_LIMIT),
        sar_log_scale=(-_PATCH_LIMIT, _PATCH_LIMIT),
        rotation=Rotation.QUARTER,
        relative_rotation=0.0,
        relative_log_scale=min(_PATCH_LIMIT, geometry.relative_log_scale),
        jitter=min(_PATCH_LIMIT * PATCH_SIZE, geometry.jitter),
    )


def _joint(draw: _Draws, rotation: Rotation) -> Tensor:
    """Draw rotations, half of them flipped; ``(N, 2, 2)``."""
    angle = draw.next(-math.pi, math.pi)
    if rotation == Rotation.QUARTER:
        angle = (angle / (math.pi / 2)).floor() * (math.pi / 2)
    flip = torch.where(draw.next() < 0.5, -1.0, 1.0)
    return _rotation(angle) * torch.stack([flip, torch.ones_like(flip)], 1)[:, None]


def _ring(draw: _Draws, low: float, high: float) -> Tensor:
    """Draw vectors whose lengths are uniform in ``low..high``; ``(N, 2)``."""
    angle, length = draw.next(-math.pi, math.pi), draw.next(low, high)
    return length[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


def _rotation(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)

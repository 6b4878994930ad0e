"""All images in one buffer: patches are those that plain sampling of each image would give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rrl_register.training.bank import Atlas

torch.set_num_threads(1)
CPU = torch.device("cpu")
SIZES = [(97, 130), (64, 64), (151, 80)]


@pytest.fixture
def stacks() -> list[Tensor]:
    """Images of unlike sizes and numbers of planes, the second a stack of three."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(1, 2, *SIZES[0]), (3, 2, *SIZES[1]), (1, 5, *SIZES[2])]
    return [torch.randint(256, shape, generator=generator).byte() for shape in shapes]


def reference(image: Tensor, centre: Tensor, matrix: Tensor, factor: int) -> Tensor:
    """One patch by torch's own sampling of one image, (P, 64, 64)."""
    height, width = image.shape[1:]
    reduced = functional.adaptive_avg_pool2d(image.float(), (height // factor, width // factor)).round()
    axis = torch.arange(64) - 31.5
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    places = centre + torch.stack([u, v], -1) @ matrix.T
    grid = (2 * places + 1) / torch.tensor([width, height]) - 1
    sampled = functional.grid_sample(reduced[None], grid[None], padding_mode="border", align_corners=False)
    return sampled[0] / 255


def turned(angle: float, scale: float) -> Tensor:
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float32)


def test_patches_are_those_of_plain_sampling(stacks: list[Tensor]) -> None:
    """Each from its own image and level, whatever the others of the batch; beyond the edges as well."""
    atlas = Atlas.of(stacks, CPU)
    images = [*stacks[0], *stacks[1], *stacks[2]]
    rows = torch.tensor([0, 4, 2, 0, 3, 4, 1])
    scales, factors = [0.7, 1.3, 1.5, 2.7, 2.9, 5.0, 1.0], [1, 1, 2, 2, 4, 4, 1]
    centres = torch.tensor([[50, 40], [3.25, 140], [31.5, 31.5], [120, 90], [-20, 70], [40, 75], [63, 0.0]])
    matrices = torch.stack([turned(0.9 * i, scale) for i, scale in enumerate(scales)])
    cut = atlas.cut(rows, (1, 0), centres, matrices)
    assert cut.shape == (7, 2, 64, 64)
    for i, row in enumerate(rows.tolist()):
        expected = reference(images[row], centres[i], matrices[i], factors[i])[[1, 0]]
        assert torch.allclose(cut[i], expected, atol=2e-4), i


def test_planes_are_told_apart(stacks: list[Tensor]) -> None:
    atlas = Atlas.of(stacks, CPU)
    cut = atlas.cut(torch.tensor([4]), (2, 3, 4), torch.tensor([[40.0, 75.0]]) - 0.5, torch.eye(2)[None])
    expected = stacks[2][0, 2:, 75 - 32 : 75 + 32, 40 - 32 : 40 + 32].float() / 255
    assert torch.allclose(cut[0], expected, atol=1e-6)


def test_an_atlas_may_be_empty() -> None:
    assert Atlas.of([], CPU).offset.shape == (3, 0)

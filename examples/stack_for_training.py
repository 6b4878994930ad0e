"""Stack the images of two sensors on one grid and train a network on patches of the stack.

python examples/stack_for_training.py data/rgb_nir_fixed.tif data/rgb_nir_moving.tif -o runs/stack.tif

The network here predicts the moving image's first band from the fixed image's bands: a stand-in for a fusion model.
"""

from __future__ import annotations

import argparse
from itertools import chain, islice, repeat
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from rrl_register import PatchDataset, align_stack, read_registration


def train(dataset: PatchDataset, inputs: int, steps: int) -> list[float]:
    """Fit a small network that predicts band ``inputs`` of the stack from the bands before it.

    Pixels without data in any band do not count.

    Returns:
        The loss of each step.
    """
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(inputs, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses: list[float] = []
    epochs = repeat(DataLoader(dataset, batch_size=8))
    for batch in islice(chain.from_iterable(epochs), steps):
        data, valid = batch["data"] / 255, batch["valid"]
        error = (network(data[:, :inputs])[:, 0] - data[:, inputs]).abs()
        loss = error[valid].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def main() -> None:
    """Read the command line, stack, train, print the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", type=Path)
    parser.add_argument("moving", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the stack, a GeoTIFF")
    parser.add_argument("--registration", type=Path, help="RESULT.json of this pair, if it is registered already")
    parser.add_argument("--size", type=int, default=64, help="side of the patches, px")
    parser.add_argument("--steps", type=int, default=30, help="steps of training")
    arguments = parser.parse_args()
    known = None if arguments.registration is None else read_registration(arguments.registration)
    stack = align_stack(
        [arguments.fixed, arguments.moving], output=arguments.output, registrations=[known], overwrite=True
    )
    dataset = PatchDataset(stack, arguments.size, stride=arguments.size // 2, min_valid=0.9)
    inputs = sum(band.label == stack.members[0].label for band in stack.bands)
    losses = train(dataset, inputs, arguments.steps)
    print(f"{stack.path}: {', '.join(stack.names)}")
    print(f"{len(dataset)} patches; mean error {losses[0]:.3f} at first, {losses[-1]:.3f} after {len(losses)} steps")


if __name__ == "__main__":
    main()

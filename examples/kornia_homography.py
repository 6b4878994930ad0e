"""Register a batch of tensors and warp it with kornia. Needs the extra ``train``, which brings kornia.

python examples/kornia_homography.py data/rgb_nir_fixed.tif data/rgb_nir_moving.tif

The batch holds a part of both images, and a second pair without content, which cannot be registered.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import rasterio
import torch
from kornia.geometry.transform import warp_perspective
from rasterio.windows import Window

from rrl_register import MatchConfig, RegisterConfig, RRLHomography


def read_part(path: Path, side: int) -> torch.Tensor:
    """Read the middle of a raster, (C, side, side) float32."""
    with rasterio.open(path) as dataset:
        corner = (dataset.width - side) // 2, (dataset.height - side) // 2
        return torch.from_numpy(dataset.read(window=Window(*corner, side, side), out_dtype="float32"))


def main() -> None:
    """Read the command line, register, warp, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", type=Path)
    parser.add_argument("moving", type=Path)
    parser.add_argument("--side", type=int, default=320, help="side of the part that is read, px")
    parser.add_argument("--keypoints", type=int, default=200)
    arguments = parser.parse_args()
    fixed, moving = (read_part(path, arguments.side) for path in (arguments.fixed, arguments.moving))
    batch = [torch.stack([image, torch.zeros_like(image)]) for image in (fixed, moving)]
    match = MatchConfig(n_keypoints=arguments.keypoints, rotation="none", scale="none", max_shift="60px")
    found = RRLHomography(RegisterConfig(match=match))(*batch)
    for ok, confidence, reason in zip(found.ok, found.confidence, found.reasons, strict=True):
        print(f"registered, confidence {confidence:.2f}" if ok else f"not registered: {reason}")
    aligned = warp_perspective(batch[1][found.ok], found.matrix[found.ok], fixed.shape[-2:])
    print(f"aligned {tuple(aligned.shape)}")


if __name__ == "__main__":
    main()

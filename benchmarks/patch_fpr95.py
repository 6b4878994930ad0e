"""FPR95 of RRL-Net and of hand-made descriptors on sets of patches.

python benchmarks/patch_fpr95.py PATCH_DIR [--weights FILE] [--every K] [--json OUT]

PATCH_DIR holds ``<set>_images.npy``, (N, 2, 64, 64) uint8, a visible patch and one of another spectrum each, and
``<set>_labels.npy``, (N,), 1 where they match, else 0. They are read as ``rrl-register evaluate patches`` reads them;
this adds hand-made descriptors.

Printed is, in per cent, how many wrong pairs pass where 95 % of the right ones do, by

* RRL-Net: its probabilities, in single precision;
* int8: those of the integers that registrations on a CPU take, where the weights are those shipped;
* descriptor: the cosine of its descriptors, without the relation part;
* oriented gradients: the correlation of their channels (after CFOG, Ye et al. 2019), averaged over cells;
* RootSIFT: one SIFT descriptor in the middle that covers the patch (Arandjelovic and Zisserman 2012).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tables import markdown_table

from rrl_register.errors import InputError, RegistrationError
from rrl_register.geometry.arrays import Patches
from rrl_register.matching.features.oriented_gradients import gradients
from rrl_register.nn.inference.onnx_backend import OnnxScorer
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.nn.patches import PATCH_SIZE
from rrl_register.raster.writer import check_output, write_json
from rrl_register.training.evaluation.patch_set import PatchSet, load_patch_set, score_patch_set
from rrl_register.training.validation import fpr95

ORIENTATIONS, BLUR_PX, SMOOTHING_PX = 9, 0.8, 1.6
FLAT = 0.05
"""Share of the mean length that is added to a length before dividing by it."""
CELLS = 16
"""Cells a side that channels are averaged over: 8 a side, or 4, serve no family better."""
SIFT_SIZE = PATCH_SIZE / 6
"""SIFT looks at four bins of three scales a side, and a keypoint's size is twice its scale."""
METHODS = ("RRL-Net", "int8", "descriptor", "oriented gradients", "RootSIFT")


def main() -> None:
    """Read the arguments, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patches", type=Path, metavar="PATCH_DIR", help="folder of the sets")
    parser.add_argument("--weights", type=Path, help="weights to use; default: those shipped")
    parser.add_argument("--every", type=int, default=1, help="take every K-th pair of each set", metavar="K")
    parser.add_argument("--json", type=Path, help="write the figures here too", metavar="OUT")
    arguments = parser.parse_args()
    try:
        run(arguments.patches, arguments.weights, arguments.every, arguments.json)
    except RegistrationError as error:
        sys.exit(f"Error: {error}")


def run(folder: Path, weights: Path | None, every: int, output: Path | None) -> None:
    """Measure every set, print the table and write the figures."""
    if output:
        check_output(output, overwrite=True)
    names = sorted(path.name.removesuffix("_images.npy") for path in folder.glob("*_images.npy"))
    if not names:
        raise InputError(f"no *_images.npy in {folder}: give a folder of patch sets")
    scorer, integers = Scorer(weights), None if weights else OnnxScorer()
    sets: dict[str, dict[str, float]] = {}
    for name in names:
        patches = load_patch_set(folder / f"{name}_images.npy", folder / f"{name}_labels.npy", every=every)
        sets[name] = {"n": len(patches), **measure(patches, scorer, integers)}
        print(f"{name}: {len(patches)} pairs, the second patches are taken for {patches.taken_as}", file=sys.stderr)
    methods = [m for m in METHODS if all(m in figures for figures in sets.values())]
    rows = [[name, str(figures["n"]), *(f"{figures[m]:.2f}" for m in methods)] for name, figures in sets.items()]
    print(markdown_table(["FPR95, %", "pairs", *methods], rows))
    if output:
        result: dict[str, Any] = {"weights": scorer.name, "patches": str(folder), "every": every, "fpr95": sets}
        write_json(output, result, overwrite=True)


def measure(patches: PatchSet, scorer: Scorer, integers: OnnxScorer | None) -> dict[str, float]:
    """FPR95 by method, per cent."""
    visible, other = patches.patches(slice(None))
    scores, row = score_patch_set(patches, scorer), np.arange(len(patches))
    similarities = {
        "RRL-Net": scores.network,
        **({"int8": integers.score(visible, other, row, row)} if integers else {}),
        "descriptor": scores.descriptor,
        "oriented gradients": cosine(gradient_descriptors(visible), gradient_descriptors(other)),
        "RootSIFT": cosine(root_sift(visible), root_sift(other)),
    }
    return {method: round(fpr95(patches.labels, s), 3) for method, s in similarities.items()}


def cosine(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines of the rows of two matrices of unit vectors."""
    return np.asarray(np.einsum("ij,ij->i", left, right))


def gradient_descriptors(patches: Patches) -> NDArray[np.float32]:
    """Channels of oriented gradients averaged over cells, less their mean: the cosine is then a correlation."""
    everywhere = np.ones((PATCH_SIZE, PATCH_SIZE), bool)
    side = PATCH_SIZE // CELLS
    described = []
    for patch in patches[:, 0]:
        channels = oriented_gradients(*gradients(patch, everywhere, BLUR_PX))
        cells = channels.reshape(CELLS, side, CELLS, side, -1).mean(axis=(1, 3))
        described.append((cells - cells.mean()).ravel())
    return unit_rows(np.stack(described))


def oriented_gradients(gx: NDArray[np.float32], gy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return channels ``(H, W, 9)`` of unit length from derivatives ``(H, W)``, blind to the sign of the contrast.

    Source: CFOG (Ye et al., "Fast and robust matching for multimodal remote sensing image registration", 2019).
    """
    angle = (np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS).astype(np.float32)
    channels = np.abs(gx[..., None] * np.cos(angle) + gy[..., None] * np.sin(angle))
    channels = cv2.GaussianBlur(channels, (0, 0), SMOOTHING_PX, borderType=cv2.BORDER_REFLECT)
    channels = 0.5 * channels + 0.25 * (np.roll(channels, 1, -1) + np.roll(channels, -1, -1))
    length = np.linalg.norm(channels, axis=-1, keepdims=True)
    return np.asarray(channels / (length + FLAT * length.mean() + 1e-6), np.float32)


def root_sift(patches: Patches) -> NDArray[np.float32]:
    """Square roots of SIFT descriptors of unit sum, upright, in the middle of the patches."""
    sift = cv2.SIFT.create()
    middle = (PATCH_SIZE - 1) / 2
    keypoint = cv2.KeyPoint(middle, middle, SIFT_SIZE, 0)
    bytes_ = np.rint(patches[:, 0] * 255).astype(np.uint8)
    described = np.stack([sift.compute(patch, [keypoint])[1][0] for patch in bytes_])
    return unit_rows(np.sqrt(described))


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to unit length; rows of zeros stay."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


if __name__ == "__main__":
    main()

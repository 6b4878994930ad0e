"""Make the integers that registrations on a CPU run the network in, from its weights and from training pairs.

    python pipelines/quantise_rrlnet.py --data FOLDER [--weights FILE] [-o FILE]

Between what numbers the maps of the network lie is seen on patches of the training pairs: FOLDER is anything that a
recipe's ``data`` may name, and what is kept of it for validation is left out. Every group of pairs, simulated spectra
included, gives the same number of patches, near misses among them; they are drawn alike in every run. It takes a few
minutes. The file names the checksum of the weights that it was made from, and is refused with others: make it again
whenever the weights shipped with the package change. Needs the extras ``train`` and ``onnx``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from rrl_register.errors import RegistrationError
from rrl_register.nn.folding import fold_batch_norms
from rrl_register.nn.inference.onnx_backend import CHECKSUM_NOTE, INTEGERS
from rrl_register.nn.ranges import observe
from rrl_register.nn.weights import Weights, read_weights
from rrl_register.training.bank import load_bank
from rrl_register.training.datasets import parse_sources
from rrl_register.training.sampling import GeometryConfig, PatchSampler

SHIPPED = Path(__file__).parents[1] / "rrl_register" / "nn" / "weights" / INTEGERS
ROUNDS = 2
"""Batches of each group."""
PAIRS = 16
"""Of a batch; each is seen with its match and with a near miss."""


def main() -> None:
    """Read the arguments, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="training pairs")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="default: those shipped with the package")
    parser.add_argument("-o", "--output", type=Path, default=SHIPPED, metavar="FILE", help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        run(read_weights(arguments.weights), calibration_batches(arguments.data), arguments.output)
    except RegistrationError as error:
        sys.exit(f"Error: {error}")


def calibration_batches(data: Path) -> list[tuple[Tensor, Tensor]]:
    """Visible and other patches of pairs, ``(N, 1, 64, 64)`` each.

    Raises:
        InputError: If there is no data to draw from.
    """
    bank = load_bank(parse_sources(str(data)), validation=False, device=torch.device("cpu"))
    sampler = PatchSampler(bank, {}, GeometryConfig(), torch.Generator().manual_seed(0))
    drawn = [sampler.draw(PAIRS, group) for group in sampler.groups for _ in range(ROUNDS)]
    return [(batch.visible, other) for batch in drawn for other in (batch.other, batch.near)]


def run(weights: Weights, batches: list[tuple[Tensor, Tensor]], output: Path) -> None:
    """Write the integers of a network.

    Raises:
        InputError: If it is of an architecture that cannot be written so.
    """
    from rrl_register.nn.integer_network import integer_network  # needs the extra onnx, which --help does not

    network = weights.network()
    fold_batch_norms(network)
    notes = {"name": weights.notes["name"], CHECKSUM_NOTE: weights.notes["checksum"], "licence": "Apache-2.0"}
    content = integer_network(network, observe(network, batches), notes).SerializeToString(deterministic=True)
    output.write_bytes(content)
    print(f"{output}: {len(content) / 1e6:.1f} MB, {weights.label}, from {sum(len(v) for v, _ in batches)} pairs")


if __name__ == "__main__":
    main()

"""The network's share of the result: registrations with shipped weights, with untrained ones, by the descriptor alone.

python benchmarks/network_share.py PAIRS.json [--suite a,b] [--every K] [--variants shipped,untrained,descriptor]
                                   [--weights FILE] [--train TRAIN_DIR] [--json OUT]

PAIRS.json lists pairs: ``id``, ``suite``, ``fixed`` and ``moving`` (paths from its folder), ``landmarks_fixed`` and
``landmarks_moving`` (corresponding points, px; null where nothing overlaps: such a pair has to be refused).

* shipped: the product as it is.
* untrained: the same network as it is initialised, from a fixed seed. It gives all pairs nearly one score, so that it
  accepts every candidate or none; the seed is one that accepts: the row is what the classical stages do by themselves.
* descriptor: the shipped descriptor finds the candidates and accepts them too; its cosine becomes a probability by a
  logistic function, fitted to patches of the training pairs that training keeps for validation.

A second table has the share of those patches that each variant accepts. With --json an interrupted run continues where
it was; delete the file after a change of the code. The error of a pair is the mean distance over its points.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from descriptor_alone import Calibration, DescriptorScorer, LabelledPairs, calibrate, held_out_pairs
from registrations import Row, Store, choose_pairs, mean_error, names, results_table
from tables import markdown_table

from rrl_register.config import MatchConfig
from rrl_register.errors import InputError, RegistrationError
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.weights import load_weights
from rrl_register.pipeline.register import register

VARIANTS = ("shipped", "untrained", "descriptor")
UNTRAINED_SEED = 0
LIMITS_PX = (2, 3, 5)
SORTS = ("right pairs", "hard negatives", "near misses")


def main() -> None:
    """Read the arguments, run, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, metavar="PAIRS.json")
    parser.add_argument("--suite", type=names, help="suites to run, a comma between; default: all")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="take every K-th pair of each suite")
    parser.add_argument("--variants", type=names, default=VARIANTS, help="default: %(default)s")
    parser.add_argument("--weights", type=Path, help="use these as the shipped weights")
    parser.add_argument("--train", type=Path, help="folder of the training pairs; default: ../train beside PAIRS.json")
    parser.add_argument("--json", type=Path, metavar="OUT", help="keep rows here; continue from those there")
    arguments = parser.parse_args()
    if unknown := set(arguments.variants) - set(VARIANTS):
        parser.error(f"--variants {', '.join(sorted(unknown))}: {', '.join(VARIANTS)} are known")
    try:
        _run(arguments)
    except RegistrationError as error:
        sys.exit(f"Error: {error}")


def _run(arguments: argparse.Namespace) -> None:
    pairs = choose_pairs(arguments.pairs, arguments.suite, arguments.every)
    network, name = load_weights(arguments.weights)
    store = VariantStore.open(arguments.json, name)
    train = arguments.train or arguments.pairs.resolve().parent.parent / "train"
    scorers = build_scorers(network, name, arguments.variants, train, store)
    for pair in pairs:
        for variant, scorer in scorers.items():
            if store.row(variant, pair["id"]) is None:
                store.add({"variant": variant, **attempt(pair, arguments.pairs.parent, scorer)})
    rows = [row for pair in pairs for v in scorers if (row := store.row(v, pair["id"]))]
    table = results_table(rows, store.KEY, list(scorers), LIMITS_PX, by="suite")
    print(table, acceptance_table(store.acceptance, list(scorers)), sep="\n\n")


@dataclass
class VariantStore(Store):
    """Results so far.

    Attributes:
        calibration: Of the descriptor.
        acceptance: Share of held-out patches that is accepted: by variant and by sort of pair.
    """

    KEY: ClassVar[str] = "variant"

    calibration: dict[str, float] = field(default_factory=dict)
    acceptance: dict[str, dict[str, float]] = field(default_factory=dict)


def build_scorers(
    network: RRLNet, name: str, variants: Sequence[str], train: Path, store: VariantStore
) -> dict[str, Scorer]:
    """Build the scorers of the variants; measure what they accept of held-out patches unless it is known."""
    # A scorer replaces layers of its network in place: that of the descriptor gets one that no other has changed.
    shipped = Scorer(network=copy.deepcopy(network), name=name)
    unknown = [v for v in variants if v not in store.acceptance]
    pairs = held_out_pairs(train, shipped) if unknown else None
    if pairs and "descriptor" in unknown:
        store.calibration = asdict(calibrate(shipped, pairs))
    scorers = {variant: _scorer(variant, shipped, network, store) for variant in variants}
    if pairs:
        store.acceptance |= {variant: acceptance(scorers[variant], pairs) for variant in unknown}
        store.save()
    return scorers


def _scorer(variant: str, shipped: Scorer, network: RRLNet, store: VariantStore) -> Scorer:
    if variant == "untrained":
        torch.manual_seed(UNTRAINED_SEED)
        return Scorer(network=RRLNet(training_heads=False), name=f"untrained, seed {UNTRAINED_SEED}")
    if variant == "descriptor":
        return DescriptorScorer(network, shipped.name, Calibration(**store.calibration))
    return shipped


def acceptance(scorer: Scorer, pairs: LabelledPairs) -> dict[str, float]:
    """Share of right pairs, hard negatives and near misses that a variant takes for matches."""
    accepted = scorer.score(pairs.visible, pairs.other, pairs.left, pairs.right) >= MatchConfig().min_score
    shares = accepted.reshape(len(SORTS), -1).mean(axis=1)
    return {sort: round(float(share), 4) for sort, share in zip(SORTS, shares, strict=True)}


def attempt(pair: Row, root: Path, scorer: Scorer) -> Row:
    """Register a pair and measure how far off the result is."""
    start = time.perf_counter()
    row: Row = {"id": pair["id"], "suite": pair["suite"], "error": None}
    try:
        result = register(root / pair["fixed"], root / pair["moving"], scorer=scorer)
    except InputError as error:
        return {**row, "status": "unusable", "reason": str(error), "seconds": time.perf_counter() - start}
    row |= {"status": result.status, "reason": result.reason, "seconds": time.perf_counter() - start}
    row |= {key: getattr(result, key) for key in ("confidence", "n_candidates", "n_tie_points", "n_inliers")}
    return {**row, "error": mean_error(result.matrix, pair, result.displacement)}


def acceptance_table(shares: dict[str, dict[str, float]], variants: Sequence[str]) -> str:
    """Lay out the share of held-out patches that each variant accepts."""
    lines = [[variant, *(f"{shares[variant][sort]:.2f}" for sort in SORTS)] for variant in variants]
    return markdown_table(["accepted share", *SORTS], lines)


if __name__ == "__main__":
    main()

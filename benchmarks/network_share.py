"""What the network does: registrations with the shipped weights, with untrained ones, and by the descriptor alone.

python benchmarks/network_share.py PAIRS.json [--suite a,b] [--every K] [--variants shipped,untrained,descriptor]
                                   [--weights FILE] [--train TRAIN_DIR] [--json OUT]

PAIRS.json lists pairs: ``id``, ``suite``, ``fixed`` and ``moving`` (paths from its folder), ``landmarks_fixed`` and
``landmarks_moving`` (corresponding points, px; null where nothing overlaps: such a pair has to be refused).

* shipped: the product as it is.
* untrained: the same network as it is initialised, from a fixed seed. It gives all pairs nearly one score, so that it
  accepts every candidate or none; the seed is one that accepts: the row is what the classical stages do by themselves.
* descriptor: the shipped descriptor finds the candidates and accepts them too; its cosine becomes a probability by a
  logistic function, fitted to patches of the training pairs that training keeps for validation.

A second table says what share of those patches each variant accepts. With --json a run that was broken off goes on
where it was; delete the file after a change of the code. The error of a pair is the mean distance over its points.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from descriptor_alone import Calibration, DescriptorScorer, LabelledPairs, calibrate, held_out_pairs
from tables import markdown_table

from rrl_register import __version__
from rrl_register.config import MatchConfig
from rrl_register.errors import InputError, RegistrationError, UsageError
from rrl_register.estimation.transforms import project
from rrl_register.matching.scoring import Scorer
from rrl_register.nn import RRLNet
from rrl_register.nn.weights import load_weights
from rrl_register.pipeline import register
from rrl_register.raster.writer import check_output, write_json

Row = dict[str, Any]

VARIANTS = ("shipped", "untrained", "descriptor")
UNTRAINED_SEED = 0
LIMITS_PX = (2, 3, 5)
AUC_LIMIT_PX = 10.0
NEGATIVE = "negative"
"""Suite of the pairs that do not overlap."""
ALL = "all"
SORTS = ("right pairs", "hard negatives", "near misses")


def main() -> None:
    """Read the arguments, run, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, metavar="PAIRS.json")
    parser.add_argument("--suite", type=_names, help="suites to run, a comma between; default: all")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="take every K-th pair of each suite")
    parser.add_argument("--variants", type=_names, default=VARIANTS, help="default: %(default)s")
    parser.add_argument("--weights", type=Path, help="use these as the shipped weights")
    parser.add_argument("--train", type=Path, help="folder of the training pairs; default: ../train beside PAIRS.json")
    parser.add_argument("--json", type=Path, metavar="OUT", help="keep rows here, and go on from those there")
    arguments = parser.parse_args()
    if unknown := set(arguments.variants) - set(VARIANTS):
        parser.error(f"--variants {', '.join(sorted(unknown))}: {', '.join(VARIANTS)} are known")
    try:
        _run(arguments)
    except RegistrationError as error:
        sys.exit(f"Error: {error}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _run(arguments: argparse.Namespace) -> None:
    pairs = choose_pairs(arguments.pairs, arguments.suite, arguments.every)
    network, name = load_weights(arguments.weights)
    store = Store.open(arguments.json, name)
    train = arguments.train or arguments.pairs.resolve().parent.parent / "train"
    scorers = build_scorers(network, name, arguments.variants, train, store)
    for pair in pairs:
        for variant, scorer in scorers.items():
            if store.row(variant, pair["id"]) is None:
                store.add({"variant": variant, **attempt(pair, arguments.pairs.parent, scorer)})
    rows = [row for pair in pairs for v in scorers if (row := store.row(v, pair["id"]))]
    print(results_table(rows, list(scorers)), acceptance_table(store.acceptance, list(scorers)), sep="\n\n")


def choose_pairs(path: Path, suites: Sequence[str] | None, every: int) -> list[Row]:
    """Every K-th pair of each suite, suite by suite.

    Raises:
        InputError: The list cannot be read.
        UsageError: A suite is not in it.
    """
    try:
        listed = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no list of pairs ({error}): give a pairs.json") from error
    by_suite: dict[str, list[Row]] = defaultdict(list)
    for pair in listed:
        by_suite[pair["suite"]].append(pair)
    if unknown := set(suites or ()) - set(by_suite):
        raise UsageError(f"--suite {', '.join(sorted(unknown))}: {path} has {', '.join(by_suite)}")
    return [pair for suite in suites or by_suite for pair in by_suite[suite][::every]]


@dataclass
class Store:
    """What is known so far, written to a file after each registration.

    Attributes:
        path: The file; None: nothing is kept.
        weights: Name of the shipped weights.
        calibration: Of the descriptor.
        acceptance: Share of held-out patches that is accepted: by variant and by sort of pair.
        rows: One per variant and pair.
    """

    path: Path | None
    weights: str
    calibration: dict[str, float] = field(default_factory=dict)
    acceptance: dict[str, dict[str, float]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path | None, weights: str) -> Store:
        """Go on from a file, if there is one.

        Raises:
            InputError: The file is of another kind or of other weights.
            UsageError: It cannot be written.
        """
        if path is None:
            return cls(None, weights)
        check_output(path, overwrite=True)
        if not path.exists():
            return cls(path, weights)
        try:
            known = json.loads(path.read_text())
            store = cls(path, known["weights"], known["calibration"], known["acceptance"], known["rows"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} holds no results of this script: give another file") from error
        if store.weights != weights:
            raise InputError(f"{path} holds results of the weights {store.weights}, not {weights}: give another file")
        return store

    def row(self, variant: str, pair: str) -> Row | None:
        """What is known of a pair."""
        return next((r for r in self.rows if (r["variant"], r["id"]) == (variant, pair)), None)

    def add(self, row: Row) -> None:
        """Keep a row."""
        self.rows.append(row)
        self.save()
        said = row["reason"] or ("no points to compare" if row["error"] is None else f"{row['error']:.2f} px")
        print(f"{row['variant']} {row['id']}: {row['status']}, {row['seconds']:.1f} s, {said}", file=sys.stderr)

    def save(self) -> None:
        """Write everything."""
        if self.path:
            known = {k: v for k, v in self.__dict__.items() if k != "path"}
            write_json(self.path, {"version": __version__, **known}, overwrite=True)


def build_scorers(network: RRLNet, name: str, variants: Sequence[str], train: Path, store: Store) -> dict[str, Scorer]:
    """The scorers of the variants; what they accept of held-out patches is measured unless it is known."""
    shipped = Scorer(network=network, name=name)
    unknown = [v for v in variants if v not in store.acceptance]
    pairs = held_out_pairs(train, shipped) if unknown else None
    if pairs and "descriptor" in unknown:
        store.calibration = asdict(calibrate(shipped, pairs))
    scorers = {variant: _scorer(variant, shipped, network, store) for variant in variants}
    if pairs:
        store.acceptance |= {variant: acceptance(scorers[variant], pairs) for variant in unknown}
        store.save()
    return scorers


def _scorer(variant: str, shipped: Scorer, network: RRLNet, store: Store) -> Scorer:
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
    if result.matrix is not None and pair["landmarks_fixed"]:
        found = project(result.matrix, np.array(pair["landmarks_moving"], float))
        row["error"] = float(np.linalg.norm(found - np.array(pair["landmarks_fixed"]), axis=1).mean())
    return row


def results_table(rows: Sequence[Row], variants: Sequence[str]) -> str:
    """One line for each suite and variant, and for all suites together."""
    suites = [*dict.fromkeys(row["suite"] for row in rows), ALL]
    header = ["suite", "variant", "n", *(f"< {limit} px" for limit in LIMITS_PX), f"AUC@{AUC_LIMIT_PX:g}"]
    header += ["median px", "refused", f"silent > {AUC_LIMIT_PX:g} px", "negatives accepted", "median s"]
    lines = []
    for suite in suites:
        for variant in variants:
            group = [r for r in rows if r["variant"] == variant and suite in (r["suite"], ALL)]
            lines.append([suite, variant, *_figures(group)])
    return markdown_table(header, lines)


def _figures(rows: Sequence[Row]) -> list[str]:
    """The cells of a group of rows: those of pairs that overlap, then what was made of those that do not."""
    negative = [r["status"] == "ok" for r in rows if r["suite"] == NEGATIVE]
    errors = np.array([np.inf if r["error"] is None else r["error"] for r in rows if r["suite"] != NEGATIVE])
    seconds = f"{np.median([r['seconds'] for r in rows]):.1f}"
    accepted = f"{sum(negative)} of {len(negative)}" if negative else "-"
    if not len(errors):
        return [str(len(rows)), *["-"] * (len(LIMITS_PX) + 4), accepted, seconds]
    registered = errors[np.isfinite(errors)]
    return [
        str(len(rows)),
        *(f"{np.mean(errors < limit):.2f}" for limit in LIMITS_PX),
        f"{np.mean(1 - np.minimum(errors, AUC_LIMIT_PX) / AUC_LIMIT_PX):.3f}",
        f"{np.median(registered):.2f}" if len(registered) else "-",
        f"{1 - len(registered) / len(errors):.2f}",
        str(np.sum(registered > AUC_LIMIT_PX)),
        accepted,
        seconds,
    ]


def acceptance_table(shares: dict[str, dict[str, float]], variants: Sequence[str]) -> str:
    """What each variant accepts of held-out patches."""
    lines = [[variant, *(f"{shares[variant][sort]:.2f}" for sort in SORTS)] for variant in variants]
    return markdown_table(["accepted share", *SORTS], lines)


if __name__ == "__main__":
    main()

"""Fit the confidence model on registrations of hard cases whose answer is known.

    python pipelines/calibrate_confidence.py ../shared/data/train runs/calibration.jsonl --fit --diagram reliability.png

Pairs that training keeps for validation are misregistered and damaged, or mixed with one another (negatives), as in
benchmarks/hard_cases.py, and registered. Results are appended to the file one by one; existing ones are not repeated.
``--fit`` then fits a logistic model of the evidence and prints it as JSON for rrl_register/estimation/confidence.json;
its figures, and the diagram, come from cross-validation over scenes. The diagram needs the extra ``train``
(Matplotlib). ``--table`` prints the results by kind.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # ``case_maker``

from case_maker.cases import HardCase, Plan, make_case, plan_cases
from case_maker.difficulties import DIFFICULTIES, NEGATIVE
from case_maker.files import write_case
from case_maker.sources import validation_scenes

from confidence_fit.calibration import ReliabilityBin, calibrate, known_registrations
from confidence_fit.diagram import draw_reliability
from rrl_register import RegistrationError
from rrl_register.config import Device, RegisterConfig
from rrl_register.geometry.transforms import project
from rrl_register.matching.strategy import Estimate
from rrl_register.nn.inference.load import LoadedScorer, load_scorer
from rrl_register.training.evaluation.figures import check_plot, text_table

RIGHT_BELOW_PX = 5.0
"""Mean error of a correct registration: the pairs themselves are accurate to 1 px, the search converges from here, and
no wrong place is this near by chance."""


def attempt(plan: Plan) -> dict[str, Any]:
    """Make and register a case; return its evidence, and whether the result is correct."""
    row = {"name": plan.name, "seed": plan.seed, "suite": plan.suite, "family": plan.scene.family}
    row |= {"scenes": plan.scenes, "right": False, "error": None, "evidence": None, "implausible": None}
    case = make_case(plan)
    estimate = _estimate(plan, case)
    if estimate is None:
        return row
    error = error_px(case, estimate.frames.to_files(estimate.transform).matrix)
    evidence = estimate.evidence.figures()
    row |= {"evidence": evidence, "implausible": estimate.evidence.implausible}
    return row if error is None else row | {"error": round(error, 2), "right": error < RIGHT_BELOW_PX}


def error_px(case: HardCase, matrix: np.ndarray) -> float | None:
    """Compute the mean distance of a transform from the true one without relief, fixed px; None for negatives."""
    if case.matrix is None or case.landmarks_moving is None:
        return None
    away = project(matrix, case.landmarks_moving) - project(case.matrix, case.landmarks_moving)
    return float(np.linalg.norm(away, axis=1).mean())


def _estimate(plan: Plan, case: HardCase) -> Estimate | None:
    """Return the best estimate, correct or not; None if there is none."""
    from rrl_register.pipeline.register import search

    with tempfile.TemporaryDirectory() as folder:
        entry = write_case(Path(folder), plan, case)
        paths = Path(folder, entry["fixed"]), Path(folder, entry["moving"])
        try:
            return search(*paths, RegisterConfig(), _scorer()).estimate
        except RegistrationError:
            return None


@cache
def _scorer() -> LoadedScorer:
    """Load one network for each process, on one thread, because there are as many processes as cores."""
    cv2.setNumThreads(1)
    return load_scorer(None, Device.AUTO, threads=1)


def register_missing(plans: list[Plan], results: Path, workers: int) -> None:
    """Register the cases that have no result yet, and append their results."""
    done = {(row["name"], row["seed"]) for row in _rows(results)}
    missing = [plan for plan in plans if (plan.name, plan.seed) not in done]
    results.parent.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(workers) as pool, results.open("a") as file:
        for row in pool.imap_unordered(attempt, missing):
            print(json.dumps(row), file=file, flush=True)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the results by kind: number of correct ones, their median error, and the errors of the others, px."""
    lines = []
    for kind in DIFFICULTIES:
        of_kind = [row for row in rows if row["suite"] == kind]
        right = [row["error"] for row in of_kind if row["right"]]
        others = [row["error"] for row in of_kind if not row["right"]]
        wrong = [f"{error:.1f}" for error in others if error is not None]
        none = sum(error is None for error in others)
        lines.append([kind, len(of_kind), len(right), median(right) if right else None, ", ".join(wrong) or "-", none])
    return text_table(["kind", "n", "right", "median px", "wrong px", "no error known"], lines)


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with pairs.csv")
    parser.add_argument("results", type=Path, help="JSON lines to append to")
    parser.add_argument(
        "--per-kind", type=int, default=12, metavar="N", help="cases of each kind; default: %(default)s"
    )
    parser.add_argument(
        "--negatives", type=int, default=60, metavar="N", help="pairs of two places; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=1, help="random seed; default: %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="processes; default: %(default)s")
    parser.add_argument("--fit", action="store_true", help="fit the model and print it")
    parser.add_argument("--table", action="store_true", help="print the results by kind")
    parser.add_argument("--diagram", type=Path, metavar="FILE.png", help="with --fit: draw the reliability diagram")
    args = parser.parse_args()
    try:
        _run(args)
    except RegistrationError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _run(args: argparse.Namespace) -> None:
    if args.diagram:
        check_plot(args.diagram)
    register_missing(_plans(args), args.results, args.workers)
    if args.table:
        print(table(_rows(args.results)))
    if not args.fit:
        return
    fitted = calibrate(known_registrations(_rows(args.results)))
    print(json.dumps(fitted, indent=1))
    if args.diagram:
        draw_reliability(args.diagram, [ReliabilityBin(**one) for one in fitted["reliability"]], overwrite=True)


def _plans(args: argparse.Namespace) -> list[Plan]:
    scenes = validation_scenes(args.data)
    related = [suite for suite in DIFFICULTIES if suite != NEGATIVE]
    return plan_cases(scenes, args.per_kind, args.seed, related) + plan_cases(
        scenes, args.negatives, args.seed, [NEGATIVE]
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


if __name__ == "__main__":
    sys.exit(main())

"""Fit the confidence model on registrations of training pairs whose answer is known.

    python pipelines/calibrate_confidence.py ../shared/data/train runs/calibration.jsonl --fit

Pairs that the network's training kept for validation are misregistered by random transforms (right answers are known)
or mixed with one another (nothing to be found), and registered. Results are appended to the file one by one, and those
already there are not made again. ``--fit`` then fits a logistic model of the evidence and prints it as JSON, to be
kept as rrl_register/estimation/confidence.json. Needs the extra ``test`` (scikit-learn).
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rrl_register.errors import InputError
from rrl_register.estimation.transforms import compose, project, similarity, translation
from rrl_register.estimation.verdict import FEATURES, features
from rrl_register.matching.scoring import Scorer
from rrl_register.training.bank import is_validation

RIGHT_BELOW_PX = 10.0
"""The pairs themselves are true to some px only: parallax, terrain."""
MOST_SIDE = 512
"""Larger images are cropped: what is calibrated is the evidence, not the size."""


@dataclass(frozen=True)
class Case:
    """One registration to try.

    Attributes:
        name: Of the case.
        fixed, moving: Images on one grid, or of two places.
        seed: Of the random transform.
        related: Whether they show one place.
    """

    name: str
    fixed: Path
    moving: Path
    seed: int
    related: bool


def cases(folder: Path, repeats: int) -> Iterator[Case]:
    """Validation pairs ``repeats`` times each under random transforms, and half as often mixed within their set."""
    with (folder / "pairs.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if is_validation(f"{row['set']}/{row['id']}")]
    for repeat in range(repeats):
        for index, row in enumerate(rows):
            seed = 1000 * repeat + index
            name = f"{row['set']}/{row['id']}/{repeat}"
            yield Case(name, folder / row["vis"], folder / row["other"], seed, True)
            others = [r for r in rows if r["set"] == row["set"] and r["id"] != row["id"]]
            if others and (index + repeat) % 2:
                other = others[(index + 3 * repeat) % len(others)]
                yield Case(f"{name}+{other['id']}", folder / row["vis"], folder / other["other"], seed, False)


def random_transform(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A misregistration: up to 10 degrees, 10 %, a tenth of the side, and a slight perspective."""
    height, width = shape
    centre = ((width - 1) / 2, (height - 1) / 2)
    shift = tuple(rng.uniform(-0.1, 0.1, 2) * max(shape))
    turn = similarity(float(np.exp(rng.uniform(-0.1, 0.1))), rng.uniform(-10, 10), shift, centre)
    tilt = np.eye(3)
    tilt[2, :2] = rng.uniform(-0.05, 0.05, 2) / max(shape)
    return compose(turn, translation(*centre), tilt, translation(-centre[0], -centre[1]))


def lattice(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Points spread over an image, (100, 2): where its error is measured."""
    x, y = (np.linspace(0.08, 0.92, 10) * (side - 1) for side in shape[::-1])
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def attempt(case: Case) -> dict[str, object]:
    """Registers a case; its evidence and whether the result is right."""
    from rrl_register import RegisterConfig
    from rrl_register.pipeline import search

    fixed, moving = _cropped(case.fixed, case.seed), _cropped(case.moving, case.seed)
    true = random_transform(np.random.default_rng(case.seed), moving.shape[:2])
    moved = cv2.warpPerspective(moving, np.linalg.inv(true), moving.shape[1::-1], flags=cv2.INTER_CUBIC)
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "fixed.png", Path(folder) / "moving.png"
        for path, image in zip(paths, (fixed, moved), strict=True):
            cv2.imwrite(str(path), image)
        searched = search(*paths, RegisterConfig(), _scorer())
    result: dict[str, object] = {"name": case.name, "related": case.related, "right": False, "error": None}
    estimate = searched.estimate
    if estimate is None:
        return result | {"evidence": None}
    places = lattice(moving.shape[:2])
    error = float(np.linalg.norm(estimate.transform.forward(places) - project(true, places), axis=1).mean())
    evidence = estimate.evidence.figures() | {"n_inliers": estimate.evidence.n_inliers}
    related = {"right": error < RIGHT_BELOW_PX, "error": round(error, 2)} if case.related else {}
    return result | related | {"evidence": evidence, "implausible": estimate.evidence.implausible}


@cache
def _scorer() -> Scorer:
    """One network for each process, on one thread: there are as many processes as cores."""
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return Scorer()


def _cropped(path: Path, seed: int) -> NDArray[np.uint8]:
    """The image, or a random part of it; the same part for images of one size."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise InputError(f"{path} cannot be read as an image")
    place = np.random.default_rng(seed).random(2)
    top, left = (int(part * max(0, side - MOST_SIDE)) for part, side in zip(place, image.shape, strict=False))
    return np.asarray(image[top : top + MOST_SIDE, left : left + MOST_SIDE], np.uint8)


def fit(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A logistic model of the evidence: intercept, one coefficient for each feature, and how well it does."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import brier_score_loss
    from sklearn.model_selection import cross_val_predict

    usable = [r for r in rows if r["evidence"] and not r["implausible"]]
    x = np.array([features(r["evidence"]) for r in usable])
    y = np.array([r["right"] for r in usable])
    model = LogisticRegression(C=1.0)
    held_out = cross_val_predict(model, x, y, cv=5, method="predict_proba")[:, 1]
    model.fit(x, y)
    return {
        "intercept": round(float(model.intercept_[0]), 4),
        "coefficients": dict(zip(FEATURES, np.round(model.coef_[0], 4).tolist(), strict=True)),
        "registrations": len(usable),
        "right": int(y.sum()),
        "held_out_brier": round(float(brier_score_loss(y, held_out)), 4),
        "held_out_wrong_accepted": int((held_out[~y] >= 0.5).sum()),
        "held_out_right_refused": int((held_out[y] < 0.5).sum()),
    }


def main() -> int:
    """Parses the command line, makes what is missing, fits if asked; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with pairs.csv")
    parser.add_argument("results", type=Path, help="JSON lines to append to")
    parser.add_argument("--repeats", type=int, default=2, help="random transforms for each pair")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--fit", action="store_true", help="fit the model and print it")
    args = parser.parse_args()
    args.results.parent.mkdir(parents=True, exist_ok=True)
    done = _rows(args.results)
    missing = [c for c in cases(args.data, args.repeats) if c.name not in {r["name"] for r in done}]
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool, args.results.open("a") as file:
        for row in pool.imap_unordered(attempt, missing):
            print(json.dumps(row), file=file, flush=True)
    if args.fit:
        print(json.dumps(fit(_rows(args.results)), indent=1))
    return 0


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


if __name__ == "__main__":
    sys.exit(main())

"""Common parts of the benchmarks of whole registrations: list of pairs, error of a pair, rows that are kept, table.

A pair has an ``id``, a ``suite``, a ``family`` (where tables go by it), ``fixed`` and ``moving`` (paths from the list's
folder), ``landmarks_fixed`` and ``landmarks_moving`` (corresponding points, px; null where nothing overlaps).
A row is the result of a pair: ``id``, ``suite``, ``status``, ``reason``, ``seconds``, ``error`` (px; None where no
transform was found, or there is nothing to compare it with) and, under the store's ``KEY``, what registered it.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from tables import markdown_table

from rrl_register.config import __version__
from rrl_register.errors import InputError, UsageError
from rrl_register.geometry.displacement import Displacement, Transform
from rrl_register.raster.writer import check_output, write_json

Row = dict[str, Any]

AUC_LIMIT_PX = 10.0
NEGATIVE = "negative"
"""Suite of the pairs that do not overlap."""
ALL = "all"


def names(text: str) -> tuple[str, ...]:
    """Take apart a list with commas between."""
    return tuple(text.split(","))


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


def mean_error(matrix: ArrayLike | None, pair: Row, displacement: Displacement | None = None) -> float | None:
    """Mean distance, fixed px, of a pair's landmarks after a transform, (3, 3), moving -> fixed; None without both.

    A displacement, where the transform has one, is added to the matrix.
    """
    if matrix is None or not pair["landmarks_fixed"]:
        return None
    found = Transform(np.asarray(matrix, float), displacement).forward(np.array(pair["landmarks_moving"], float))
    return float(np.linalg.norm(found - np.array(pair["landmarks_fixed"]), axis=1).mean())


@dataclass
class Store:
    """Results so far, written to a file after each registration.

    Attributes:
        path: The file; None: nothing is kept.
        weights: Name of the product's weights.
        rows: One per pair and whatever registered it.
    """

    KEY: ClassVar[str]
    """Field of a row that names what registered the pair."""

    path: Path | None
    weights: str
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path | None, weights: str) -> Self:
        """Continue from a file, if there is one.

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
            store = cls(path, **{f.name: known[f.name] for f in fields(cls) if f.name != "path"})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} holds no results of this script: give another file") from error
        if store.weights != weights:
            raise InputError(f"{path} holds results of the weights {store.weights}, not {weights}: give another file")
        return store

    def row(self, name: str, pair: str) -> Row | None:
        """Return the row of a pair, None if there is none."""
        return next((r for r in self.rows if (r[self.KEY], r["id"]) == (name, pair)), None)

    def add(self, row: Row) -> None:
        """Keep a row and print it."""
        self.rows.append(row)
        self.save()
        outcome = row["reason"] or ("no points to compare" if row["error"] is None else f"{row['error']:.2f} px")
        print(f"{row[self.KEY]} {row['id']}: {row['status']}, {row['seconds']:.1f} s, {outcome}", file=sys.stderr)

    def save(self) -> None:
        """Write everything."""
        if self.path:
            known = {k: v for k, v in self.__dict__.items() if k != "path"}
            write_json(self.path, {"version": __version__, **known}, overwrite=True)


def results_table(rows: Sequence[Row], key: str, chosen: Sequence[str], limits: Sequence[int], by: str) -> str:
    """One line for each group and whatever registered it, and for all groups together.

    Args:
        rows: What became of the pairs.
        key: Field of a row that names what registered the pair; heads the column, too.
        chosen: What registered pairs, in the order of the lines.
        limits: Errors, px, below which a share is given.
        by: What groups the rows: ``suite`` or ``family``.
    """
    groups = [*dict.fromkeys(row[by] for row in rows), ALL]
    header = [by, key, "n", *(f"< {limit} px" for limit in limits), f"AUC@{AUC_LIMIT_PX:g}"]
    header += ["median px", "refused", f"silent > {AUC_LIMIT_PX:g} px", "negatives accepted", "median s"]
    lines = []
    for name in groups:
        for one in chosen:
            if group := [r for r in rows if r[key] == one and name in (r[by], ALL)]:
                lines.append([name, one, *_figures(group, limits)])
    return markdown_table(header, lines)


def _figures(rows: Sequence[Row], limits: Sequence[int]) -> list[str]:
    """Lay out the cells of a group of rows: pairs that overlap, then those that do not."""
    negative = [r["status"] == "ok" for r in rows if r["suite"] == NEGATIVE]
    errors = np.array([np.inf if r["error"] is None else r["error"] for r in rows if r["suite"] != NEGATIVE])
    seconds = f"{np.median([r['seconds'] for r in rows]):.1f}"
    accepted = f"{sum(negative)} of {len(negative)}" if negative else "-"
    if not len(errors):
        return [str(len(rows)), *["-"] * (len(limits) + 4), accepted, seconds]
    registered = errors[np.isfinite(errors)]
    return [
        str(len(rows)),
        *(f"{np.mean(errors < limit):.2f}" for limit in limits),
        f"{np.mean(1 - np.minimum(errors, AUC_LIMIT_PX) / AUC_LIMIT_PX):.3f}",
        f"{np.median(registered):.2f}" if len(registered) else "-",
        f"{1 - len(registered) / len(errors):.2f}",
        str(np.sum(registered > AUC_LIMIT_PX)),
        accepted,
        seconds,
    ]

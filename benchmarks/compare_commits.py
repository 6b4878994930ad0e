"""Comparison of two commits: one command with the package of each, by turns, as ratios.

python benchmarks/compare_commits.py BEFORE AFTER [--rounds N] [--repository DIR] -- ARGUMENTS OF PYTHON

    python benchmarks/compare_commits.py main HEAD -- -m rrl_register FIXED MOVING -o OUT.tif --overwrite
    python benchmarks/compare_commits.py main HEAD -- benchmarks/patch_fpr95.py PATCHES

Both commits are checked out into a temporary folder; the command runs in the current folder, so that a script of this
tree measures either package. Compared are seconds on the clock, processor seconds, peak memory, and the figures of the
command's last line, where that is a JSON object. Each ratio is AFTER / BEFORE, the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from resources import run_measured
from tables import markdown_table

REPOSITORY = Path(__file__).resolve().parents[1]
Figures = dict[str, float]


def main() -> None:
    """Read the arguments, run by turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commits", nargs=2, metavar="COMMIT", help="BEFORE and AFTER")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, metavar="DIR", help="default: this one")
    parser.add_argument("command", nargs="+", metavar="ARGUMENT", help="of Python, after --")
    arguments = parser.parse_args()
    try:
        print(compare(arguments.commits, arguments.command, arguments.rounds, arguments.repository))
    except subprocess.CalledProcessError as error:
        sys.exit(f"Error: {error}")


def compare(commits: Sequence[str], command: Sequence[str], rounds: int, repository: Path = REPOSITORY) -> str:
    """Run a command with both commits by turns, and lay out the figures.

    Raises:
        subprocess.CalledProcessError: If a commit is unknown, or the command fails.
    """
    found: list[list[Figures]] = [[], []]
    with tempfile.TemporaryDirectory() as folder, _checked_out(commits, Path(folder), repository) as trees:
        for _ in range(rounds):
            for tree, figures in zip(trees, found, strict=True):
                figures.append(run(command, tree))
    return report(*found)


@contextmanager
def _checked_out(commits: Sequence[str], folder: Path, repository: Path) -> Iterator[list[Path]]:
    """Both commits as work trees, which git forgets afterwards."""
    git = ("git", "-C", str(repository), "worktree")
    trees = [folder / f"{index}" for index in range(len(commits))]
    try:
        for commit, tree in zip(commits, trees, strict=True):
            subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        yield trees
    finally:
        for tree in trees:
            if tree.exists():
                subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def run(command: Sequence[str], tree: Path) -> Figures:
    """Run the command with the package of a work tree.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    if command[0].startswith("-"):  # for ``-m`` and ``-c`` Python looks in the current folder first
        environment["PYTHONSAFEPATH"] = "1"
    with tempfile.TemporaryFile("w+") as output:
        measured = run_measured([sys.executable, *command], stdout=output, environment=environment)
        if measured["exit_code"]:
            raise subprocess.CalledProcessError(measured["exit_code"], ["python", *command])
        output.seek(0)
        printed = output.read()
    return {**{key: measured[key] for key in ("seconds", "cpu_seconds", "peak_mib")}, **figures_in(printed)}


def figures_in(printed: str) -> Figures:
    """Return the numbers of the last line if it is a JSON object."""
    try:
        last = json.loads(printed.strip().rpartition("\n")[2])
    except json.JSONDecodeError:
        return {}
    if not isinstance(last, dict):
        return {}
    return {k: v for k, v in last.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def report(before: Sequence[Figures], after: Sequence[Figures]) -> str:
    """Lay out a row for each figure that every run printed."""
    rows = []
    for name in before[0]:
        pairs = [(b[name], a[name]) for b, a in zip(before, after, strict=True) if name in b and name in a]
        if len(pairs) < len(before):
            continue
        medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
        ratios = [a / b for b, a in pairs if b]
        rows.append([name, *(f"{m:.4g}" for m in medians), f"{statistics.median(ratios):.3f}" if ratios else "-"])
    return markdown_table(["figure", "before", "after", "ratio"], rows)


if __name__ == "__main__":
    main()

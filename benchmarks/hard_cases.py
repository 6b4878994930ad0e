"""Hard cases with known answers, made from pairs that the network was not trained on.

    python benchmarks/hard_cases.py DATA_DIR OUT_DIR [--per-kind N] [--seed S] [--kinds a,b]
    python benchmarks/pairs.py OUT_DIR/pairs.json --methods ours

DATA_DIR holds pairs.csv (``set``, ``id``, ``family``, ``vis``, ``other``, ``gsd_m``); the pairs that training keeps for
validation are used. Each is misregistered by a random transform, damaged according to its kind, and written to OUT_DIR;
the spectra alternate. The cases depend on the seed only. The kinds are the suites of OUT_DIR/pairs.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from case_maker.cases import plan_cases
from case_maker.difficulties import DIFFICULTIES
from case_maker.files import write_cases
from case_maker.sources import validation_scenes
from registrations import names

from rrl_register.errors import RegistrationError, UsageError


def main() -> None:
    """Read the arguments, write the cases, and print the path of their list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--per-kind", type=int, default=8, metavar="N", help="cases of each kind; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="random seed; default: %(default)s")
    parser.add_argument("--kinds", type=names, default=tuple(DIFFICULTIES), help="a comma between; default: all")
    arguments = parser.parse_args()
    try:
        print(_run(arguments))
    except RegistrationError as error:
        sys.exit(f"Error: {error}")


def _run(arguments: argparse.Namespace) -> Path:
    if unknown := set(arguments.kinds) - set(DIFFICULTIES):
        raise UsageError(f"--kinds {', '.join(sorted(unknown))}: {', '.join(DIFFICULTIES)} are known")
    scenes = validation_scenes(arguments.data)
    return write_cases(arguments.out, plan_cases(scenes, arguments.per_kind, arguments.seed, arguments.kinds))


if __name__ == "__main__":
    main()

"""Where the seconds of one registration go, stage by stage, and the memory that it takes at its peak.

python benchmarks/stages.py FIXED MOVING [--threads N]

Runs in this process what ``rrl-register FIXED MOVING -o OUT.tif --device cpu`` does, in a temporary folder. With one
thread, processor seconds are counted, which other programs disturb less; else seconds on the clock. No stage contains
another.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

from resources import MAXRSS_PER_MIB
from tables import markdown_table

from rrl_register.errors import RegistrationError

TIMED_BY_THE_PROGRAM = ("load", "read", "prepare", "coarse", "estimate")
STAGES = {
    "import": "import the program and its libraries",
    "load": "load and prepare the network",
    "read": "read both images, find what they are",
    "prepare": "oriented gradients of the fixed image",
    "coarse": "first proposals by correlation",
    "detect": "find keypoints",
    "cut": "cut patches",
    "describe": "network: descriptors, for candidates",
    "score": "network: encode and score candidates",
    "refine": "places of keypoints by correlation, there and back",
    "estimate": "fit and judge",
    "write": "warp and write",
}


def main() -> None:
    """Read the arguments, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", type=Path, metavar="FIXED")
    parser.add_argument("moving", type=Path, metavar="MOVING")
    parser.add_argument("--threads", type=int, default=1, help="of the network; default: %(default)s")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    try:
        print(report(*measure(arguments.fixed, arguments.moving, arguments.threads, clock)))
    except RegistrationError as error:
        sys.exit(f"Error: {error}")


def measure(fixed: Path, moving: Path, threads: int, clock: Callable[[], float]) -> tuple[dict[str, float], float]:
    """Seconds by stage, and of the whole."""
    start = clock()
    from rrl_register.config import Device, MatchConfig, RegisterConfig
    from rrl_register.matching import onnx_scorer
    from rrl_register.pipeline import register
    from rrl_register.warping import warp_to_file

    seconds = {"import": clock() - start}
    # The program reads perf_counter for its own stages: they are to be told in the same seconds as the others.
    clocks, one = patch("time.perf_counter", clock), patch.object(onnx_scorer, "default_threads", lambda: threads)
    with clocks, one, watched(seconds, clock), tempfile.TemporaryDirectory() as folder:
        result = register(fixed, moving, RegisterConfig(match=MatchConfig(device=Device.CPU)))
        if result.matrix is not None:
            with timed(seconds, "write", clock):
                warp_to_file(
                    moving,
                    result.matrix,
                    result.fixed_grid,
                    Path(folder, "aligned.tif"),
                    displacement=result.displacement,
                )
    seconds |= {stage: result.seconds.get(stage, 0.0) for stage in TIMED_BY_THE_PROGRAM}
    return seconds, clock() - start


@contextmanager
def watched(seconds: dict[str, float], clock: Callable[[], float]) -> Iterator[None]:
    """Times what the program does not tell by itself."""
    from rrl_register.matching import guided
    from rrl_register.matching.onnx_scorer import OnnxScorer

    parts: dict[str, tuple[Any, str]] = {
        "detect": (guided, "detect"),
        "cut": (guided.PatchCutter, "cut"),
        "describe": (OnnxScorer, "describe"),
        "score": (OnnxScorer, "score"),
        "refine": (guided, "peaks_between"),
    }
    with ExitStack() as stack:
        for stage, (owner, name) in parts.items():
            stack.enter_context(patch.object(owner, name, _timing(getattr(owner, name), seconds, stage, clock)))
        yield


def _timing(
    function: Callable[..., Any], seconds: dict[str, float], stage: str, clock: Callable[[], float]
) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with timed(seconds, stage, clock):
            return function(*args, **kwargs)

    return call


@contextmanager
def timed(seconds: dict[str, float], stage: str, clock: Callable[[], float]) -> Iterator[None]:
    """Adds what runs inside to a stage."""
    start = clock()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + clock() - start


def report(seconds: dict[str, float], whole: float) -> str:
    """A row for each stage, and what is left."""
    named = {what: seconds.get(stage, 0.0) for stage, what in STAGES.items()}
    lines = {**named, "the rest": whole - sum(named.values()), "whole": whole}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_PER_MIB
    rows = [[what, f"{s:.2f}", f"{100 * s / whole:.1f}"] for what, s in lines.items()]
    return markdown_table(["stage", "seconds", "%"], rows) + f"\n\npeak memory {peak:.0f} MiB"


if __name__ == "__main__":
    main()

"""Seconds of one registration, stage by stage, and its peak memory.

python benchmarks/stages.py FIXED MOVING [--threads N] [--device auto|cpu|cuda] [--warm N]

Runs in this process what ``rrl-register FIXED MOVING -o OUT.tif`` does, in a temporary folder. With one thread on the
CPU, processor seconds are counted, which other programs disturb less; else seconds on the clock. No stage contains
another. ``--warm`` registers the pair so many times before: a long-lived program, as a batch is.
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
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from resources import MAXRSS_PER_MIB
from tables import markdown_table

from rrl_register.errors import RegistrationError

if TYPE_CHECKING:
    from rrl_register.config import RegisterConfig
    from rrl_register.nn.inference.load import LoadedScorer

TIMED_BY_THE_PROGRAM = ("load", "read", "prepare", "coarse", "estimate")
STAGES = {
    "import": "import the program and its libraries",
    "load": "load and prepare the network",
    "read": "read both images, detect their kinds",
    "prepare": "oriented gradients of the fixed image",
    "coarse": "coarse search",
    "detect": "find keypoints",
    "cut": "cut patches",
    "describe": "network: descriptors, for candidates",
    "encode": "network: encode patches of candidates",
    "score": "network: score candidates (integers: encode them, too)",
    "refine": "template matching, forward and backward",
    "estimate": "fit and test",
    "write": "warp and write",
}


def main() -> None:
    """Read the arguments, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", type=Path, metavar="FIXED")
    parser.add_argument("moving", type=Path, metavar="MOVING")
    parser.add_argument("--threads", type=int, default=1, help="of the network; default: %(default)s")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu", help="default: %(default)s")
    parser.add_argument("--warm", type=int, default=0, help="registrations before; default: %(default)s")
    arguments = parser.parse_args()
    by_processor = arguments.threads == 1 and arguments.device == "cpu"
    clock = time.process_time if by_processor else time.perf_counter
    try:
        print(report(*measure(arguments, clock)))
    except RegistrationError as error:
        sys.exit(f"Error: {error}")


def measure(arguments: argparse.Namespace, clock: Callable[[], float]) -> tuple[dict[str, float], float]:
    """Seconds by stage, and of the whole."""
    start = clock()
    from rrl_register.config import Device, MatchConfig, RegisterConfig
    from rrl_register.nn.inference import load as scorers
    from rrl_register.nn.inference import onnx_backend as onnx_scorer

    config = RegisterConfig(match=MatchConfig(device=Device(arguments.device)))
    if config.match.device is not Device.CPU:
        import torch

        torch.set_num_threads(arguments.threads)
    seconds = {"import": clock() - start}
    scorer = scorers.load_scorer(None, config.match.device, arguments.threads) if arguments.warm else None
    for _ in range(arguments.warm):
        seconds = {}
        _register(arguments, config, scorer, {}, clock)
    # The program reads perf_counter for its own stages: they have to be in the same seconds as the others.
    start = clock() if arguments.warm else start
    threads = patch.object(onnx_scorer, "usable_cores", lambda: arguments.threads)
    with patch("time.perf_counter", clock), threads, watched(seconds, clock, config.match.device is Device.CPU):
        _register(arguments, config, scorer, seconds, clock)
    return seconds, clock() - start


def _register(
    arguments: argparse.Namespace,
    config: RegisterConfig,
    scorer: LoadedScorer | None,
    seconds: dict[str, float],
    clock: Callable[[], float],
) -> None:
    """Register and warp once; add the seconds of each stage."""
    from rrl_register.pipeline.register import register
    from rrl_register.warping.warp import warp_to_file

    result = register(arguments.fixed, arguments.moving, config, scorer=scorer)
    with tempfile.TemporaryDirectory() as folder, timed(seconds, "write", clock):
        if result.matrix is not None:
            warp_to_file(
                arguments.moving,
                result.matrix,
                result.fixed_grid,
                Path(folder, "aligned.tif"),
                displacement=result.displacement,
            )
    seconds |= {stage: result.seconds.get(stage, 0.0) for stage in TIMED_BY_THE_PROGRAM}


@contextmanager
def watched(seconds: dict[str, float], clock: Callable[[], float], integers: bool = True) -> Iterator[None]:
    """Time the stages that the program does not report by itself, the network's among them."""
    from rrl_register.matching import guided_matching as guided

    parts: dict[str, tuple[Any, str]] = {
        "detect": (guided, "detect"),
        "cut": (guided.PatchCutter, "cut"),
        "refine": (guided, "peaks_between"),
    }
    if integers:
        from rrl_register.nn.inference.onnx_backend import OnnxScorer

        parts |= {name: (OnnxScorer, name) for name in ("describe", "score")}
    else:
        from rrl_register.nn.rrlnet import RRLNet

        parts |= {name: (RRLNet, name) for name in ("describe", "encode", "score")}
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
    """Add what runs inside to a stage."""
    start = clock()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + clock() - start


def report(seconds: dict[str, float], whole: float) -> str:
    """Lay out a row for each stage, and the rest."""
    named = {what: seconds.get(stage, 0.0) for stage, what in STAGES.items()}
    lines = {**named, "the rest": whole - sum(named.values()), "whole": whole}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_PER_MIB
    rows = [[what, f"{s:.2f}", f"{100 * s / whole:.1f}"] for what, s in lines.items()]
    return markdown_table(["stage", "seconds", "%"], rows) + f"\n\npeak memory {peak:.0f} MiB"


if __name__ == "__main__":
    main()

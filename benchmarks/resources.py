"""Seconds and memory that one registration takes, from the start of the program to the written GeoTIFF.

python benchmarks/resources.py FIXED MOVING [-o OUT] [-- OPTIONS OF rrl-register]

Prints one line of JSON: wall and processor seconds, peak resident memory (MiB) of the process, its exit code, the
cores it could use. Without -o the GeoTIFF is written to a temporary folder. Exits as rrl-register did.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

MAXRSS_PER_MIB = 1024 * (1024 if sys.platform == "darwin" else 1)
"""``ru_maxrss`` counts bytes on macOS, KiB elsewhere."""


def main() -> None:
    """Read the arguments, run the program, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", type=Path, metavar="FIXED")
    parser.add_argument("moving", type=Path, metavar="MOVING")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="keep the GeoTIFF here")
    parser.add_argument("options", nargs="*", help="options of rrl-register, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = arguments.output or Path(folder, "aligned.tif")
        result = measure(arguments.fixed, arguments.moving, output, arguments.options)
    print(json.dumps(result))
    sys.exit(result["exit_code"])


def measure(fixed: Path, moving: Path, output: Path, options: Sequence[str] = ()) -> dict[str, Any]:
    """Run ``rrl-register FIXED MOVING -o OUTPUT`` and measure it; what it prints goes to standard error."""
    command = [sys.executable, "-m", "rrl_register", str(fixed), str(moving), "-o", str(output), *options]
    return run_measured(command)


def run_measured(
    command: Sequence[str], stdout: IO[str] = sys.stderr, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a command and measure it; environment None: this process's."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=stdout, env=environment)
    # wait4 reports this process alone; RUSAGE_CHILDREN would mix in any other that was waited for.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(usage.ru_maxrss / MAXRSS_PER_MIB, 1),
        "exit_code": process.returncode,
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
    }


if __name__ == "__main__":
    main()

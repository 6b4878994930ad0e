"""A hundred mutated files end as files of strangers should: read, or refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FUZZER = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the fuzzer forks")
@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_end_in_one_line(seed: int) -> None:
    words = [sys.executable, str(FUZZER), "--cases", "25", "--seed", str(seed)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " fault" in done.stdout

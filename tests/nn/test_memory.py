"""Memory that is freed and allocated again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from rrl_register.nn.runtime import keep_freed_memory

def allocate():
    for _ in range(5):
        np.ones(8 << 20)  # 64 MiB, freed at once

kept = keep_freed_memory() if sys.argv[1] == "keep" else False
allocate()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
allocate()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> tuple[bool, int]:
    """Whether the allocator took the settings, and the page faults of allocating the same memory again."""
    done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, check=True, text=True)
    kept, faults = map(int, done.stdout.split())
    return bool(kept), faults


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")
def test_freed_memory_is_used_again_without_a_page_fault() -> None:
    kept, faults = page_faults("keep")
    assert kept
    assert faults * 10 < page_faults("leave")[1]

"""The network that is loaded meanwhile: the same answers, and the same errors, only later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rrl_register.config import Device
from rrl_register.errors import InputError
from rrl_register.nn.inference.load import LazyScorer, load_scorer
from rrl_register.nn.patches import Spectrum
from rrl_register.pipeline.register import StageClock


def test_it_answers_as_the_network_does() -> None:
    patches = np.random.default_rng(3).random((3, 1, 64, 64), dtype=np.float32)
    index = np.arange(3)
    late, network = LazyScorer(None, Device.CPU, StageClock()), load_scorer(None, Device.CPU)
    np.testing.assert_array_equal(
        late.score(patches, patches, index, index), network.score(patches, patches, index, index)
    )
    np.testing.assert_array_equal(late.describe(patches, Spectrum.OTHER), network.describe(patches, Spectrum.OTHER))
    assert late.loaded.name == network.name


def test_what_is_wrong_with_the_weights_is_raised_when_they_are_needed(tmp_path: Path) -> None:
    clock = StageClock()
    late = LazyScorer(tmp_path / "none.safetensors", Device.CPU, clock)
    with pytest.raises(InputError, match="no weights at"):
        late.describe(np.zeros((1, 1, 64, 64), np.float32), Spectrum.VISIBLE)
    assert "load" in clock.seconds


def test_the_images_can_be_read_before_torch_is_there() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, rrl_register.pipeline.register; sys.exit('torch' in sys.modules)"],
        check=False,
    )
    assert done.returncode == 0

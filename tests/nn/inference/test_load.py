"""The form that the network runs in; a registration on the CPU needs no PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rrl_register.config import Device
from rrl_register.errors import InputError, UsageError
from rrl_register.nn.inference import load as scorers
from rrl_register.nn.inference.load import has_gpu_driver, load_scorer
from rrl_register.nn.inference.onnx_backend import INTEGERS, OnnxScorer
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.nn.weights import SHIPPED

WEIGHTS = Path(scorers.__file__).parents[1] / "weights" / SHIPPED
REGISTER = """
import sys
from rrl_register.cli import main
try:
    main(sys.argv[1:])
finally:
    print("torch" in sys.modules, "onnxruntime" in sys.modules)
"""


@pytest.mark.parametrize(
    ("device", "driver", "seen", "form"),
    [
        (Device.CPU, False, False, OnnxScorer),
        (Device.CPU, True, True, OnnxScorer),
        (Device.AUTO, False, True, OnnxScorer),
        (Device.AUTO, True, False, OnnxScorer),
    ],
)
def test_the_cpu_takes_integers(
    monkeypatch: pytest.MonkeyPatch, device: Device, driver: bool, seen: bool, form: type
) -> None:
    monkeypatch.setattr(scorers, "has_gpu_driver", lambda: driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
    assert isinstance(load_scorer(None, device), form)


@pytest.mark.parametrize("device", [Device.AUTO, Device.CUDA])
def test_a_gpu_takes_pytorch(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    monkeypatch.setattr(scorers, "has_gpu_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("rrl_register.nn.inference.torch_backend.Scorer", lambda *given: given)
    assert load_scorer(None, device) == (None, device)


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device auto or cpu"):
        load_scorer(None, Device.CUDA)


def test_other_weights_take_pytorch_and_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    assert isinstance(load_scorer(WEIGHTS, Device.CPU, threads=1), Scorer)
    assert asked == [1]


def test_without_onnx_runtime_pytorch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorers, "find_spec", lambda name: None)
    assert isinstance(load_scorer(None, Device.CPU), Scorer)


def test_quantised_weights_of_ones_own_run_by_onnx_runtime(tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    own.write_bytes((WEIGHTS.parent / INTEGERS).read_bytes())
    scorer = load_scorer(own, Device.AUTO)
    assert isinstance(scorer, OnnxScorer)
    assert scorer.name == load_scorer(None, Device.CPU).name
    with pytest.raises(UsageError, match="runs on the CPU alone"):
        load_scorer(own, Device.CUDA)
    with pytest.raises(InputError, match="cannot be run"):
        load_scorer(tmp_path / "none.onnx", Device.CPU)


def test_a_driver_is_found_by_its_files_or_its_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scorers, "NVIDIA_DRIVER", (tmp_path / "version",))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not has_gpu_driver()
    (tmp_path / "version").touch()
    assert has_gpu_driver()
    (tmp_path / "version").unlink()
    program = tmp_path / ("nvidia-smi.exe" if sys.platform == "win32" else "nvidia-smi")
    program.touch(0o755)
    assert has_gpu_driver()


def test_where_pytorch_sees_a_gpu_there_is_a_driver() -> None:
    assert has_gpu_driver() or not torch.cuda.is_available()


def test_a_registration_on_the_cpu_does_without_pytorch(samples: Path, tmp_path: Path) -> None:
    images = [str(samples / f"rgb_nir_{part}.tif") for part in ("fixed", "moving")]
    command = [sys.executable, "-c", REGISTER, *images, "-o", str(tmp_path / "out.tif"), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["False", "True"]

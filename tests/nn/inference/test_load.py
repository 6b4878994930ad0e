"""Which form the network runs in, and that a registration on the CPU needs no PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rrl_register.config import Device
from rrl_register.errors import UsageError
from rrl_register.nn.inference import load as scorers
from rrl_register.nn.inference.load import cuda_devices, load_scorer
from rrl_register.nn.inference.onnx_backend import OnnxScorer
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
    ("device", "gpus", "seen", "form"),
    [
        (Device.CPU, 0, False, OnnxScorer),
        (Device.CPU, 1, True, OnnxScorer),
        (Device.AUTO, 0, True, OnnxScorer),
        (Device.AUTO, 1, False, OnnxScorer),
    ],
)
def test_the_cpu_takes_integers(
    monkeypatch: pytest.MonkeyPatch, device: Device, gpus: int, seen: bool, form: type
) -> None:
    monkeypatch.setattr(scorers, "cuda_devices", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
    assert isinstance(load_scorer(None, device), form)


@pytest.mark.parametrize("device", [Device.AUTO, Device.CUDA])
def test_a_gpu_takes_pytorch(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    monkeypatch.setattr(scorers, "cuda_devices", lambda: 1)
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


def test_gpus_are_counted_as_pytorch_counts_them() -> None:
    assert cuda_devices() >= torch.cuda.device_count()


def test_no_driver_means_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(scorers.ctypes, "CDLL", missing)
    assert cuda_devices() == 0


@pytest.mark.parametrize("initialised", [0, 100])
def test_a_driver_without_gpus_means_no_gpu(monkeypatch: pytest.MonkeyPatch, initialised: int) -> None:
    class Driver:
        def cuInit(self, flags: int) -> int:
            return initialised

        def cuDeviceGetCount(self, count: object) -> int:
            count._obj.value = 0 if initialised == 0 else 7
            return 0

    monkeypatch.setattr(scorers.ctypes, "CDLL", lambda name: Driver())
    assert cuda_devices() == 0


def test_a_registration_on_the_cpu_does_without_pytorch(samples: Path, tmp_path: Path) -> None:
    images = [str(samples / f"rgb_nir_{part}.tif") for part in ("fixed", "moving")]
    command = [sys.executable, "-c", REGISTER, *images, "-o", str(tmp_path / "out.tif"), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["False", "True"]

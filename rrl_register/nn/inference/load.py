"""Which of its forms the network runs in: integers by ONNX Runtime where that serves, else PyTorch.

PyTorch alone takes seconds to import, and a registration on the CPU needs it for nothing else.
"""

from __future__ import annotations

import ctypes
import sys
from importlib.util import find_spec
from pathlib import Path

from rrl_register.config import Device
from rrl_register.nn.inference import LoadedScorer


def load_scorer(weights: Path | None, device: Device, threads: int | None = None) -> LoadedScorer:
    """The network in the fastest form for a device.

    Args:
        weights: Weights file; None: those shipped, the only ones that there are integers of.
        device: Where to run.
        threads: At most, on the CPU; None: as many as there are cores.

    Raises:
        UsageError: If a GPU is asked for and there is none.
        InputError: If the weights cannot be used.
    """
    if weights is None and find_spec("onnxruntime") and not _takes_gpu(device):
        from rrl_register.nn.inference.onnx_backend import OnnxScorer

        return OnnxScorer(threads)
    import torch

    from rrl_register.nn.inference.torch_backend import Scorer

    if threads is not None:
        torch.set_num_threads(min(threads, torch.get_num_threads()))
    return Scorer(weights, device)


def _takes_gpu(device: Device) -> bool:
    """Whether a network would run on a GPU, or ought to; PyTorch is asked only where there is one."""
    if device is not Device.AUTO:
        return device is Device.CUDA
    if not cuda_devices():
        return False
    import torch

    return torch.cuda.is_available()


def cuda_devices() -> int:
    """GPUs that CUDA's driver sees; 0 where there is no driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value

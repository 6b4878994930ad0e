"""Load the network, and choose what runs it: 8-bit integers by ONNX Runtime on the CPU, else PyTorch.

PyTorch alone takes seconds to import, and a registration on the CPU needs it for nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import Device
from rrl_register.errors import UsageError
from rrl_register.geometry.arrays import Indices, Patches
from rrl_register.nn.patches import Spectrum

NVIDIA_DRIVER = tuple(
    map(Path, ("/proc/driver/nvidia/version", "/usr/lib/wsl/lib/libcuda.so.1", "/etc/nv_tegra_release"))
)
"""Files of NVIDIA's driver on Linux, in Windows' subsystem for Linux, and on Jetson boards."""


class PatchScorer(Protocol):
    """The network as matching uses it: it describes patches and scores pairs of them."""

    def describe(self, patches: Patches, spectrum: Spectrum) -> NDArray[np.float32]:
        """Return unit descriptors ``(N, D)`` of patches."""

    def score(self, visible: Patches, other: Patches, left: Indices, right: Indices) -> NDArray[np.float32]:
        """Return probabilities that the pairs (visible ``left``, other ``right``) match."""


class LoadedScorer(PatchScorer, Protocol):
    """A scorer whose weights are loaded.

    Attributes:
        name: Name of the weights.
    """

    name: str

    @property
    def device(self) -> object:
        """Device that it runs on; ``str`` of it is the name."""


def load_scorer(weights: Path | None, device: Device, threads: int | None = None) -> LoadedScorer:
    """Load the network in the fastest form for a device.

    Args:
        weights: A ``.safetensors`` file, or an ``.onnx`` file of ``pipelines/quantise_rrlnet.py``; None: those shipped,
            which exist in both forms.
        device: Device to run on.
        threads: At most, on the CPU; None: as many as there are cores.

    Raises:
        UsageError: If a GPU is requested and there is none, or ``.onnx`` weights are to run on it.
        InputError: If the weights cannot be used.
    """
    quantised = weights is not None and weights.suffix.lower() == ".onnx"
    if quantised and device is Device.CUDA:
        raise UsageError(f"{weights} runs on the CPU alone: give .safetensors weights, or --device cpu")
    if quantised or (weights is None and find_spec("onnxruntime") and not _takes_gpu(device)):
        from rrl_register.nn.inference.onnx_backend import OnnxScorer

        return OnnxScorer(threads, weights)
    import torch

    from rrl_register.nn.inference.torch_backend import Scorer

    if threads is not None:
        torch.set_num_threads(min(threads, torch.get_num_threads()))
    return Scorer(weights, device)


def _takes_gpu(device: Device) -> bool:
    """Return whether the network runs on a GPU; PyTorch is imported only if a driver is there."""
    if device is not Device.AUTO:
        return device is Device.CUDA
    if not has_gpu_driver():
        return False
    import torch

    return torch.cuda.is_available()


def has_gpu_driver() -> bool:
    """Return whether a driver of NVIDIA is installed: without one, PyTorch finds no GPU."""
    return any(path.exists() for path in NVIDIA_DRIVER) or shutil.which("nvidia-smi") is not None


class LazyScorer:
    """A scorer that loads in its own thread; the first use waits for it.

    Args:
        weights, device: As of ``load_scorer``; the first use raises its errors.
        stage: Times the wait, as stage ``load``.
    """

    def __init__(
        self, weights: Path | None, device: Device, stage: Callable[[str], AbstractContextManager[None]]
    ) -> None:
        pool = ThreadPoolExecutor(1, "load")
        self._loading = pool.submit(load_scorer, weights, device)
        self._stage = stage
        pool.shutdown(wait=False)

    @property
    def loaded(self) -> LoadedScorer:
        """The loaded scorer."""
        with self._stage("load"):
            return self._loading.result()

    def describe(self, patches: Patches, spectrum: Spectrum) -> NDArray[np.float32]:
        """Return descriptors, as ``PatchScorer.describe``."""
        return self.loaded.describe(patches, spectrum)

    def score(self, visible: Patches, other: Patches, left: Indices, right: Indices) -> NDArray[np.float32]:
        """Return probabilities, as ``PatchScorer.score``."""
        return self.loaded.score(visible, other, left, right)

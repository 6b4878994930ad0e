"""A network that is loaded while the images are read: PyTorch, where it is needed, takes seconds to import."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from rrl_register.config import Device
from rrl_register.geometry.arrays import Indices, Patches
from rrl_register.nn.encoder_choice import Spectrum

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rrl_register.nn.inference import LoadedScorer


class LazyScorer:
    """Stands in for a network that is loaded in a thread of its own, and waits for it when it is first needed.

    Args:
        weights, device: As of ``scorers.load_scorer``; what is wrong with them is raised when it is first needed.
        stage: Times the waiting, as ``load``.
    """

    def __init__(
        self, weights: Path | None, device: Device, stage: Callable[[str], AbstractContextManager[None]]
    ) -> None:
        pool = ThreadPoolExecutor(1, "load")
        self._loading = pool.submit(_load, weights, device)
        self._stage = stage
        pool.shutdown(wait=False)

    @property
    def loaded(self) -> LoadedScorer:
        """The network."""
        with self._stage("load"):
            return self._loading.result()

    def describe(self, patches: Patches, spectrum: Spectrum) -> NDArray[np.float32]:
        """As ``Scorer.describe``."""
        return self.loaded.describe(patches, spectrum)

    def score(self, visible: Patches, other: Patches, left: Indices, right: Indices) -> NDArray[np.float32]:
        """As ``Scorer.score``."""
        return self.loaded.score(visible, other, left, right)


def _load(weights: Path | None, device: Device) -> LoadedScorer:
    from rrl_register.nn.inference.load import load_scorer

    return load_scorer(weights, device)

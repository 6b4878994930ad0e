"""Load the network while the images are read: if PyTorch is needed, its import takes seconds."""

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
    """A scorer that loads in its own thread; the first use waits for it.

    Args:
        weights, device: As of ``load_scorer``; the first use raises its errors.
        stage: Times the wait, as stage ``load``.
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
        """The loaded scorer."""
        with self._stage("load"):
            return self._loading.result()

    def describe(self, patches: Patches, spectrum: Spectrum) -> NDArray[np.float32]:
        """Return descriptors, as ``PatchScorer.describe``."""
        return self.loaded.describe(patches, spectrum)

    def score(self, visible: Patches, other: Patches, left: Indices, right: Indices) -> NDArray[np.float32]:
        """Return probabilities, as ``PatchScorer.score``."""
        return self.loaded.score(visible, other, left, right)


def _load(weights: Path | None, device: Device) -> LoadedScorer:
    from rrl_register.nn.inference.load import load_scorer

    return load_scorer(weights, device)

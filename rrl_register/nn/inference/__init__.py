"""Inference: 8-bit integers by ONNX Runtime, or PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rrl_register.geometry.arrays import Indices, Patches
    from rrl_register.nn.encoder_choice import Spectrum


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

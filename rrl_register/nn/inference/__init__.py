"""Running the network: in integers by ONNX Runtime, or by PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rrl_register.geometry.arrays import Indices, Patches
    from rrl_register.nn.encoder_choice import Spectrum


class PatchScorer(Protocol):
    """The network as matching uses it."""

    def describe(self, patches: Patches, spectrum: Spectrum) -> NDArray[np.float32]:
        """Return unit descriptors ``(N, D)`` of patches."""

    def score(self, visible: Patches, other: Patches, left: Indices, right: Indices) -> NDArray[np.float32]:
        """Return probabilities that the pairs (visible ``left``, other ``right``) match."""


class LoadedScorer(PatchScorer, Protocol):
    """A network that is ready.

    Attributes:
        name: Of its weights.
    """

    name: str

    @property
    def device(self) -> object:
        """Where it runs; ``str`` of it names the device."""

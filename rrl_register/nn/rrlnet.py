"""RRL-Net, the relational representation learning network (arXiv 2403.11751), split into "per patch" and "per pair".

``encode`` computes all that depends on one patch alone (ALFE, FIL's halves, the descriptor), once for all its pairs;
``score`` computes the rest of a pair (FIL's products, aggregation, metric network).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rrl_register.nn.architecture import PAPER, Architecture
from rrl_register.nn.encoder import ALFE, PATCH_SIZE, Decoder, DescriptorHead, dense_head
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.relation import Aggregation, Gated, HeadLogits, MLPPHeads, Plain, feature_gate, interact, private


@dataclass(frozen=True)
class PatchFeatures:
    """Features of ``N`` patches of one spectrum.

    Attributes:
        spectrum: The encoder used.
        stages: Input of each stage's interaction: feature and gate, or the feature alone, ``(N, C, H, W)``.
        descriptors: Unit vectors, ``(N, 128)``, single precision.
        last_stage: ALFE's last stage ``(N, 256, 4, 4)``, the decoder's input.
    """

    spectrum: Spectrum
    stages: tuple[Gated | Plain, ...]
    descriptors: Tensor
    last_stage: Tensor

    def __len__(self) -> int:
        return len(self.descriptors)

    def __getitem__(self, index: Tensor | slice) -> PatchFeatures:
        """Select patches, in the order of ``index``."""
        stages = tuple(stage.gather(index) for stage in self.stages)
        return PatchFeatures(self.spectrum, stages, self.descriptors[index], self.last_stage[index])


class SpectrumBranch(nn.Module):
    """The modules of one spectrum: encoder, FIL gates, descriptor head and, in training, the decoder."""

    def __init__(self, training_heads: bool, architecture: Architecture) -> None:
        super().__init__()
        attention, channels = architecture.attention, architecture.channels
        self.encoder = ALFE(attention, channels)
        self.gates = nn.ModuleList(feature_gate(architecture.interaction, c) for c in channels)
        self.descriptor = DescriptorHead(channels=channels[-1])
        self.decoder = Decoder(attention, channels) if training_heads else None


class RRLNet(nn.Module):
    """The whole network.

    Args:
        training_heads: Build the MLPP heads and the decoders, which inference does without.
        architecture: Width, attention and interaction. Shapes of features are given for the paper's width.
    """

    def __init__(self, training_heads: bool = True, architecture: Architecture = PAPER) -> None:
        super().__init__()
        self.architecture = architecture
        channels = architecture.channels
        self.branches = nn.ModuleDict({s.value: SpectrumBranch(training_heads, architecture) for s in Spectrum})
        self.aggregation = Aggregation(channels)
        self.metric = dense_head(2 * channels[-1])
        self.heads = MLPPHeads(channels) if training_heads else None

    def branch(self, spectrum: Spectrum) -> SpectrumBranch:
        """Return the modules of one spectrum."""
        module = self.branches[spectrum.value]
        assert isinstance(module, SpectrumBranch)
        return module

    def describe(self, patches: Tensor, spectrum: Spectrum) -> Tensor:
        """Turn patches ``(N, 1, 64, 64)`` in [0, 1] into unit descriptors ``(N, 128)``.

        Raises:
            ValueError: If the patches have another shape.
        """
        branch = self.branch(spectrum)
        descriptors: Tensor = branch.descriptor(branch.encoder(self._input(patches))[-1])
        return descriptors

    def encode(self, patches: Tensor, spectrum: Spectrum) -> PatchFeatures:
        """Compute all that depends on one patch alone.

        Args:
            patches: ``(N, 1, 64, 64)``, values in [0, 1].
            spectrum: The encoder to use.

        Raises:
            ValueError: If the patches have another shape.
        """
        branch = self.branch(spectrum)
        stages = branch.encoder(self._input(patches))
        gated = tuple(gate(stage) for gate, stage in zip(branch.gates, stages, strict=True))
        return PatchFeatures(spectrum, gated, branch.descriptor(stages[-1]), stages[-1])

    def score(
        self, visible: PatchFeatures, other: PatchFeatures, left: Tensor | None = None, right: Tensor | None = None
    ) -> Tensor:
        """Return the probabilities ``(N,)`` that pairs of patches show the same place.

        Args:
            visible: Features of the visible patches.
            other: Features of the others.
            left: Indices ``(N,)`` into ``visible``; None: all of them, in their order.
            right: Indices ``(N,)`` into ``other``; None: all of them, in their order.

        Raises:
            ValueError: If the spectra are not (visible, other), or the lengths differ.
        """
        return torch.sigmoid(self.logits(visible, other, left, right))

    def logits(
        self, visible: PatchFeatures, other: PatchFeatures, left: Tensor | None = None, right: Tensor | None = None
    ) -> Tensor:
        """Return the logits ``(N,)`` of ``score``, single precision.

        Only one of the five stages is held for all pairs at a time, because the first ones are large.
        """
        for aggregated in self.aggregation(private(a, b) for a, b in _pairs(visible, other, left, right)):
            last = aggregated
        logits: Tensor = self.metric(last)
        return logits[:, 0].float()

    def training_logits(self, visible: PatchFeatures, other: PatchFeatures) -> tuple[Tensor, HeadLogits]:
        """Return the network's logits and those of the MLPP heads.

        Raises:
            RuntimeError: If the network has no heads.
        """
        if self.heads is None:
            raise RuntimeError("the network has no MLPP heads: build RRLNet(training_heads=True) to train")
        interactions = [interact(a, b) for a, b in _pairs(visible, other)]
        aggregated = list(self.aggregation(interactions))
        return self.metric(aggregated[-1])[:, 0].float(), self.heads(aggregated, interactions)

    def reconstruct(self, features: PatchFeatures) -> Tensor:
        """Rebuild encoded patches ``(N, 1, 64, 64)`` by the decoder.

        Raises:
            RuntimeError: If the network has no decoders.
        """
        decoder = self.branch(features.spectrum).decoder
        if decoder is None:
            raise RuntimeError("the network has no decoders: build RRLNet(training_heads=True) to train")
        rebuilt: Tensor = decoder(features.last_stage)
        return rebuilt

    def on(self, device: torch.device, dtype: torch.dtype | None = None) -> RRLNet:
        """Move the network to a device, in place, channels-last.

        Args:
            device: To compute on.
            dtype: To compute in, for inference; None: left as it is.
        """
        self.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def _input(self, patches: Tensor) -> Tensor:
        """Return standardised patches in the format of the weights."""
        if patches.ndim != 4 or patches.shape[1:] != (1, PATCH_SIZE, PATCH_SIZE):
            raise ValueError(f"patches of shape {tuple(patches.shape)}, (N, 1, {PATCH_SIZE}, {PATCH_SIZE}) needed")
        return standardise(patches).to(next(self.parameters()).dtype)


def standardise(patches: Tensor) -> Tensor:
    """Scale each patch to mean 0 and standard deviation 1 (a flat one stays near 0), channels-last."""
    std, mean = torch.std_mean(patches.float(), dim=(1, 2, 3), keepdim=True, correction=0)
    return ((patches - mean) / (std + 1e-2)).contiguous(memory_format=torch.channels_last)


def _pairs(
    visible: PatchFeatures, other: PatchFeatures, left: Tensor | None = None, right: Tensor | None = None
) -> Iterator[tuple[Gated | Plain, Gated | Plain]]:
    """Yield the features of both patches of the pairs, stage by stage."""
    if (visible.spectrum, other.spectrum) != (Spectrum.VISIBLE, Spectrum.OTHER):
        raise ValueError(f"features of ({visible.spectrum}, {other.spectrum}), (visible, other) needed in this order")
    # shape[0] and not len(): exporters trace the former, and take the latter for a constant.
    n_left, n_right = ((f.descriptors if i is None else i).shape[0] for f, i in ((visible, left), (other, right)))
    if n_left != n_right:
        raise ValueError(f"features of {n_left} visible and {n_right} other patches, pairs of them needed")
    for a, b in zip(visible.stages, other.stages, strict=True):
        yield a if left is None else a.gather(left), b if right is None else b.gather(right)

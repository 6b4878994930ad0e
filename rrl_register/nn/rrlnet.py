"""RRL-Net, the relational representation learning network (arXiv 2403.11751), split into "per patch" and "per pair".

``encode`` does all that depends on one patch alone (ALFE, FIL's halves, the descriptor) and its result can be kept;
``score`` does what is left for a pair (FIL's products, aggregation, metric network).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rrl_register.nn.aggregation import Aggregation, HeadLogits, MLPPHeads
from rrl_register.nn.alfe import ALFE, DescriptorHead
from rrl_register.nn.architecture import PAPER, Architecture
from rrl_register.nn.blocks import PATCH_SIZE, dense_head
from rrl_register.nn.decoder import Decoder
from rrl_register.nn.encoder_choice import Spectrum
from rrl_register.nn.interaction import Gated, Plain, feature_gate, interact, private


@dataclass(frozen=True)
class PatchFeatures:
    """What the network knows of ``N`` patches of one spectrum.

    Attributes:
        spectrum: The encoder they went through.
        stages: What each stage's interaction needs: feature and gate, or the feature alone, ``(N, C, H, W)``.
        descriptors: Unit vectors, ``(N, 128)``, single precision.
        last_stage: ALFE's last stage ``(N, 256, 4, 4)``, which the decoder rebuilds the patch from.
    """

    spectrum: Spectrum
    stages: tuple[Gated | Plain, ...]
    descriptors: Tensor
    last_stage: Tensor

    def __len__(self) -> int:
        return len(self.descriptors)

    def __getitem__(self, index: Tensor | slice) -> PatchFeatures:
        """The features of some of the patches, in the order of ``index``."""
        stages = tuple(stage.picked(index) for stage in self.stages)
        return PatchFeatures(self.spectrum, stages, self.descriptors[index], self.last_stage[index])


class SpectrumBranch(nn.Module):
    """All that one spectrum has for itself: encoder, FIL gates, descriptor head and, in training, the decoder."""

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
        training_heads: Build the MLPP heads and the decoders too. Weights for inference have none of them.
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
        """The modules of one spectrum."""
        module = self.branches[spectrum.value]
        assert isinstance(module, SpectrumBranch)
        return module

    def describe(self, patches: Tensor, spectrum: Spectrum) -> Tensor:
        """Descriptors only: ``(N, 1, 64, 64)`` in [0, 1] -> unit vectors ``(N, 128)``.

        Raises:
            ValueError: If the patches have another shape.
        """
        branch = self.branch(spectrum)
        descriptors: Tensor = branch.descriptor(branch.encoder(self._input(patches))[-1])
        return descriptors

    def encode(self, patches: Tensor, spectrum: Spectrum) -> PatchFeatures:
        """Everything that depends on one patch alone.

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
        self,
        visible: PatchFeatures,
        other: PatchFeatures,
        left: Tensor | None = None,
        right: Tensor | None = None,
    ) -> Tensor:
        """Probabilities ``(N,)`` that pairs of patches show the same place.

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
        self,
        visible: PatchFeatures,
        other: PatchFeatures,
        left: Tensor | None = None,
        right: Tensor | None = None,
    ) -> Tensor:
        """What ``score`` puts through its sigmoid, ``(N,)``, single precision.

        Of the five stages only one is held for all pairs at a time: the first ones are large.
        """
        for aggregated in self.aggregation(private(a, b) for a, b in _pairs(visible, other, left, right)):
            last = aggregated
        logits: Tensor = self.metric(last)
        return logits[:, 0].float()

    def training_logits(self, visible: PatchFeatures, other: PatchFeatures) -> tuple[Tensor, HeadLogits]:
        """The network's logits and those of the MLPP heads.

        Raises:
            RuntimeError: If the heads have been pruned.
        """
        if self.heads is None:
            raise RuntimeError("the MLPP heads have been pruned: build RRLNet(training_heads=True) to train")
        interactions = [interact(a, b) for a, b in _pairs(visible, other)]
        aggregated = list(self.aggregation(interactions))
        return self.metric(aggregated[-1])[:, 0].float(), self.heads(aggregated, interactions)

    def reconstruct(self, features: PatchFeatures) -> Tensor:
        """The decoder's picture ``(N, 1, 64, 64)`` of encoded patches.

        Raises:
            RuntimeError: If the decoders have been pruned.
        """
        decoder = self.branch(features.spectrum).decoder
        if decoder is None:
            raise RuntimeError("the decoders have been pruned: build RRLNet(training_heads=True) to train")
        rebuilt: Tensor = decoder(features.last_stage)
        return rebuilt

    def on(self, device: torch.device, dtype: torch.dtype | None = None) -> RRLNet:
        """Moves the network to a device, in place, channels-last: the layout that its parts are written for.

        Args:
            device: To compute on.
            dtype: To compute in, for inference; None: left as it is.
        """
        self.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def _input(self, patches: Tensor) -> Tensor:
        """Standardised patches in the format of the weights."""
        first = next(self.parameters())
        return standardise(_checked(patches)).to(first.dtype)

    def prune(self) -> RRLNet:
        """Drops the MLPP heads and both decoders, in place; what ``encode`` and ``score`` return does not change."""
        self.heads = None
        for spectrum in Spectrum:
            self.branch(spectrum).decoder = None
        return self


def standardise(patches: Tensor) -> Tensor:
    """Each patch with its own mean 0 and standard deviation 1 (a flat patch stays near 0), channels-last."""
    std, mean = torch.std_mean(patches.float(), dim=(1, 2, 3), keepdim=True, correction=0)
    return ((patches - mean) / (std + 1e-2)).contiguous(memory_format=torch.channels_last)


def _checked(patches: Tensor) -> Tensor:
    if patches.ndim != 4 or patches.shape[1:] != (1, PATCH_SIZE, PATCH_SIZE):
        raise ValueError(f"patches of shape {tuple(patches.shape)}, (N, 1, {PATCH_SIZE}, {PATCH_SIZE}) needed")
    return patches


def _pairs(
    visible: PatchFeatures, other: PatchFeatures, left: Tensor | None = None, right: Tensor | None = None
) -> Iterator[tuple[Gated | Plain, Gated | Plain]]:
    """What is known of both patches of the pairs, stage by stage."""
    if (visible.spectrum, other.spectrum) != (Spectrum.VISIBLE, Spectrum.OTHER):
        raise ValueError(f"features of ({visible.spectrum}, {other.spectrum}), (visible, other) needed in this order")
    # shape[0] and not len(): what exports the network follows the one, and takes the other for a constant.
    n_left, n_right = ((f.descriptors if i is None else i).shape[0] for f, i in ((visible, left), (other, right)))
    if n_left != n_right:
        raise ValueError(f"features of {n_left} visible and {n_right} other patches, pairs of them needed")
    for a, b in zip(visible.stages, other.stages, strict=True):
        yield _picked(a, left), _picked(b, right)


def _picked(stage: Gated | Plain, index: Tensor | None) -> Gated | Plain:
    return stage if index is None else stage.picked(index)

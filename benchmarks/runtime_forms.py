"""The network as ONNX Runtime computes it on a CPU, in single precision and in the integers that are shipped."""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import dataclass
from importlib.resources import as_file
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rrl_register.nn.inference.onnx_backend import INTEGERS, SHIPPED, open_session
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.relation import Gated
from rrl_register.nn.rrlnet import PatchFeatures, RRLNet

OPSET = 18
Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class SinglePrecision:
    """Two graphs, that of both encoders and that of the relation, for a number of patches that is fixed.

    Attributes:
        encoders: From patches of both spectra to all that is kept of them.
        relation: From there to the probabilities of the pairs.
    """

    encoders: onnxruntime.InferenceSession
    relation: onnxruntime.InferenceSession

    @classmethod
    def of(cls, network: RRLNet, patches: Tensor, threads: int) -> SinglePrecision:
        """Export a network with folded batch norms for patches ``(2, N, 1, 64, 64)``."""
        encoders, relation = _Encoders(network), _Relation(network)
        kept = encoders(*patches)
        return cls(_session(encoders, tuple(patches), threads), _session(relation, kept, threads))

    def encode(self, patches: Tensor) -> Arrays:
        """All that is kept of the patches."""
        return _run(self.encoders, [each.numpy() for each in patches])

    def relate(self, kept: Arrays) -> NDArray[np.float32]:
        """Probabilities of the pairs."""
        return np.asarray(_run(self.relation, kept)[0])


@dataclass(frozen=True)
class Integers:
    """The integers that are shipped: one graph, which scores pairs, or of no pairs encodes the patches alone."""

    session: onnxruntime.InferenceSession

    @classmethod
    def shipped(cls, threads: int) -> Integers:
        """Open the file in the package."""
        with as_file(SHIPPED / INTEGERS) as path:
            return cls(open_session(path, threads))

    def encode(self, patches: Tensor) -> None:
        """Encode patches of both spectra."""
        self._run(patches, 0)

    def score(self, patches: Tensor) -> NDArray[np.float32]:
        """Encode patches of both spectra and score the pairs."""
        return self._run(patches, patches.shape[1])

    def _run(self, patches: Tensor, n_pairs: int) -> NDArray[np.float32]:
        visible, other = (each.numpy() for each in patches)
        row = np.arange(n_pairs)
        given = {"visible": visible, "other": other, "left": row, "right": row}
        return np.asarray(self.session.run(["probability"], given)[0])


class _Encoders(nn.Module):
    def __init__(self, network: RRLNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, visible: Tensor, other: Tensor) -> tuple[Tensor, ...]:
        kept: list[Tensor] = []
        for patches, spectrum in ((visible, Spectrum.VISIBLE), (other, Spectrum.OTHER)):
            features = self.network.encode(patches, spectrum)
            kept += [features.descriptors, *(each for stage in features.stages for each in stage)]
        return tuple(kept)


class _Relation(nn.Module):
    def __init__(self, network: RRLNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, *kept: Tensor) -> Tensor:
        half = len(kept) // 2
        return self.network.score(_features(kept[:half], Spectrum.VISIBLE), _features(kept[half:], Spectrum.OTHER))


def _features(kept: tuple[Tensor, ...], spectrum: Spectrum) -> PatchFeatures:
    descriptors, *maps = kept
    stages = tuple(Gated(feature, gate) for feature, gate in zip(maps[::2], maps[1::2], strict=True))
    return PatchFeatures(spectrum, stages, descriptors, maps[-2])


def _session(module: nn.Module, given: tuple[Tensor, ...], threads: int) -> onnxruntime.InferenceSession:
    file = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of packages that are not needed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(module.eval(), given, opset_version=OPSET, dynamo=True, verbose=False)
    assert program is not None
    program.save(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, given: Arrays) -> Arrays:
    names = [each.name for each in session.get_inputs()]
    made: Arrays = session.run(None, dict(zip(names, given, strict=True)))
    return made

"""RRL-Net in integers of 8 bits, for ONNX Runtime on a CPU: weights and maps in bytes, products summed exactly.

In bytes are all convolutions and what lies between them. In single precision are the gates of MGLA, whose softmaxes
weigh thousands of places, and the dense layers at the ends, which cost next to nothing.

The private features ``|f g - f|`` are written as ``|f| (1 - g)``, which is the same for gates between 0 and 1: a
product of two numbers that depend on one patch each and are not negative, so that a byte's levels all serve them.
``|f|`` of a LeakyReLU is a LeakyReLU of negative slope, and ``1 - g`` the sigmoid of the negated number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn

from rrl_register.errors import InputError
from rrl_register.nn.architecture import InteractionKind
from rrl_register.nn.blocks import LEAK, PATCH_SIZE, STAGE_SIZES
from rrl_register.nn.encoder_choice import Spectrum
from rrl_register.nn.integer_graph import Bytes, IntegerGraph
from rrl_register.nn.mgla import MGLA
from rrl_register.nn.ranges import Observed
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.steps import Step

NEIGHBOURS = 4
"""Pixels of a row that the first convolution takes for channels: of a single one it makes four times as slow a job."""
_LAST = len(STAGE_SIZES) - 1
Kept = tuple[Bytes, Bytes]
"""What is kept of patches at a stage: ``|f|`` and ``1 - g``."""


def integer_network(network: RRLNet, observed: Observed, notes: Mapping[str, str]) -> onnx.ModelProto:
    """Writes a network in integers.

    Its inputs are ``visible`` ``(N, 1, 64, 64)`` and ``other`` ``(M, 1, 64, 64)``, in [0, 1], ``left`` and ``right``
    ``(P,)``, the patches of each pair; its outputs ``probability`` ``(P,)``, ``visible_descriptor`` ``(N, 128)`` and
    ``other_descriptor`` ``(M, 128)``. There may be no pairs.

    Args:
        network: With folded batch norms.
        observed: What its maps are like, of ``ranges.observe``.
        notes: What the file is to say of itself.

    Raises:
        InputError: If the network has no attention, or compares patches by their difference.
    """
    architecture = network.architecture
    if not architecture.attention or architecture.interaction is not InteractionKind.FIL:
        raise InputError(
            "only networks with attention and feature interaction can be written in integers: give weights of such"
        )
    return _Writer(network, observed).written(notes)


class _Writer:
    def __init__(self, network: RRLNet, observed: Observed) -> None:
        self._network = network
        self._channels = network.architecture.channels
        self._observed = observed
        self._graph = IntegerGraph()

    def written(self, notes: Mapping[str, str]) -> onnx.ModelProto:
        visible, other = self._encoded(Spectrum.VISIBLE), self._encoded(Spectrum.OTHER)
        self._graph.output(self._probability(self._aggregated(visible, other)), "probability")
        patch = (1, PATCH_SIZE, PATCH_SIZE)
        patches = {"visible": ("n_visible", *patch), "other": ("n_other", *patch)}
        inputs: dict[str, tuple[int, Sequence[str | int]]] = {k: (TensorProto.FLOAT, v) for k, v in patches.items()}
        inputs.update(dict.fromkeys(("left", "right"), (TensorProto.INT64, ("n_pairs",))))
        width = self._network.branch(Spectrum.VISIBLE).descriptor.project.out_features
        outputs: dict[str, Sequence[str | int]] = {"probability": ("n_pairs",)}
        outputs.update({f"{k}_descriptor": (v[0], width) for k, v in patches.items()})
        return self._graph.model(inputs, outputs, notes)

    def _encoded(self, spectrum: Spectrum) -> list[Kept]:
        """What is kept of the patches of one spectrum, stage by stage; their descriptors become an output."""
        branch, kept = f"branches.{spectrum.value}", []
        x = self._first_convolution(spectrum)
        for stage, (channels, size) in enumerate(zip(self._channels, STAGE_SIZES, strict=True)):
            if stage:
                # What is largest stays so through a LeakyReLU, which has less to do afterwards.
                x = self._graph.halved(self._convolution(x, f"{branch}.encoder.convs.{stage}.0"))
            x = self._graph.leaky(x, LEAK)
            x = self._attended(x, f"{branch}.encoder.attentions.{stage}", channels, size)
            feature = self._convolution(x, f"{branch}.gates.{stage}.feature.0")
            closed = self._convolution(x, f"{branch}.gates.{stage}.gate.0", negated=True)
            kept.append((self._graph.leaky(feature, -LEAK), self._graph.sigmoid(closed)))
        self._describe(x, spectrum)
        return kept

    def _first_convolution(self, spectrum: Spectrum) -> Bytes:
        name, size, channels = f"branches.{spectrum.value}.encoder.convs.0.0", PATCH_SIZE, self._channels[0]
        patches = self._reshaped(self._standardised(spectrum.value), -1, size, size // NEIGHBOURS, NEIGHBOURS)
        weight, bias = self._parameters(name)
        made = self._graph.convolution(
            self._graph.quantised(patches, self._step("patches")),
            parallel_map(weight, NEIGHBOURS),
            np.tile(bias, NEIGHBOURS),
            np.tile(self._observed.means[name], NEIGHBOURS),
            self._step(name),
        )
        return Bytes(self._reshaped(made.name, -1, size, size, channels), made.step)

    def _standardised(self, patches: str) -> str:
        """As ``rrlnet.standardise``; ``(N, 4096)``."""
        graph, mean = self._graph, self._mean(PATCH_SIZE**2, 1)
        flat = self._reshaped(patches, -1, PATCH_SIZE**2)
        centred = graph.op("Sub", flat, graph.op("MatMul", flat, mean))
        spread = graph.op("Sqrt", graph.op("MatMul", graph.op("Mul", centred, centred), mean))
        return graph.op("Div", centred, graph.op("Add", spread, graph.constant(np.float32(1e-2))))

    def _convolution(self, x: Bytes, name: str, negated: bool = False) -> Bytes:
        """A convolution of the network, or its result with the sign turned."""
        (weight, bias), sign = self._parameters(name), -1 if negated else 1
        return self._graph.convolution(
            x, sign * weight, sign * bias, self._observed.means[name], self._step(name, negated)
        )

    def _attended(self, x: Bytes, name: str, channels: int, size: int) -> Bytes:
        """As ``mgla.MGLA``, by products of matrices, which read the map in place."""
        graph = self._graph
        attention = self._network.get_submodule(name)
        assert isinstance(attention, MGLA)
        last = graph.numbers(x)
        rows = self._reshaped(last, -1, size, size * channels)
        places = self._reshaped(last, -1, size**2, channels)
        over_channel = self._soft(graph.op("MatMul", places, self._mean(channels, 1)), 1, size**2)
        over_height = self._soft(graph.op("MatMul", self._mean(1, size), rows), size * channels, 1)
        over_width = self._soft(graph.op("MatMul", self._mean(1, size), last), size * channels)
        by_channel = graph.op("MatMul", over_channel, places)
        by_height = graph.op("MatMul", rows, over_height)
        by_row_and_width = graph.op("MatMul", last, self._reshaped(over_width, -1, size, channels, 1))
        by_width = graph.op("MatMul", self._ones(1, size), self._reshaped(by_row_and_width, -1, size, size))
        channel = self._gate(attention.local_channel, by_channel, channels)
        height = self._gate(attention.local_height, by_height, size)
        width = self._gate(attention.local_width, by_width, size)
        position = graph.op("MatMul", self._reshaped(height, -1, size, 1), width)
        gates = graph.op("MatMul", self._reshaped(position, -1, size**2, 1), channel)
        gated = self._reshaped(graph.op("Mul", places, gates), -1, size, size, channels)
        return graph.quantised(gated, self._step(name))

    def _soft(self, means: str, *shape: int) -> str:
        """Softmax over all means of a patch, then ``(N, *shape)``."""
        count = int(np.prod(shape))
        return self._reshaped(self._graph.op("Softmax", self._reshaped(means, -1, count), axis=1), -1, *shape)

    def _gate(self, local: nn.Conv1d, sums: str, length: int) -> str:
        """The gate of a dimension, ``(N, 1, length)``."""
        (width,) = local.kernel_size
        weight = self._graph.constant(_array(local.weight).astype(np.float32))
        summed = self._reshaped(sums, -1, 1, length)
        near = self._graph.op("Conv", summed, weight, kernel_shape=[width], pads=[width // 2] * 2)
        return self._graph.op("Sigmoid", near)

    def _describe(self, last_stage: Bytes, spectrum: Spectrum) -> None:
        """As ``alfe.DescriptorHead``, whose positions come first here, and channels within them."""
        graph, head = self._graph, self._network.branch(spectrum).descriptor
        reduced = graph.leaky(self._convolution(last_stage, f"branches.{spectrum.value}.descriptor.reduce.0"), LEAK)
        length, size = head.project.out_features, STAGE_SIZES[-1]
        weight = _array(head.project.weight).reshape(length, -1, size, size).transpose(2, 3, 1, 0).reshape(-1, length)
        projected = graph.op(
            "MatMul", self._reshaped(graph.numbers(reduced), -1, len(weight)), graph.halfs(np.asarray(weight))
        )
        norm = graph.op("ReduceL2", projected, graph.constant(np.array([1])), keepdims=1)
        unit = graph.op("Div", projected, graph.op("Max", norm, graph.constant(np.float32(1e-12))))
        graph.output(unit, f"{spectrum.value}_descriptor")

    def _aggregated(self, visible: Sequence[Kept], other: Sequence[Kept]) -> Bytes:
        """As ``aggregation.Aggregation``: the last stage of the pairs."""
        graph = self._graph
        carried: list[tuple[Bytes, int]] = []
        for stage, channels in enumerate(self._channels):
            # Of one zero with what is carried, so that they can lie side by side.
            zero = carried[0][0].step.zero if carried else 0
            step = Step.up_to(self._observed.ranges[f"private.{stage}"].high, zero)
            feature, closed = (graph.picked(each, "left") for each in visible[stage])
            other_feature, other_closed = (graph.picked(each, "right") for each in other[stage])
            alone = graph.product(feature, other_closed, step), graph.product(other_feature, closed, step)
            x = graph.joined([*carried, *((each, channels) for each in alone)])
            x = graph.leaky(self._convolution(x, f"aggregation.blocks.{stage}.0.0"), LEAK)
            x = self._convolution(x, f"aggregation.blocks.{stage}.1.0")
            carried = [(graph.leaky(x if stage == _LAST else graph.halved(x), LEAK), 2 * channels)]
        return carried[0][0]

    def _probability(self, last: Bytes) -> str:
        graph = self._graph
        x = graph.op("ReduceMean", graph.numbers(last), graph.constant(np.array([1, 2])), keepdims=0)
        dense = [layer for layer in self._network.metric if isinstance(layer, nn.Linear)]
        for layer in dense:
            x = graph.op("Gemm", x, graph.halfs(_array(layer.weight).T), graph.halfs(_array(layer.bias)))
            x = graph.op("Sigmoid" if layer is dense[-1] else "Relu", x)
        return self._reshaped(x, -1)

    def _parameters(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Weight and bias of a convolution, double precision."""
        module = self._network.get_submodule(name)
        assert isinstance(module, nn.Conv2d) and module.bias is not None, "batch norms are to be folded"
        return _array(module.weight), _array(module.bias)

    def _step(self, name: str, negated: bool = False) -> Step:
        found = self._observed.ranges[name]
        return Step.spanning(*(found.negated if negated else found))

    def _reshaped(self, tensor: str, *shape: int) -> str:
        return self._graph.op("Reshape", tensor, self._graph.constant(np.array(shape, np.int64)))

    def _mean(self, *shape: int) -> str:
        """A matrix that takes the mean."""
        return self._graph.constant(np.full(shape, 1 / np.prod(shape), np.float32))

    def _ones(self, *shape: int) -> str:
        return self._graph.constant(np.ones(shape, np.float32))


def parallel_map(weight: NDArray[Any], n: int) -> NDArray[Any]:
    """A convolution for maps of which ``n`` neighbours of a row are taken for channels of one place.

    Args:
        weight: ``(K, C, h, w)``, with ``w`` odd and at most ``2 n + 1``.
        n: How many.

    Returns:
        ``(n K, n C, h, 3)``; channels are in the order of the neighbours, and within each as they were.
    """
    outputs, inputs, height, width = weight.shape
    wide = np.zeros((n, outputs, n, inputs, height, 3), weight.dtype)
    reach = width // 2
    for place in range(n):
        for offset in range(-reach, reach + 1):
            group, neighbour = divmod(place + offset, n)
            wide[place, :, neighbour, :, :, group + 1] = weight[:, :, :, offset + reach]
    return wide.reshape(n * outputs, n * inputs, height, 3)


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.asarray(tensor.detach().double().numpy())

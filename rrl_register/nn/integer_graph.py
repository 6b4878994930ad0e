"""Writes computations in integers of 8 bits as ONNX, in the forms that ONNX Runtime computes fastest on a CPU.

Maps lie as ``(N, H, W, C)``, which its integer convolutions work on; of the operators named ``com.microsoft`` the ONNX
standard has none that take this layout, or it leaves them to chains of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rrl_register.nn.steps import LEVELS, Floats, Step

OPSET = 18
VENDOR = "com.microsoft"
WEIGHT_LIMIT = 64
"""Weights keep to 7 bits: processors without VNNI add products of neighbours in 16 bits, which 8 bits overflow."""


@dataclass(frozen=True)
class Bytes:
    """A tensor of the graph that is written in bytes."""

    name: str
    step: Step


class IntegerGraph:
    """A graph in the making; each method adds what it is named for and returns the tensor that comes out."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[bytes, str, tuple[int, ...]], onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Any operator with one output."""
        output = f"t{len(self._nodes)}"
        node = helper.make_node(kind, list(inputs), [output], name=f"n{len(self._nodes)}", domain=domain, **attributes)
        self._nodes.append(node)
        return output

    def output(self, tensor: str, name: str) -> None:
        """Makes a tensor an output of the graph."""
        self._nodes.append(helper.make_node("Identity", [tensor], [name]))

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        """A constant; the same one is written once."""
        array = np.asarray(value, order="C")
        key = array.tobytes(), str(array.dtype), array.shape
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"c{len(self._constants)}")
        return self._constants[key].name

    def halfs(self, array: Floats) -> str:
        """A constant of single precision that is stored in half."""
        return self.op("Cast", self.constant(array.astype(np.float16)), to=TensorProto.FLOAT)

    def quantised(self, tensor: str, step: Step) -> Bytes:
        """Numbers in bytes; those out of range become the nearest."""
        return Bytes(self.op("QuantizeLinear", tensor, *self._of_step(step)), step)

    def numbers(self, tensor: Bytes) -> str:
        """Bytes as numbers of single precision."""
        return self.op("DequantizeLinear", tensor.name, *self._of_step(tensor.step))

    def convolution(self, tensor: Bytes, weight: Floats, bias: Floats, mean: Floats, step: Step) -> Bytes:
        """A convolution that keeps the size.

        Rounding the weights moves the sums by what it adds to them where the input is as it is on average; the bias
        takes that back.

        Args:
            tensor: Its input; a scale of each channel is worked into the weights.
            weight: ``(K, C, h, w)``, odd sides.
            bias: ``(K,)``.
            mean: ``(C,)`` of the input.
            step: Of the output.
        """
        size = weight.shape[2:]
        factor = np.broadcast_to(tensor.step.scale, weight.shape[1]).reshape(1, -1, 1, 1)
        scaled = weight * factor
        scale = np.maximum(np.abs(scaled).max(axis=(1, 2, 3)), 1e-9) / WEIGHT_LIMIT
        integers = np.rint(scaled / scale.reshape(-1, 1, 1, 1)).astype(np.int8)
        added = ((integers * scale.reshape(-1, 1, 1, 1) - scaled) / factor).sum(axis=(2, 3)) @ mean
        shift = np.rint((bias - added) / scale).clip(-(2**30), 2**30)
        output = self.op(
            "QLinearConv",
            tensor.name,
            *self._of_step(Step(1.0, tensor.step.zero)),
            self.constant(integers),
            self.constant(scale.astype(np.float32)),
            self.constant(np.zeros(len(scale), np.int8)),
            *self._of_step(step),
            self.constant(shift.astype(np.int32)),
            domain=VENDOR,
            channels_last=1,
            kernel_shape=size,
            pads=[side // 2 for side in (*size, *size)],
        )
        return Bytes(output, step)

    def leaky(self, tensor: Bytes, slope: float) -> Bytes:
        """LeakyReLU; what is positive keeps its step, and so is not rounded again.

        Args:
            tensor: Its input.
            slope: Of negative numbers, between -1 and 1.
        """
        step = Step(tensor.step.scale, int(np.ceil(max(slope, 0.0) * tensor.step.zero)))
        output = self.op(
            "QLinearLeakyRelu",
            tensor.name,
            *self._of_step(tensor.step),
            *self._of_step(step),
            domain=VENDOR,
            alpha=slope,
        )
        return Bytes(output, step)

    def sigmoid(self, tensor: Bytes) -> Bytes:
        """Sigmoid, which takes the whole range."""
        step = Step(1 / LEVELS, 0)
        output = self.op(
            "QLinearSigmoid", tensor.name, *self._of_step(tensor.step), *self._of_step(step), domain=VENDOR
        )
        return Bytes(output, step)

    def halved(self, tensor: Bytes) -> Bytes:
        """Max-pooling, 2 x 2."""
        pooled = self.op("NhwcMaxPool", tensor.name, domain=VENDOR, kernel_shape=[2, 2], strides=[2, 2])
        return Bytes(pooled, tensor.step)

    def product(self, one: Bytes, two: Bytes, step: Step) -> Bytes:
        """The product of two tensors of one shape."""
        steps = [name for each in (one, two) for name in (each.name, *self._of_step(each.step))]
        return Bytes(self.op("QLinearMul", *steps, *self._of_step(step), domain=VENDOR), step)

    def picked(self, tensor: Bytes, index: str) -> Bytes:
        """Some rows, in the order of an index."""
        return Bytes(self.op("Gather", tensor.name, index, axis=0), tensor.step)

    def joined(self, tensors: Sequence[tuple[Bytes, int]]) -> Bytes:
        """Channels side by side.

        Args:
            tensors: Each with its number of channels; all have the same zero.
        """
        scale = np.concatenate([np.broadcast_to(tensor.step.scale, channels) for tensor, channels in tensors])
        zeros = {tensor.step.zero for tensor, _ in tensors}
        assert len(zeros) == 1, zeros
        return Bytes(self.op("Concat", *(t.name for t, _ in tensors), axis=3), Step(scale, zeros.pop()))

    def model(
        self,
        inputs: Mapping[str, tuple[int, Sequence[Any]]],
        outputs: Mapping[str, Sequence[Any]],
        notes: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The finished model.

        Args:
            inputs: ONNX type and shape of each; names stand for lengths that vary.
            outputs: Shape of each, single precision.
            notes: Metadata.
        """
        graph = helper.make_graph(
            self._nodes,
            "rrlnet",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(VENDOR, 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="rrl-register", ir_version=9)
        helper.set_model_props(model, dict(notes))
        return model

    def _of_step(self, step: Step) -> tuple[str, str]:
        return self.constant(np.float32(step.scale)), self.constant(np.uint8(step.zero))

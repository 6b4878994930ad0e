"""Quantise the network to 8 bits: the ONNX file that registrations on a CPU run.

    python pipelines/quantise_rrlnet.py --data PAIRS [--weights FILE] [-o FILE.onnx]

PAIRS is a folder of training pairs, or a recipe (.yaml) that names its data. The ranges of the network's maps are
calibrated on patches of these pairs: every group, simulated spectra included, contributes the same number, near misses
among them; pairs kept for validation are left out. Two runs draw the same patches. It takes a minute.

The file names the checksum of its weights. The one shipped with the package is refused if its weights change: quantise
again then. A file of other weights is given to ``rrl-register --weights``. Needs the extras ``train`` and ``onnx``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from rrl_register.errors import InputError, RegistrationError
from rrl_register.nn.architecture import InteractionKind
from rrl_register.nn.encoder import LEAK, MGLA, PATCH_SIZE, STAGE_SIZES
from rrl_register.nn.inference.onnx_backend import CHECKSUM_NOTE, DESCRIPTORS, INPUTS, INTEGERS, PROBABILITY
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import RRLNet, standardise
from rrl_register.nn.runtime import fold_batch_norms
from rrl_register.nn.weights import Weights, read_weights
from rrl_register.training.bank import load_bank
from rrl_register.training.config import load_training_config
from rrl_register.training.datasets import parse_sources
from rrl_register.training.export import OPSET, quiet_exporters
from rrl_register.training.sampling import GeometryConfig, PatchSampler

SHIPPED = Path(__file__).parents[1] / "rrl_register" / "nn" / "weights" / INTEGERS
PAIRS = 8
"""Pairs of each group, each with its match and with a near miss; all their maps have to fit into memory."""
PERCENTILE = 99.999
"""Share of a map's values within its range; with the whole range scores are off by twice as much."""
WEIGHT_LIMIT = 64
"""Largest of the integers that ``reduce_range`` rounds weights to."""
NEIGHBOURS = 4
"""Pixels of a row that the first convolution takes as channels: with a single channel it is four times slower."""
QUANTISED = ["Conv", "Gemm", "Gather", "Concat", "MaxPool"]
"""Operators in 8 bits; MGLA stays in single precision."""

Batch = tuple[Tensor, Tensor]


def main() -> None:
    """Read the arguments, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="PAIRS", help="training pairs, or a recipe (.yaml)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="default: those shipped with the package")
    parser.add_argument("-o", "--output", type=Path, default=SHIPPED, metavar="FILE", help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        run(read_weights(arguments.weights), calibration_batches(arguments.data), arguments.output)
    except RegistrationError as error:
        sys.exit(f"Error: {error}")


def calibration_batches(data: Path) -> list[Batch]:
    """Draw visible and other patches of pairs, ``(N, 1, 64, 64)`` each.

    Raises:
        InputError: If there is no data to draw from.
    """
    is_recipe = data.suffix in (".yaml", ".yml")
    sources = load_training_config(data).data if is_recipe else parse_sources(data)
    bank = load_bank(sources, validation=False, device=torch.device("cpu"))
    sampler = PatchSampler(bank, {}, GeometryConfig(), torch.Generator().manual_seed(0))
    drawn = [sampler.draw(PAIRS, group) for group in sampler.groups]
    return [(batch.visible, other) for batch in drawn for other in (batch.other, batch.near)]


def run(weights: Weights, batches: Sequence[Batch], output: Path) -> None:
    """Quantise weights and write the file.

    Raises:
        InputError: If they are of a network without attention or without feature interaction.
    """
    notes = {"name": weights.notes["name"], CHECKSUM_NOTE: weights.notes["checksum"], "licence": "Apache-2.0"}
    with tempfile.TemporaryDirectory() as folder:
        single = Path(folder) / "single.onnx"
        network = CpuNetwork(weights.network())
        correct_biases(network, batches)
        _export(network, single)
        quantise(single, batches, notes, output)
    size = output.stat().st_size / 1e6
    print(f"{output}: {size:.1f} MB, {weights.label}, from {sum(len(visible) for visible, _ in batches)} pairs")


class CpuMGLA(nn.Module):
    """``MGLA`` as products of matrices that read a channels-last map in place, with one product for all its gates."""

    def __init__(self, attention: MGLA, channels: int, size: int) -> None:
        super().__init__()
        self.attention, self.channels, self.size = attention, channels, size

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times its three gates; ``(N, C, H, W)`` in and out."""
        c, s = self.channels, self.size
        last = x.permute(0, 2, 3, 1)
        places, rows = last.reshape(-1, s * s, c), last.reshape(-1, s, s * c)
        mean, mean_channel = torch.full((1, s), 1 / s), torch.full((c, 1), 1 / c)
        over_channel = (places @ mean_channel).reshape(-1, 1, s * s).softmax(2)
        over_height = (mean @ rows).reshape(-1, s * c, 1).softmax(1)
        over_width = (mean @ last.reshape(-1, s, c)).reshape(-1, s * c).softmax(1).reshape(-1, s, c, 1)
        channel = self._gate(self.attention.local_channel, over_channel @ places, c)
        height = self._gate(self.attention.local_height, rows @ over_height, s)
        width = self._gate(self.attention.local_width, torch.ones(1, s) @ (last @ over_width).reshape(-1, s, s), s)
        gates = (height.reshape(-1, s, 1) @ width).reshape(-1, s * s, 1) @ channel
        return (places * gates).reshape(-1, s, s, c).permute(0, 3, 1, 2)

    def _gate(self, local: nn.Module, sums: Tensor, length: int) -> Tensor:
        return torch.sigmoid(local(sums.reshape(-1, 1, length)))


class CpuNetwork(nn.Module):
    """RRL-Net in a form whose integers ONNX Runtime computes fast; the same numbers in single precision.

    Private features ``|f g - f|`` are written as ``|f| (1 - g)``: ``|f|`` is a LeakyReLU of negative slope, ``1 - g``
    the sigmoid of the negated number. Max-pooling precedes LeakyReLU, which then has a quarter of the values.

    Args:
        network: Its batch norms are folded and its gates negated in place.

    Raises:
        InputError: If the network has no attention, or compares patches by their difference.
    """

    def __init__(self, network: RRLNet) -> None:
        super().__init__()
        architecture = network.architecture
        if not architecture.attention or architecture.interaction is not InteractionKind.FIL:
            raise InputError("only networks with attention and feature interaction can be quantised: give such weights")
        fold_batch_norms(network.eval())
        self.network, self.first, self.attentions = network, nn.ModuleDict(), nn.ModuleDict()
        for spectrum in Spectrum:
            branch = network.branch(spectrum)
            self.first[spectrum.value] = neighbours_as_channels(branch.encoder.convs[0][0], NEIGHBOURS)
            parts = zip(branch.encoder.attentions, architecture.channels, STAGE_SIZES, strict=True)
            self.attentions[spectrum.value] = nn.ModuleList(CpuMGLA(*part) for part in parts)
            for gate in branch.gates:
                gate.feature[2] = nn.LeakyReLU(-LEAK)
                gate.gate[0].weight.data.neg_()
                gate.gate[0].bias.data.neg_()

    def forward(self, visible: Tensor, other: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score pairs of patches and describe the patches.

        Args:
            visible: ``(N, 1, 64, 64)`` in [0, 1].
            other: ``(M, 1, 64, 64)``.
            left: ``(P,)`` index of the visible patch of each pair.
            right: ``(P,)`` index of the other patch.

        Returns:
            Probabilities ``(P,)``, visible descriptors ``(N, 128)``, other descriptors ``(M, 128)``.
        """
        one, one_descriptor = self._encode(visible, Spectrum.VISIBLE)
        two, two_descriptor = self._encode(other, Spectrum.OTHER)
        carried: list[Tensor] = []
        for (feature, closed), (other_feature, other_closed), block in zip(
            one, two, self.network.aggregation.blocks, strict=True
        ):
            private = feature.index_select(0, left) * other_closed.index_select(0, right)
            other_private = other_feature.index_select(0, right) * closed.index_select(0, left)
            last = block[1][0](block[0](torch.cat([*carried, private, other_private], 1)))
            carried = [functional.leaky_relu(functional.max_pool2d(last, 2), LEAK)]
        logits = self.network.metric(functional.leaky_relu(last, LEAK))
        return torch.sigmoid(logits[:, 0]), one_descriptor, two_descriptor

    def _encode(self, patches: Tensor, spectrum: Spectrum) -> tuple[list[Batch], Tensor]:
        """Return ``|f|`` and ``1 - g`` of each stage, and the descriptors."""
        branch, kept = self.network.branch(spectrum), []
        attentions = self.attentions[spectrum.value]
        rows = standardise(patches).reshape(-1, PATCH_SIZE, PATCH_SIZE // NEIGHBOURS, NEIGHBOURS)
        wide = self.first[spectrum.value](rows.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = wide.reshape(-1, PATCH_SIZE, PATCH_SIZE, wide.shape[3] // NEIGHBOURS).permute(0, 3, 1, 2)
        for stage, (conv, gate) in enumerate(zip(branch.encoder.convs, branch.gates, strict=True)):
            if stage:
                x = functional.max_pool2d(conv[0](x), 2)
            x = attentions[stage](functional.leaky_relu(x, LEAK))
            kept.append((gate.feature(x), gate.gate(x)))
        return kept, branch.descriptor(x)


def neighbours_as_channels(conv: nn.Conv2d, n: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution for maps that hold ``n`` neighbours of a row as the channels of one place."""
    outputs, inputs = conv.weight.shape[:2]
    weight = torch.zeros(n, outputs, n, inputs, 3, 3)
    for place in range(n):
        for offset in (-1, 0, 1):
            group, neighbour = divmod(place + offset, n)
            weight[place, :, neighbour, :, :, group + 1] = conv.weight.data[..., offset + 1]
    wide = nn.Conv2d(n * inputs, n * outputs, 3, padding=1)
    wide.weight.data = weight.reshape(n * outputs, n * inputs, 3, 3)
    wide.bias.data = conv.bias.data.repeat(n)
    return wide


@torch.no_grad()
def correct_biases(network: CpuNetwork, batches: Iterable[Batch]) -> None:
    """Subtract from each bias what rounding the weights adds to the sums at the mean of the inputs, in place."""
    means: dict[nn.Module, list[Tensor]] = defaultdict(list)

    def see(conv: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        """Keep the mean of each channel that a convolution takes."""
        means[conv].append(inputs[0].mean((0, 2, 3)))

    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [conv.register_forward_hook(see) for conv in convolutions]
    for visible, other in batches:
        network(visible, other, torch.arange(len(visible)), torch.arange(len(other)))
    for hook in hooks:
        hook.remove()
    for conv, seen in means.items():
        weight = conv.weight
        step = weight.abs().amax((1, 2, 3), keepdim=True) / WEIGHT_LIMIT
        added = ((weight / step).round() * step - weight).sum((2, 3))
        conv.bias -= added @ torch.stack(seen).mean(0)


def _export(network: CpuNetwork, output: Path) -> None:
    """Export a network in single precision, for any number of patches and pairs."""
    visible, other = torch.rand(5, 1, PATCH_SIZE, PATCH_SIZE), torch.rand(4, 1, PATCH_SIZE, PATCH_SIZE)
    # Of one tensor for both indices the exporter would make one input.
    left, right = torch.arange(3), torch.arange(1, 4)
    lengths = [{0: torch.export.Dim(f"n_{name}")} for name in ("visible", "other", "pairs", "pairs")]
    with quiet_exporters(), torch.no_grad():
        program = torch.onnx.export(
            network.eval(),
            (visible, other, left, right),
            input_names=INPUTS,
            output_names=(PROBABILITY, *DESCRIPTORS.values()),
            dynamic_shapes=lengths,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    program.save(output)


def quantise(single: Path, batches: Iterable[Batch], notes: dict[str, str], output: Path) -> None:
    """Quantise an exported ``CpuNetwork``, and write it as ONNX Runtime's optimiser leaves it.

    Weights keep to 7 bits: processors without VNNI add products of neighbours in 16 bits, which 8 bits overflow.
    """
    import onnx  # the extra onnx, which --help does without
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Feeds the batches, each patch paired with the one of its own number."""

        def __init__(self) -> None:
            rows = (
                (visible, other, torch.arange(len(visible)), torch.arange(len(other))) for visible, other in batches
            )
            self._feeds = ({k: v.numpy() for k, v in zip(INPUTS, tensors, strict=True)} for tensors in rows)

        def get_next(self) -> dict[str, object] | None:
            """Return the next batch; None after the last."""
            return next(self._feeds, None)

    prepared, quantised = (str(single.with_name(f"{name}.onnx")) for name in ("prepared", "quantised"))
    quant_pre_process(str(single), prepared, skip_symbolic_shape=True)
    graph = onnx.load(prepared).graph
    of_attention = {weight.name for weight in graph.initializer if len(weight.dims) == 3}
    with redirect_stdout(sys.stderr):  # it prints its progress
        quantize_static(
            prepared,
            quantised,
            Reader(),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE},
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=QUANTISED,
            nodes_to_exclude=[
                node.name for node in graph.node if node.op_type == "Conv" and node.input[1] in of_attention
            ],
        )
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(single.with_name("optimised.onnx"))
    # The layout that NchwcTransformer chooses depends on the processor.
    onnxruntime.InferenceSession(
        quantised, options, providers=["CPUExecutionProvider"], disabled_optimizers=["NchwcTransformer"]
    )
    model = onnx.load(options.optimized_model_filepath)
    onnx.helper.set_model_props(model, notes)
    output.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()

"""The network in integers: its operations are what they are named for, and it says what the network says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from rrl_register.errors import InputError
from rrl_register.nn.architecture import Architecture, InteractionKind
from rrl_register.nn.encoder_choice import Spectrum
from rrl_register.nn.folding import fold_batch_norms
from rrl_register.nn.patches import PATCH_SIZE
from rrl_register.nn.ranges import best_range, observe
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.steps import Step

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from rrl_register.nn.inference.onnx_backend import OnnxScorer  # noqa: E402
from rrl_register.nn.integer_graph import Bytes, IntegerGraph  # noqa: E402
from rrl_register.nn.integer_network import integer_network, parallel_map  # noqa: E402

SHAPE = (2, 4, 8, 8)
"""Of maps, as torch has them."""
STEP = Step.spanning(-3, 3)
Operation = Callable[[IntegerGraph, Bytes], Bytes]


def in_bytes(x: torch.Tensor, operation: Operation) -> torch.Tensor:
    """What an operation on a map ``(N, C, H, W)`` makes, by way of bytes."""
    graph = IntegerGraph()
    graph.output(graph.numbers(operation(graph, graph.quantised("x", STEP))), "y")
    model = graph.model({"x": (onnx.TensorProto.FLOAT, ("n", "h", "w", "c"))}, {"y": ("n", "i", "j", "k")}, {})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"x": x.permute(0, 2, 3, 1).contiguous().numpy()})
    return torch.from_numpy(made).permute(0, 3, 1, 2)


@pytest.fixture
def x() -> torch.Tensor:
    """A map that lies within the step's range."""
    return 6 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) - 3


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution_convolves_with_a_scale_of_each_channel(x: torch.Tensor, kernel: int) -> None:
    random = torch.Generator().manual_seed(2)
    weight, bias = torch.randn(6, 4, kernel, kernel, generator=random), torch.randn(6, generator=random)
    scales = np.array([1.0, 0.5, 2.0, 0.1])
    expected = functional.conv2d(x * torch.from_numpy(scales).float()[:, None, None], weight, bias, padding=kernel // 2)
    step = Step.spanning(float(expected.min()), float(expected.max()))

    def convolve(graph: IntegerGraph, tensor: Bytes) -> Bytes:
        scaled = Bytes(tensor.name, Step(tensor.step.scale * scales, tensor.step.zero))
        return graph.convolution(scaled, weight.numpy(), bias.numpy(), np.zeros(4), step)

    made = in_bytes(x, convolve)
    assert (made - expected).std() < 0.02 * expected.std()


def test_the_bias_takes_back_what_rounded_weights_add() -> None:
    x = torch.full(SHAPE, 2.0)
    weight = np.array([1.0, 0.004, 0.004, 0.004]).reshape(1, 4, 1, 1)
    step = Step.spanning(0, 4)

    def convolve(mean: float) -> torch.Tensor:
        return in_bytes(x, lambda g, t: g.convolution(t, weight, np.zeros(1), np.full(4, mean), step))

    assert convolve(0.0).mean() == pytest.approx(2.0, abs=0.01)
    assert convolve(2.0).mean() == pytest.approx(2.024, abs=0.01)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (lambda g, t: g.leaky(t, 0.1), lambda x: functional.leaky_relu(x, 0.1)),
        (lambda g, t: g.leaky(t, -0.1), lambda x: functional.leaky_relu(x, 0.1).abs()),
        (lambda g, t: g.sigmoid(t), torch.sigmoid),
        (lambda g, t: g.halved(t), lambda x: functional.max_pool2d(x, 2)),
        (lambda g, t: g.product(t, t, Step.up_to(9, 7)), lambda x: x * x),
        (lambda g, t: g.picked(t, g.constant(np.array([1, 1, 0]))), lambda x: x[[1, 1, 0]]),
    ],
    ids=["leaky", "absolute leaky", "sigmoid", "halved", "product", "picked"],
)
def test_operations_are_what_they_are_named_for(
    x: torch.Tensor, operation: Operation, expected: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    torch.testing.assert_close(in_bytes(x, operation), expected(x), rtol=0.02, atol=0.03)


def test_a_leaky_relu_rounds_no_positive_number_again(x: torch.Tensor) -> None:
    plain, leaky = in_bytes(x, lambda g, t: t), in_bytes(x, lambda g, t: g.leaky(t, 0.1))
    torch.testing.assert_close(leaky[plain > 0], plain[plain > 0], rtol=0, atol=1e-6)


def test_channels_that_lie_side_by_side_keep_their_scales() -> None:
    graph = IntegerGraph()
    joined = graph.joined([(Bytes("a", Step(0.5, 3)), 2), (Bytes("b", Step(np.array([1.0, 2.0]), 3)), 2)])
    np.testing.assert_array_equal(joined.step.scale, [0.5, 0.5, 1, 2])
    with pytest.raises(AssertionError):
        graph.joined([(Bytes("a", Step(0.5, 3)), 2), (Bytes("b", Step(0.5, 4)), 2)])


@pytest.mark.parametrize("n", [2, 4])
def test_neighbours_taken_for_channels_make_the_same_map(n: int) -> None:
    random = torch.Generator().manual_seed(3)
    x, weight = torch.rand(2, 3, 6, 8, generator=random), torch.randn(5, 3, 3, 3, generator=random)
    grouped = x.view(2, 3, 6, 8 // n, n).permute(0, 4, 1, 2, 3).reshape(2, 3 * n, 6, 8 // n)
    made = functional.conv2d(grouped, torch.from_numpy(parallel_map(weight.numpy(), n)), padding=1)
    made = made.view(2, n, 5, 6, 8 // n).permute(0, 2, 3, 4, 1).reshape(2, 5, 6, 8)
    torch.testing.assert_close(made, functional.conv2d(x, weight, padding=1), rtol=0, atol=1e-5)


def test_a_range_leaves_out_what_hardly_ever_comes() -> None:
    values = np.random.default_rng(4).uniform(-1, 2, 100_000)
    low, high = best_range(values)
    assert low == pytest.approx(-1, abs=0.01)
    assert high == pytest.approx(2, abs=0.01)
    values[0] = 4
    assert best_range(values).high < 3.5
    assert best_range(values).low == pytest.approx(-1, abs=0.01)
    assert best_range(values + 5).low == 0


@torch.no_grad()
def test_integers_say_what_the_network_says(make_network: Callable[..., RRLNet], tmp_path: Path) -> None:
    network = make_network()
    random = torch.Generator().manual_seed(5)
    pairs = [tuple(torch.rand(2, 12, 1, PATCH_SIZE, PATCH_SIZE, generator=random)) for _ in range(2)]
    encoded = [network.encode(p, s) for p, s in zip(pairs[1], Spectrum, strict=True)]
    expected = network.score(*encoded).numpy()
    fold_batch_norms(network)
    made = [integer_network(network, observe(network, pairs[:1]), {"name": "x", "weights_checksum": "y"}) for _ in "ab"]
    assert made[0].SerializeToString(deterministic=True) == made[1].SerializeToString(deterministic=True)
    onnx.checker.check_model(made[0])
    (tmp_path / "x.onnx").write_bytes(made[0].SerializeToString())
    header = b'{"__metadata__": {"checksum": "y"}}'
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    scorer = OnnxScorer(1, tmp_path / "x.onnx", tmp_path / "x.safetensors")
    visible, other = (p.numpy() for p in pairs[1])
    scores = scorer.score(visible, other, np.arange(12), np.arange(12))
    assert np.ptp(expected) > 0.3
    assert np.corrcoef(scores, expected)[0, 1] > 0.85
    for patches, features in zip((visible, other), encoded, strict=True):
        described = scorer.describe(patches, features.spectrum)
        assert np.einsum("ij,ij->i", described, features.descriptors.numpy()).min() > 0.99


@pytest.mark.parametrize("change", [{"attention": False}, {"interaction": InteractionKind.DIFFERENCE}])
def test_other_architectures_are_refused(change: dict[str, object]) -> None:
    network = RRLNet(training_heads=False, architecture=Architecture(width=0.25, **change))
    with pytest.raises(InputError, match="only networks with attention"):
        integer_network(network, observe(fold_batch_norms(network.eval()), []), {})

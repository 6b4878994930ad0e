"""Quantising the network: its rewritten form computes the same, and 8 bits score as single precision does."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from rrl_register.errors import InputError
from rrl_register.nn.architecture import Architecture, InteractionKind
from rrl_register.nn.inference.onnx_backend import OnnxScorer
from rrl_register.nn.patches import PATCH_SIZE, Spectrum
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.weights import prune_weights

torch.set_num_threads(1)
SCRIPT = Path(__file__).resolve().parents[2] / "pipelines" / "quantise_rrlnet.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quantise_rrlnet", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pipeline = _load()
LEFT, RIGHT = torch.tensor([0, 1, 2, 3, 3, 0]), torch.tensor([5, 1, 2, 3, 4, 0])


@pytest.fixture(scope="module")
def patches() -> tuple[torch.Tensor, torch.Tensor]:
    """Four visible patches, and six of the other spectrum."""
    random = torch.Generator().manual_seed(5)
    return torch.rand(4, 1, PATCH_SIZE, PATCH_SIZE, generator=random), torch.rand(
        6, 1, PATCH_SIZE, PATCH_SIZE, generator=random
    )


@torch.no_grad()
def test_the_form_for_a_cpu_is_the_network(
    make_network: Callable[..., RRLNet], patches: tuple[torch.Tensor, torch.Tensor]
) -> None:
    network = make_network()
    encoded = [network.encode(p, s) for p, s in zip(patches, Spectrum, strict=True)]
    expected = network.score(*encoded, LEFT, RIGHT), encoded[0].descriptors, encoded[1].descriptors
    for made, needed in zip(pipeline.CpuNetwork(network)(*patches, LEFT, RIGHT), expected, strict=True):
        torch.testing.assert_close(made, needed, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n", [2, 4])
def test_neighbours_taken_as_channels_make_the_same_map(n: int) -> None:
    torch.manual_seed(3)
    x, conv = torch.rand(2, 3, 6, 8), torch.nn.Conv2d(3, 5, 3, padding=1)
    grouped = x.view(2, 3, 6, 8 // n, n).permute(0, 4, 1, 2, 3).reshape(2, 3 * n, 6, 8 // n)
    made = pipeline.neighbours_as_channels(conv, n)(grouped)
    made = made.view(2, n, 5, 6, 8 // n).permute(0, 2, 3, 4, 1).reshape(2, 5, 6, 8)
    torch.testing.assert_close(made, conv(x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_8_bits_score_as_the_network_does(
    make_network: Callable[..., RRLNet], patches: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="needs the extra onnx")
    weights = prune_weights(make_network().state_dict(), {"name": "made"})
    network = weights.network()
    encoded = [network.encode(p, s) for p, s in zip(patches, Spectrum, strict=True)]
    expected = network.score(*encoded, LEFT, RIGHT).numpy()
    random = torch.Generator().manual_seed(6)
    seen = [tuple(pair) for pair in torch.rand(2, 2, 12, 1, PATCH_SIZE, PATCH_SIZE, generator=random)]
    pipeline.run(weights, seen, tmp_path / "made.onnx")
    scorer = OnnxScorer(1, tmp_path / "made.onnx")
    assert scorer.name == f"{weights.label} int8"
    scores = scorer.score(*(p.numpy() for p in patches), LEFT.numpy(), RIGHT.numpy())
    assert np.ptp(expected) > 0.5
    assert abs(scores - expected).mean() < 0.1
    assert abs(scores - expected).max() < 0.25
    for part, features in zip(patches, encoded, strict=True):
        described = scorer.describe(part.numpy(), features.spectrum)
        assert np.einsum("ij,ij->i", described, features.descriptors.numpy()).min() > 0.98


@pytest.mark.parametrize("change", [{"attention": False}, {"interaction": InteractionKind.DIFFERENCE}])
def test_other_architectures_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="only networks with attention"):
        pipeline.CpuNetwork(RRLNet(training_heads=False, architecture=Architecture(width=0.25, **change)))

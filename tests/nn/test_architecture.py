"""The switches of the network: what they take, what they build, and that all of it works whatever they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rrl_register.errors import InputError
from rrl_register.nn.architecture import PAPER, Architecture, InteractionKind
from rrl_register.nn.encoder import MGLA
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.relation import FeatureGate
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.runtime import fold_batch_norms
from rrl_register.nn.weights import load_weights
from weights_files import save_weights

torch.set_num_threads(1)

VARIANTS = [
    Architecture(width=0.25),
    Architecture(width=0.25, attention=False),
    Architecture(width=0.3, interaction=InteractionKind.DIFFERENCE),
    Architecture(width=0.01, attention=False, interaction=InteractionKind.DIFFERENCE),
]


def patches(seed: int, n: int = 3) -> Tensor:
    return torch.rand(n, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


def logits(net: RRLNet) -> Tensor:
    return net.logits(net.encode(patches(1), Spectrum.VISIBLE), net.encode(patches(2), Spectrum.OTHER))


@pytest.fixture(params=VARIANTS, ids=str)
def net(request: pytest.FixtureRequest) -> RRLNet:
    """A network of each kind whose batch norms have seen patches once."""
    torch.manual_seed(40)
    net = RRLNet(architecture=request.param)
    with torch.no_grad():
        logits(net)
    return net.eval()


def count(net: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in net.modules())


def test_the_default_is_the_papers_network() -> None:
    assert Architecture() == PAPER
    assert PAPER.channels == (16, 32, 64, 128, 256)
    assert PAPER.to_dict() == {"width": 1.0, "attention": True, "interaction": "fil"}
    net = RRLNet()
    assert net.architecture == PAPER
    assert (count(net, MGLA), count(net, FeatureGate)) == (18, 10)


@pytest.mark.parametrize(
    ("width", "channels"),
    [(2, (32, 64, 128, 256, 512)), (0.5, (8, 16, 32, 64, 128)), (0.1, (4, 4, 6, 13, 26)), (1e-9, (4, 4, 4, 4, 4))],
)
def test_width_multiplies_the_papers_channels(width: float, channels: tuple[int, ...]) -> None:
    assert Architecture(width=width).channels == channels


@pytest.mark.parametrize("architecture", VARIANTS, ids=str)
def test_an_architecture_comes_back_from_a_file(architecture: Architecture) -> None:
    assert Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture


def test_what_a_file_leaves_out_is_the_papers() -> None:
    assert Architecture.from_dict({}) == PAPER
    assert Architecture.from_dict({"attention": False}) == Architecture(attention=False)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"depth": 5}, "unknown depth; known are width, attention, interaction"),
        ({"width": 0}, "width 0"),
        ({"width": -1.0}, "width -1.0"),
        ({"width": float("nan")}, "width nan"),
        ({"width": 1e9}, "width 1000000000.0"),
        ({"width": True}, "width True"),
        ({"width": "1"}, "width '1'"),
        ({"attention": 1}, "attention 1, true or false needed"),
        ({"interaction": "sum"}, "interaction 'sum', fil or difference needed"),
        ({"interaction": []}, "interaction []"),
        ([], "a mapping"),
    ],
)
def test_what_no_network_can_be_built_from_is_refused(values: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Architecture.from_dict(values)
    assert said in str(caught.value)


def test_switches_build_what_they_say(net: RRLNet) -> None:
    wanted = net.architecture
    assert count(net, MGLA) == (18 if wanted.attention else 0)
    assert count(net, FeatureGate) == (10 if wanted.interaction is InteractionKind.FIL else 0)
    features = net.encode(patches(3), Spectrum.OTHER)
    assert tuple(stage.feature.shape[1] for stage in features.stages) == wanted.channels
    assert features.descriptors.shape == (3, 128)
    assert net.metric[2].in_features == 2 * wanted.channels[-1]
    assert (net.metric[2].out_features, net.metric[4].out_features) == (512, 256)


@torch.no_grad()
def test_cached_features_score_like_gathered_ones(net: RRLNet) -> None:
    visible, other = net.encode(patches(1), Spectrum.VISIBLE), net.encode(patches(2), Spectrum.OTHER)
    left, right = torch.tensor([2, 0, 0]), torch.tensor([1, 1, 2])
    gathered = net.logits(visible[left], other[right])
    assert torch.equal(net.logits(visible, other, left, right), gathered)
    assert gathered.unique().numel() == 3


def test_all_weights_can_be_taught(net: RRLNet) -> None:
    net.train()
    visible, other = net.encode(patches(1), Spectrum.VISIBLE), net.encode(patches(2), Spectrum.OTHER)
    last, heads = net.training_logits(visible, other)
    pictures = [net.reconstruct(features) for features in (visible, other)]
    assert [tuple(picture.shape) for picture in pictures] == [(3, 1, 64, 64)] * 2
    weights = patches(4)
    parts = [last.sum(), *(h.sum() for h in (*heads.stages, *heads.modules)), *((p * weights).sum() for p in pictures)]
    descriptors = visible.descriptors[:, 0].sum() + other.descriptors[:, 0].sum()
    torch.stack([*parts, descriptors]).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


@torch.no_grad()
def test_folding_keeps_the_scores(net: RRLNet) -> None:
    before = logits(net)
    fold_batch_norms(net)
    assert not count(net, nn.BatchNorm2d)
    torch.testing.assert_close(logits(net), before, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_saved_weights_score_like_the_rounded_network(net: RRLNet, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, net.state_dict(), {}, net.architecture)
    loaded, _ = load_weights(path)
    assert loaded.architecture == net.architecture
    rounded = {k: v.half().float() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    net.load_state_dict(rounded)
    assert torch.equal(logits(loaded), logits(net))

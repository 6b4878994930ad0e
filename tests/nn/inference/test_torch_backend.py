"""The network at work: what it says of a pair depends on that pair alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from rrl_register.config import Device, Kind
from rrl_register.errors import InputError, UsageError
from rrl_register.nn import runtime as precision
from rrl_register.nn.inference import torch_backend as scoring
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.nn.patches import Spectrum, spectra
from rrl_register.nn.rrlnet import RRLNet
from weights_files import save_weights

torch.set_num_threads(1)

Patches = tuple[np.ndarray, np.ndarray]
MakeNetwork = Callable[..., RRLNet]

LEFT = np.array([0, 1, 2, 3, 3, 0, 2, 1])
RIGHT = np.array([0, 1, 2, 3, 4, 4, 0, 4])


@pytest.fixture(scope="module", autouse=True)
def single_precision() -> Iterator[None]:
    """So that rounding does not hide what these tests look for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "fastest_dtype", lambda device: torch.float32)
        yield


@pytest.fixture(scope="module")
def scorer(make_network: MakeNetwork) -> Scorer:
    return Scorer(device=Device.CPU, network=make_network())


@pytest.fixture(scope="module")
def patches() -> Patches:
    """Four visible patches, and five of the other spectrum."""
    visible = np.random.default_rng(37).random((5, 1, 64, 64), np.float32)
    return visible[:4], 1 - visible


def test_scores_depend_on_neither_order_nor_batch(
    scorer: Scorer, patches: Patches, monkeypatch: pytest.MonkeyPatch, make_network: MakeNetwork
) -> None:
    scores = scorer.score(*patches, LEFT, RIGHT)
    assert scores.shape == (8,)
    assert np.all((scores >= 0) & (scores <= 1))
    assert np.ptp(scores) > 0.1
    monkeypatch.setitem(scoring.PATCHES_PER_BATCH, "cpu", 2)
    monkeypatch.setitem(scoring.PAIRS_PER_BATCH, "cpu", 3)
    order = np.random.default_rng(38).permutation(8)
    shuffled = Scorer(device=Device.CPU, network=make_network()).score(*patches, LEFT[order], RIGHT[order])
    assert np.allclose(shuffled, scores[order], atol=1e-3)


@torch.no_grad()
def test_scores_are_those_of_the_plain_network(scorer: Scorer, patches: Patches, make_network: MakeNetwork) -> None:
    """The scorer folds batch norms and encodes each patch once; neither may change what comes out."""
    net = make_network()
    visible, other = (torch.from_numpy(p) for p in patches)
    encoded = net.encode(visible[LEFT], Spectrum.VISIBLE), net.encode(other[RIGHT], Spectrum.OTHER)
    assert np.allclose(scorer.score(*patches, LEFT, RIGHT), net.score(*encoded), atol=1e-3)
    assert np.allclose(
        scorer.describe(patches[0], Spectrum.VISIBLE), net.describe(visible, Spectrum.VISIBLE), atol=1e-4
    )


def test_descriptors_depend_on_the_patch_and_its_spectrum_alone(
    scorer: Scorer, patches: Patches, monkeypatch: pytest.MonkeyPatch, make_network: MakeNetwork
) -> None:
    together = scorer.describe(patches[1], Spectrum.OTHER)
    monkeypatch.setitem(scoring.PATCHES_PER_BATCH, "cpu", 2)
    backwards = Scorer(device=Device.CPU, network=make_network()).describe(patches[1][::-1].copy(), Spectrum.OTHER)
    assert together.shape == (5, 128)
    assert np.allclose(backwards[::-1], together, atol=1e-4)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-4)
    assert not np.allclose(scorer.describe(patches[1], Spectrum.VISIBLE), together, atol=0.05)


def test_nothing_to_do_gives_nothing(scorer: Scorer, patches: Patches) -> None:
    none = np.empty(0, np.int64)
    assert scorer.score(*patches, none, none).shape == (0,)
    assert scorer.describe(patches[0][:0], Spectrum.VISIBLE).shape == (0, 128)


def test_a_missing_gpu_is_told_before_any_work(monkeypatch: pytest.MonkeyPatch, make_network: MakeNetwork) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device auto or cpu"):
        Scorer(device=Device.CUDA)
    assert Scorer(device=Device.AUTO, network=make_network()).device == torch.device("cpu")


def test_missing_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weights at"):
        Scorer(weights=tmp_path / "none.safetensors")


def test_weights_are_read_and_named(make_network: MakeNetwork, tmp_path: Path, patches: Patches) -> None:
    net = make_network()
    save_weights(tmp_path / "mine.safetensors", net.state_dict(), {"name": "mine"})
    read = Scorer(weights=tmp_path / "mine.safetensors", device=Device.CPU)
    given = Scorer(device=Device.CPU, network=net, name="of my own")
    assert read.name.startswith("mine ")
    assert given.name == "of my own"
    descriptors = [s.describe(patches[0], Spectrum.VISIBLE) for s in (read, given)]
    assert np.allclose(*descriptors, atol=0.01)


@pytest.mark.parametrize(
    ("fixed", "moving", "first"),
    [
        (Kind.OPTICAL, Kind.SAR, Spectrum.VISIBLE),
        (Kind.SAR, Kind.OPTICAL, Spectrum.OTHER),
        (Kind.IR, Kind.OPTICAL, Spectrum.OTHER),
        (Kind.OPTICAL, Kind.OPTICAL, Spectrum.VISIBLE),
        (Kind.IR, Kind.SAR, Spectrum.VISIBLE),
    ],
)
def test_the_optical_image_goes_through_the_visible_encoder(fixed: Kind, moving: Kind, first: Spectrum) -> None:
    second = Spectrum.OTHER if first is Spectrum.VISIBLE else Spectrum.VISIBLE
    assert spectra(fixed, moving) == (first, second)

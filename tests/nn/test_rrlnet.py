"""The network as a whole: its size, its two halves, and what pruning leaves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import PatchFeatures, RRLNet
from rrl_register.nn.runtime import fold_batch_norms
from rrl_register.training.augmentation import Radiometry, RadiometryConfig
from rrl_register.training.config import LossConfig
from rrl_register.training.sampling import PatchBatch
from rrl_register.training.steps import joint_step

torch.set_num_threads(1)

VISIBLE, OTHER = Spectrum.VISIBLE, Spectrum.OTHER


MakeNetwork = Callable[..., RRLNet]


def patches(seed: int, n: int = 4) -> Tensor:
    return torch.rand(n, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def net(make_network: MakeNetwork) -> RRLNet:
    return make_network()


@pytest.fixture(scope="module")
def encoded(net: RRLNet) -> tuple[PatchFeatures, PatchFeatures]:
    with torch.no_grad():
        return net.encode(patches(19), VISIBLE), net.encode(patches(20), OTHER)


def size(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_the_pruned_network_has_the_papers_size_and_two_descriptor_heads(net: RRLNet) -> None:
    """9.39 M as counted on the paper's parts; the descriptor heads, which the paper has not, come on top."""
    branches = [net.branch(spectrum) for spectrum in Spectrum]
    convolutions, norms, attentions = 9 * 43_536, 2 * 496, 45
    parts = {
        "encoders": (size(*(b.encoder for b in branches)), 2 * (convolutions + norms + attentions)),
        "interaction": (size(*(b.gates for b in branches)), 2 * (2 * 87_296 + 4 * 496)),
        "aggregation": (size(net.aggregation), 9 * (523_264 + 349_184) + 4 * 992),
        "metric": (size(net.metric), 513 * 512 + 513 * 256 + 257),
        "descriptors": (size(*(b.descriptor for b in branches)), 2 * (256 * 128 + 2 * 128 + 128 * 16 * 128)),
    }
    assert {name: counted for name, (counted, _) in parts.items()} == {name: n for name, (_, n) in parts.items()}
    assert parts["descriptors"][0] == 590_336
    assert size(net) == 9_389_115 + 590_336


def test_the_two_spectra_share_no_weights(net: RRLNet, encoded: tuple[PatchFeatures, PatchFeatures]) -> None:
    visible, other = ({p.data_ptr() for p in net.branch(spectrum).parameters()} for spectrum in Spectrum)
    assert len(visible) == len(other) > 0
    assert not visible & other
    assert not torch.allclose(net.describe(patches(19), OTHER), encoded[0].descriptors, atol=0.1)


def test_features_come_at_five_scales(encoded: tuple[PatchFeatures, PatchFeatures]) -> None:
    shapes = [(4, 16, 64, 64), (4, 32, 32, 32), (4, 64, 16, 16), (4, 128, 8, 8), (4, 256, 4, 4)]
    assert [tuple(gated.feature.shape) for gated in encoded[0].stages] == shapes
    assert [tuple(gated.gate.shape) for gated in encoded[0].stages] == shapes


@torch.no_grad()
def test_cached_features_score_like_pairs_that_are_encoded_one_by_one(
    net: RRLNet, encoded: tuple[PatchFeatures, PatchFeatures]
) -> None:
    left, right = torch.tensor([0, 3, 3, 1]), torch.tensor([2, 0, 1, 1])
    scores = net.score(encoded[0][left], encoded[1][right])
    assert torch.equal(net.score(*encoded, left, right), scores)
    alone = [
        net.score(net.encode(patches(19)[i : i + 1], VISIBLE), net.encode(patches(20)[j : j + 1], OTHER))
        for i, j in zip(left.tolist(), right.tolist(), strict=True)
    ]
    assert torch.allclose(scores, torch.cat(alone), atol=1e-3)
    assert float(scores.std()) > 0.1


@torch.no_grad()
def test_scores_are_probabilities_of_the_logits(net: RRLNet, encoded: tuple[PatchFeatures, PatchFeatures]) -> None:
    logits = net.logits(*encoded)
    assert logits.shape == (4,)
    assert torch.allclose(net.score(*encoded), 1 / (1 + torch.exp(-logits)))


@torch.no_grad()
def test_descriptors_alone_are_those_of_the_features(net: RRLNet, encoded: tuple[PatchFeatures, PatchFeatures]) -> None:
    assert torch.allclose(net.describe(patches(19), VISIBLE), encoded[0].descriptors, atol=1e-6)


@torch.no_grad()
def test_brightness_and_contrast_of_a_patch_hardly_matter(
    net: RRLNet, encoded: tuple[PatchFeatures, PatchFeatures]
) -> None:
    dimmed = net.describe(0.6 * patches(19) + 0.3, VISIBLE)
    assert float((dimmed * encoded[0].descriptors).sum(1).min()) > 0.99
    assert torch.isfinite(net.describe(torch.full((2, 1, 64, 64), 0.7), VISIBLE)).all()


@torch.no_grad()
def test_inference_does_without_heads_and_decoders(make_network: MakeNetwork) -> None:
    whole = make_network(training_heads=True)
    pruned = RRLNet(training_heads=False)
    left_over = pruned.load_state_dict(whole.state_dict(), strict=False)
    assert not left_over.missing_keys
    assert {name.split(".")[0] for name in left_over.unexpected_keys} == {"branches", "heads"}
    pruned.train(whole.training)
    one, two = patches(21, 2), patches(22, 2)
    features = [(net.encode(one, VISIBLE), net.encode(two, OTHER)) for net in (whole, pruned)]
    assert torch.equal(whole.score(*features[0]), pruned.score(*features[1]))
    assert torch.equal(features[0][0].descriptors, features[1][0].descriptors)
    assert size(pruned) == 9_389_115 + 590_336 < size(whole)


def test_missing_heads_and_decoders_are_named(net: RRLNet, encoded: tuple[PatchFeatures, PatchFeatures]) -> None:
    with pytest.raises(RuntimeError, match="no MLPP heads"):
        net.training_logits(*encoded)
    with pytest.raises(RuntimeError, match="no decoders"):
        net.reconstruct(encoded[0])


def test_training_sees_the_same_logits_as_inference(make_network: MakeNetwork) -> None:
    net = make_network(training_heads=True)
    with torch.no_grad():
        features = net.encode(patches(23, 2), VISIBLE), net.encode(patches(24, 2), OTHER)
        logits, heads = net.training_logits(*features)
        assert torch.allclose(logits, net.logits(*features), atol=1e-4)
    assert [len(heads.stages), len(heads.modules)] == [2, 3]


def gradients(config: LossConfig) -> dict[str, bool]:
    torch.manual_seed(25)
    net = RRLNet()
    centres = torch.tensor([[0.0, 0], [100, 0], [0, 100], [100, 100]])
    batch = PatchBatch(patches(26), patches(27), patches(28), torch.zeros(4), centres, torch.ones(4), "nir")
    generator = torch.Generator().manual_seed(29)
    joint_step(net, batch, Radiometry(RadiometryConfig(), generator), config, generator).total.backward()
    return {name: p.grad is not None and bool(p.grad.any()) for name, p in net.named_parameters()}


def test_with_all_losses_every_parameter_is_taught() -> None:
    assert [name for name, taught in gradients(LossConfig()).items() if not taught] == []


def test_a_loss_switched_off_teaches_nothing() -> None:
    taught = gradients(LossConfig(reconstruction=0, stage_heads=0, module_heads=0))
    idle = {name for name, is_taught in taught.items() if not is_taught}
    assert idle == {name for name in taught if name.startswith("heads.") or ".decoder." in name}


@pytest.mark.parametrize("shape", [(64, 64), (2, 64, 64), (2, 3, 64, 64), (2, 1, 32, 32), (2, 1, 64, 96)])
def test_patches_of_other_shapes_are_refused(net: RRLNet, shape: tuple[int, ...]) -> None:
    for use in (net.encode, net.describe):
        with pytest.raises(ValueError, match=r"\(N, 1, 64, 64\) needed") as caught:
            use(torch.zeros(shape), VISIBLE)
        assert str(shape) in str(caught.value)


def test_swapped_spectra_are_refused(net: RRLNet, encoded: tuple[PatchFeatures, PatchFeatures]) -> None:
    visible, other = encoded
    for pair in ((other, visible), (visible, visible), (other, other)):
        with pytest.raises(ValueError, match=r"\(visible, other\) needed in this order"):
            net.score(*pair)


def test_features_that_form_no_pairs_are_refused(net: RRLNet, encoded: tuple[PatchFeatures, PatchFeatures]) -> None:
    with pytest.raises(ValueError, match="4 visible and 1 other patches"):
        net.score(encoded[0], encoded[1][:1])


@torch.no_grad()
def test_folded_batch_norms_are_gone_and_the_scores_stay(make_network: MakeNetwork) -> None:
    net = make_network()
    before = net.score(net.encode(patches(30), VISIBLE), net.encode(patches(31), OTHER))
    fold_batch_norms(net)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    after = net.score(net.encode(patches(30), VISIBLE), net.encode(patches(31), OTHER))
    assert torch.allclose(after, before, atol=1e-3)
    assert float(before.std()) > 0.1

"""From what each patch has alone to one number, and the extra heads of training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rrl_register.nn.encoder import dense_head
from rrl_register.nn.relation import Aggregation, Interaction, MLPPHeads

torch.set_num_threads(1)

CHANNELS = (16, 32, 64, 128, 256)
SIZES = (64, 32, 16, 8, 4)


@pytest.fixture(scope="module")
def aggregation() -> Aggregation:
    torch.manual_seed(7)
    return Aggregation().eval()


@pytest.fixture(scope="module")
def interactions() -> list[Interaction]:
    generator = torch.Generator().manual_seed(8)
    return [Interaction(*torch.randn(4, 2, c, s, s, generator=generator)) for c, s in zip(CHANNELS, SIZES, strict=True)]


def changed(interactions: list[Interaction], *names: str) -> list[Interaction]:
    return [i._replace(**{name: getattr(i, name) + 1 for name in names}) for i in interactions]


def test_maps_are_twice_as_wide_as_the_stages(aggregation: Aggregation, interactions: list[Interaction]) -> None:
    shapes = [tuple(output.shape) for output in aggregation(interactions)]
    assert shapes == [(2, 2 * c, s, s) for c, s in zip(CHANNELS, SIZES, strict=True)]


def test_a_stage_sees_the_pooled_result_before_and_both_private_maps(
    aggregation: Aggregation, interactions: list[Interaction]
) -> None:
    outputs = list(aggregation(interactions))
    private = torch.cat([interactions[3].private_fixed, interactions[3].private_moving], 1)
    inputs = torch.cat([functional.max_pool2d(outputs[2], 2), private], 1)
    assert torch.allclose(outputs[3], aggregation.blocks[3](inputs), atol=1e-5)


def test_aggregation_looks_at_private_features_alone(aggregation: Aggregation, interactions: list[Interaction]) -> None:
    before = list(aggregation(interactions))[-1]
    common = changed(interactions, "common_fixed", "common_moving")
    assert torch.equal(list(aggregation(common))[-1], before)
    for name in ("private_fixed", "private_moving"):
        assert not torch.allclose(list(aggregation(changed(interactions, name)))[-1], before, atol=1e-3)


def test_the_metric_network_pools_and_has_three_dense_layers() -> None:
    head = dense_head(512)
    layers = [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, nn.Linear)]
    assert layers == [(512, 512), (512, 256), (256, 1)]
    maps = torch.randn(3, 512, 4, 4, generator=torch.Generator().manual_seed(9))
    assert torch.allclose(head(maps), head(maps.mean((2, 3), keepdim=True)), atol=1e-5)


@pytest.fixture(scope="module")
def heads() -> MLPPHeads:
    torch.manual_seed(10)
    return MLPPHeads().eval()


def logits_of(heads: MLPPHeads, aggregation: Aggregation, interactions: list[Interaction]) -> tuple[Tensor, Tensor]:
    found = heads(list(aggregation(interactions)), interactions)
    return torch.stack(found.stages), torch.stack(found.modules)


def test_two_stage_heads_and_three_module_heads_score_each_pair(
    heads: MLPPHeads, aggregation: Aggregation, interactions: list[Interaction]
) -> None:
    stages, modules = logits_of(heads, aggregation, interactions)
    assert stages.shape == (2, 2)
    assert modules.shape == (3, 2)


def test_module_heads_look_at_the_sum_of_the_common_features(
    heads: MLPPHeads, aggregation: Aggregation, interactions: list[Interaction]
) -> None:
    stages, modules = logits_of(heads, aggregation, interactions)
    swapped = [i._replace(common_fixed=i.common_moving, common_moving=i.common_fixed) for i in interactions]
    other_stages, other_modules = logits_of(heads, aggregation, changed(swapped, "private_fixed"))
    assert torch.allclose(other_modules, modules, atol=1e-5)
    assert (other_stages != stages).all()
    _, further_modules = logits_of(heads, aggregation, changed(interactions, "common_fixed"))
    assert (further_modules != modules).all()


def test_stage_heads_look_at_the_third_and_fourth_aggregated_maps(
    heads: MLPPHeads, interactions: list[Interaction], aggregation: Aggregation
) -> None:
    maps = list(aggregation(interactions))
    before = heads(maps, interactions).stages
    for stage in range(5):
        after = heads([m + (index == stage) for index, m in enumerate(maps)], interactions).stages
        assert [not torch.equal(a, b) for a, b in zip(after, before, strict=True)] == [stage == 2, stage == 3]

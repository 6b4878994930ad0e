"""Weights on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from rrl_register.errors import InputError
from rrl_register.nn.architecture import PAPER, Architecture, InteractionKind
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.weights import SCHEMA, checksum, load_weights, prune_weights, read_weights
from weights_files import save_weights

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(32)
    return RRLNet(training_heads=True).state_dict()


@pytest.fixture(scope="module")
def saved(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "made.safetensors"
    save_weights(path, state, {"name": "first", "recipe": "none"})
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_weights(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_network_comes_back_pruned_and_rounded_to_half_precision(state: dict[str, Tensor], saved: Path) -> None:
    net, name = load_weights(saved)
    loaded = net.state_dict()
    assert loaded.keys() == RRLNet(training_heads=False).state_dict().keys()
    for key, value in loaded.items():
        assert torch.equal(value, state[key].half().float() if value.is_floating_point() else state[key])
    assert not net.training
    assert name.startswith("first ")


def test_the_file_is_half_precision_and_says_what_it_is(saved: Path) -> None:
    with safe_open(str(saved), framework="pt") as file:
        notes = file.metadata()
    assert {"name": "first", "recipe": "none", "schema": SCHEMA}.items() <= notes.items()
    assert {v.dtype for v in load_file(saved).values() if v.is_floating_point()} == {torch.float16}
    assert saved.stat().st_size < 21e6


def test_the_name_tells_weights_apart(state: dict[str, Tensor], saved: Path, tmp_path: Path) -> None:
    other = dict(state) | {"metric.6.bias": state["metric.6.bias"] + 1}
    save_weights(tmp_path / "other.safetensors", other, {"name": "first"})
    assert load_weights(tmp_path / "other.safetensors")[1] != load_weights(saved)[1]


def test_saving_replaces_the_file_and_leaves_nothing_beside_it(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_text("old")
    save_weights(path, state, {})
    assert load_weights(path)[1].startswith("weights ")
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]


def test_one_flipped_bit_is_found(saved: Path, tmp_path: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-1000] ^= 1
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(content)
    assert "checksum" in refusal(damaged)


def test_a_file_cut_short_is_refused(saved: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.safetensors"
    short.write_bytes(saved.read_bytes()[:-1000])
    assert "no safetensors file" in refusal(short)


def test_other_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.safetensors"
    text.write_text("these are no weights")
    assert "no safetensors file" in refusal(text)


def test_a_missing_file_is_refused_with_what_to_give(tmp_path: Path) -> None:
    assert "leave --weights out" in refusal(tmp_path / "none.safetensors")


@pytest.mark.parametrize("notes", [None, {"schema": "rrlnet-0"}])
def test_weights_of_another_schema_are_refused(notes: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(3)}, path, notes)
    message = refusal(path)
    assert SCHEMA in message
    assert str((notes or {}).get("schema")) in message


def test_whole_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(3)}
    path = tmp_path / "foreign.safetensors"
    save_file(tensors, path, {"schema": SCHEMA, "checksum": checksum(tensors)})
    assert "does not fit this network" in refusal(path)


def test_the_checksum_covers_names_shapes_and_types() -> None:
    sums = {
        checksum({"a": torch.zeros(4)}),
        checksum({"b": torch.zeros(4)}),
        checksum({"a": torch.zeros(2, 2)}),
        checksum({"a": torch.zeros(4, dtype=torch.int32)}),
        checksum({"a": torch.tensor([0.0, 0, 0, 1])}),
    }
    assert len(sums) == 5


NARROW = Architecture(width=0.25, attention=False, interaction=InteractionKind.DIFFERENCE)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(33)
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    save_weights(path, RRLNet(True, NARROW).state_dict(), {"name": "narrow"}, NARROW)
    return path


def rewritten(path: Path, copy: Path, **changes: Any) -> Path:
    """A copy whose notes say something else, its tensors and its checksum untouched; None takes a note away."""
    with safe_open(str(path), framework="pt") as file:
        notes = {**file.metadata(), **changes}
    save_file(load_file(path), copy, {k: v for k, v in notes.items() if v is not None})
    return copy


def test_the_architecture_comes_back_with_the_weights(narrow: Path) -> None:
    net, _ = load_weights(narrow)
    assert net.architecture == NARROW
    assert net.metric[2].in_features == 2 * 64
    with safe_open(str(narrow), framework="pt") as file:
        assert Architecture.from_dict(json.loads(file.metadata()["architecture"])) == NARROW


def test_weights_that_name_no_architecture_are_the_papers(saved: Path, narrow: Path, tmp_path: Path) -> None:
    old = rewritten(saved, tmp_path / "old.safetensors", architecture=None)
    assert load_weights(old)[0].architecture == PAPER
    message = refusal(rewritten(narrow, tmp_path / "narrow.safetensors", architecture=None))
    assert "does not fit this network" in message


@pytest.mark.parametrize("field", [{"width": 0.5}, {"attention": True}, {"interaction": "fil"}])
def test_weights_under_another_architecture_are_refused(field: dict[str, Any], narrow: Path, tmp_path: Path) -> None:
    claimed = json.dumps(NARROW.to_dict() | field)
    assert "does not fit" in refusal(rewritten(narrow, tmp_path / "claimed.safetensors", architecture=claimed))


@pytest.mark.parametrize("text", ["no json", "[1]", '{"depth": 7}', '{"width": 1e9}', '{"interaction": "sum"}'])
def test_an_architecture_that_is_none_is_refused(text: str, narrow: Path, tmp_path: Path) -> None:
    assert "network unknown here" in refusal(rewritten(narrow, tmp_path / "odd.safetensors", architecture=text))


def test_whole_numbers_in_place_of_weights_are_refused(narrow: Path, tmp_path: Path) -> None:
    tensors = load_file(narrow) | {"metric.2.weight": torch.zeros(512, 128, dtype=torch.int32)}
    path = tmp_path / "whole.safetensors"
    save_file(tensors, path, {**read_weights(narrow).notes, "checksum": checksum(tensors)})
    assert "metric.2.weight is torch.int32" in refusal(path)


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_weights_that_half_precision_cannot_hold_are_not_saved(
    value: float, state: dict[str, Tensor], tmp_path: Path
) -> None:
    spoilt = dict(state) | {"metric.6.bias": torch.full((1,), value)}
    with pytest.raises(InputError, match="not finite"):
        save_weights(tmp_path / "spoilt.safetensors", spoilt, {})
    assert not list(tmp_path.iterdir())


def test_a_state_of_another_network_is_not_saved(state: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match="do not fit"):
        prune_weights(state, {}, NARROW)
    with pytest.raises(InputError, match="missing"):
        prune_weights({k: v for k, v in state.items() if k != "metric.6.bias"}, {})

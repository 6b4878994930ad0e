"""The shipped network in 8 bits: single precision but for rounding, and never stale."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from rrl_register.config import Device, ReadConfig
from rrl_register.errors import InputError
from rrl_register.matching.features.keypoints import detect
from rrl_register.matching.read_pair import read_pair
from rrl_register.nn.inference.onnx_backend import INTEGERS, SHIPPED, OnnxScorer, read_notes
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.nn.patches import PatchCutter, Spectrum, default_support
from rrl_register.nn.weights import read_weights
from weights_files import save_weights

N = 40
Patches = np.ndarray


@pytest.fixture(scope="module")
def integers() -> OnnxScorer:
    return OnnxScorer(threads=1)


@pytest.fixture(scope="module")
def single() -> Scorer:
    return Scorer(device=Device.CPU)


@pytest.fixture(scope="module", params=["rgb_nir", "synthetic_optical_sar"])
def patches(request: pytest.FixtureRequest, samples: Path, truth_of) -> tuple[Patches, Patches]:
    """Patches around keypoints of a sample pair, and the same places in the other image."""
    pair = read_pair(samples / f"{request.param}_fixed.tif", samples / f"{request.param}_moving.tif", ReadConfig())
    placed, valid = pair.placed(truth_of(request.param))
    support = default_support(pair.fixed.kind, pair.moving.kind, pair.fixed.shape)
    points = detect(pair.fixed.values, pair.fixed.valid & valid, N, support)
    assert len(points) == N
    return PatchCutter(pair.fixed.values, valid, support).cut(points), PatchCutter(placed, valid, support).cut(points)


def test_scores_of_real_patches_are_those_of_single_precision(
    integers: OnnxScorer, single: Scorer, patches: tuple[Patches, Patches]
) -> None:
    row = np.arange(N)
    left, right = np.concatenate([row, row]), np.concatenate([row, np.roll(row, 7)])
    expected, scores = single.score(*patches, left, right), integers.score(*patches, left, right)
    assert np.ptp(expected) > 0.9
    assert np.corrcoef(scores, expected)[0, 1] > 0.995
    assert abs(scores - expected).mean() < 0.02
    assert abs(scores - expected).max() < 0.2


def test_descriptors_of_real_patches_are_those_of_single_precision(
    integers: OnnxScorer, single: Scorer, patches: tuple[Patches, Patches]
) -> None:
    for each, spectrum in zip(patches, Spectrum, strict=True):
        described = integers.describe(each, spectrum)
        assert described.shape == (N, 128)
        np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=1e-5)
        assert np.einsum("ij,ij->i", described, single.describe(each, spectrum)).min() > 0.98


def test_scores_depend_on_neither_order_nor_threads(integers: OnnxScorer, patches: tuple[Patches, Patches]) -> None:
    random = np.random.default_rng(1)
    left, right = random.integers(N, size=(2, 50))
    scores, order = integers.score(*patches, left, right), random.permutation(50)
    shuffled = OnnxScorer(threads=3).score(*patches, left[order], right[order])
    np.testing.assert_allclose(shuffled, scores[order], atol=0.02)


def test_nothing_to_do_gives_nothing(integers: OnnxScorer, patches: tuple[Patches, Patches]) -> None:
    none = np.empty(0, np.int64)
    assert integers.score(*patches, none, none).shape == (0,)
    assert integers.describe(patches[0][:0], Spectrum.VISIBLE).shape == (0, 128)


def test_its_name_tells_the_weights_and_that_they_are_integers(integers: OnnxScorer, single: Scorer) -> None:
    assert integers.name == f"{single.name} int8"
    assert str(integers.device) == str(single.device)


def test_notes_are_read_without_the_weights() -> None:
    assert read_notes(Path(str(SHIPPED / "rrlnet.safetensors"))) == read_weights().notes


def test_integers_of_other_weights_are_refused(tmp_path: Path) -> None:
    weights = read_weights()
    state = {**weights.state, "metric.6.bias": weights.state["metric.6.bias"] + 1}
    save_weights(tmp_path / "other.safetensors", state, {})
    with pytest.raises(InputError, match=r"was made from weights .*make it again"):
        OnnxScorer(weights=tmp_path / "other.safetensors")


@pytest.mark.parametrize("damage", ["none", "cut", "text"])
def test_a_file_that_cannot_be_used_is_reported(tmp_path: Path, damage: str) -> None:
    path, content = tmp_path / INTEGERS, (files("rrl_register") / "nn" / "weights" / INTEGERS).read_bytes()
    if damage != "none":
        path.write_bytes({"cut": content[:-1000], "text": b"no model"}[damage])
    with pytest.raises(InputError, match="cannot be run") as caught:
        OnnxScorer(model=path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changed", ["input", "type", "rank", "output"])
def test_other_graphs_are_refused(tmp_path: Path, changed: str) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    model = onnx.load(str(SHIPPED / INTEGERS))
    if changed == "output":
        del model.graph.output[1]
    elif changed == "input":
        model.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))
    elif changed == "type":
        model.graph.input[2].type.tensor_type.elem_type = onnx.TensorProto.INT32
    else:
        del model.graph.input[3].type.tensor_type.shape.dim[:]
    onnx.save(model, str(tmp_path / "x.onnx"))
    with pytest.raises(InputError, match=r"other inputs or outputs|cannot be run"):
        OnnxScorer(model=tmp_path / "x.onnx")


@pytest.mark.parametrize("content", [b"", b"\x05\0\0\0\0\0\0\0no js", b"\x02\0\0\0\0\0\0\0[]"])
def test_weights_without_notes_are_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no safetensors file"):
        read_notes(path)


def test_the_file_is_small_enough_to_ship() -> None:
    assert len((SHIPPED / INTEGERS).read_bytes()) <= 12e6

"""The network in one file for elsewhere: the same scores, what it says of itself, what is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open
from torch import Tensor

from rrl_register.cli import main
from rrl_register.errors import InputError, OutputExistsError, UsageError
from rrl_register.nn import export_formats as formats
from rrl_register.nn.architecture import PAPER, Architecture, InteractionKind
from rrl_register.nn.export_formats import ExportFormat, export_format
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.weights import SCHEMA, Weights, load_weights, prune_weights, read_weights
from rrl_register.training.export import NOTES_FILE, OUTPUTS, export_weights, source_weights
from rrl_register.training.run_files import save_checkpoint
from weights_files import save_weights

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")

NARROW = Architecture(width=0.25, interaction=InteractionKind.DIFFERENCE)
COUNTS = [1, 4]
"""Numbers of pairs that none of the exported files was traced with."""

Answer = tuple[np.ndarray, ...]


@pytest.fixture(scope="module")
def net(make_network: Callable[..., RRLNet]) -> RRLNet:
    return make_network(training_heads=True)


@pytest.fixture(scope="module")
def weights(net: RRLNet) -> Weights:
    return prune_weights(net.state_dict(), {"name": "made", "licence": "CC0-1.0"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


def checkpoint(path: Path, state: dict[str, Tensor], **more: Any) -> Path:
    save_checkpoint(path, {"step": 7, "network": {}, "mean": state, **more})
    return path


def pairs(n: int) -> tuple[Tensor, Tensor]:
    one, two = torch.rand(2, n, 1, 64, 64, generator=torch.Generator().manual_seed(n))
    return one, two


@torch.no_grad()
def expected(weights: Weights, n: int) -> Answer:
    net = weights.network()
    one, two = (net.encode(p, s) for p, s in zip(pairs(n), Spectrum, strict=True))
    return net.score(one, two).numpy(), one.descriptors.numpy(), two.descriptors.numpy()


def assert_alike(found: Answer, wanted: Answer) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, words)])


# -- same scores ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_safetensors_scores_as_the_network_rounded_to_half(net: RRLNet, weights: Weights, folder: Path) -> None:
    export_weights(weights, folder / "made.safetensors", ExportFormat.SAFETENSORS)
    loaded, name = load_weights(folder / "made.safetensors")
    assert name == f"made {weights.notes['checksum'][:8]}"
    for key, value in loaded.state_dict().items():
        original = net.state_dict()[key]
        assert torch.equal(value, original.half().float() if value.is_floating_point() else original)
    scores = expected(weights, 4)[0]
    assert scores.std() > 0.1
    one, two = (loaded.encode(p, s) for p, s in zip(pairs(4), Spectrum, strict=True))
    assert np.array_equal(loaded.score(one, two).numpy(), scores)


@pytest.fixture(scope="module")
def torchscript(weights: Weights, folder: Path) -> Path:
    export_weights(weights, folder / "made.pt", ExportFormat.TORCHSCRIPT)
    return folder / "made.pt"


@pytest.mark.parametrize("n", COUNTS)
@torch.no_grad()
def test_torchscript_scores_the_same(n: int, torchscript: Path, weights: Weights) -> None:
    function = torch.jit.load(torchscript)
    for _ in range(3):  # the first calls are observed and the function compiled anew
        assert_alike(tuple(out.numpy() for out in function(*pairs(n))), expected(weights, n))


def test_torchscript_says_what_it_is(torchscript: Path, weights: Weights) -> None:
    extra = {NOTES_FILE: ""}
    torch.jit.load(torchscript, _extra_files=extra)
    assert_described(json.loads(extra[NOTES_FILE]), weights)


@pytest.fixture(scope="module")
def onnx_file(weights: Weights, folder: Path) -> Path:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    export_weights(weights, folder / "made.onnx", ExportFormat.ONNX)
    return folder / "made.onnx"


def test_onnx_scores_the_same(onnx_file: Path, weights: Weights) -> None:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    assert tuple(out.name for out in session.get_outputs()) == OUTPUTS
    for n in COUNTS:
        one, two = pairs(n)
        found = session.run(None, {"visible": one.numpy(), "other": two.numpy()})
        assert_alike(tuple(found), expected(weights, n))


def test_onnx_is_one_sound_file_that_says_what_it_is(onnx_file: Path, weights: Weights) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(onnx_file)
    onnx.checker.check_model(model, full_check=True)
    assert_described({entry.key: entry.value for entry in model.metadata_props}, weights)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert b"rrlnet.py" not in onnx_file.read_bytes()
    assert {path.suffix for path in onnx_file.parent.iterdir()} <= {".onnx", ".pt", ".safetensors"}


def assert_described(notes: dict[str, str], weights: Weights) -> None:
    assert notes == weights.notes
    assert {"name": "made", "schema": SCHEMA, "licence": "CC0-1.0"}.items() <= notes.items()
    assert json.loads(notes["architecture"]) == PAPER.to_dict()
    assert len(notes["checksum"]) == 64


@torch.no_grad()
def test_another_architecture_is_exported_too(tmp_path: Path) -> None:
    torch.manual_seed(41)
    narrow = prune_weights(RRLNet(architecture=NARROW).state_dict(), {}, NARROW)
    export_weights(narrow, tmp_path / "narrow.ts", ExportFormat.TORCHSCRIPT)
    found = torch.jit.load(tmp_path / "narrow.ts")(*pairs(2))
    assert_alike(tuple(out.numpy() for out in found), expected(narrow, 2))


# -- sources ----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_becomes_its_averaged_weights(net: RRLNet, weights: Weights, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "checkpoint.pt", net.state_dict())
    taken = source_weights(path, new_name="mine")
    assert taken.notes["checksum"] == weights.notes["checksum"]
    assert {"name": "mine", "steps": "7"}.items() <= taken.notes.items()
    assert "licence" not in taken.notes
    assert source_weights(path, name="other", new_name="mine").notes["name"] == "other"


def test_a_checkpoint_names_its_architecture(tmp_path: Path) -> None:
    state = RRLNet(architecture=NARROW).state_dict()
    path = checkpoint(tmp_path / "checkpoint.pt", state, architecture=NARROW.to_dict())
    assert source_weights(path).architecture == NARROW
    with pytest.raises(InputError, match="do not fit"):
        source_weights(checkpoint(tmp_path / "unnamed.pt", state))


def test_the_shipped_weights_are_taken_with_their_licence() -> None:
    taken, shipped = source_weights(None), read_weights()
    assert taken.notes == shipped.notes | {"licence": "Apache-2.0"}
    assert taken.state.keys() == shipped.state.keys()


def test_weights_keep_their_name_unless_given_another(weights: Weights, tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", weights.state, {"name": "made"})
    assert source_weights(tmp_path / "a.safetensors", new_name="b").notes["name"] == "made"
    assert source_weights(tmp_path / "a.safetensors", name="c").notes["name"] == "c"


def test_foreign_files_are_refused_in_one_line(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "foreign.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    checkpoint(tmp_path / "odd.pt", {}, architecture={"depth": 3})
    checkpoint(tmp_path / "empty.pt", {})
    (tmp_path / "text.safetensors").write_text("no weights")
    for path in tmp_path.iterdir():
        with pytest.raises(InputError) as caught:
            source_weights(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


class Trap:
    """Something whose unpickling would leave a file behind."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_nothing_is_unpickled_that_could_act(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"step": 1, "mean": Trap(sprung)}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap(sprung)))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(InputError):
            source_weights(tmp_path / name)
    assert not sprung.exists()


# -- files and the command line ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.safetensors", "safetensors"), ("a.onnx", "onnx"), ("a.pt", "torchscript"), ("a.TS", "torchscript")],
)
def test_the_suffix_tells_the_format(name: str, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "ONNX_PACKAGES", ())
    assert export_format(Path(name)) is ExportFormat(format)
    assert export_format(Path(name), ExportFormat.SAFETENSORS) is ExportFormat.SAFETENSORS


def test_an_unknown_suffix_needs_a_format() -> None:
    with pytest.raises(UsageError, match="--format"):
        export_format(Path("weights.bin"))
    assert export_format(Path("weights.bin"), ExportFormat.TORCHSCRIPT) is ExportFormat.TORCHSCRIPT


def test_without_the_extra_onnx_one_line_tells_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "ONNX_PACKAGES", ("onnx", "no_such_package"))
    result = run("-o", tmp_path / "a.onnx")
    assert result.exit_code == 2
    assert "no_such_package" in result.stderr
    assert "pip install 'rrl-register[onnx]'" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_command_exports_a_checkpoint_and_prints_the_path(net: RRLNet, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "checkpoint.pt", net.state_dict())
    output = tmp_path / "mine.safetensors"
    result = run("-o", output, "--weights", source)
    assert (result.exit_code, result.output) == (0, f"{output}\n")
    with safe_open(str(output), framework="pt") as file:
        assert file.metadata()["name"] == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "mine.safetensors"}


def test_the_command_writes_the_format_asked_for_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    output = tmp_path / "any.bin"
    result = run("-o", output, "--format", "torchscript", "--name", "renamed")
    assert (result.exit_code, result.output) == (0, f"{output}\n")
    assert not recwarn.list
    extra = {NOTES_FILE: ""}
    torch.jit.load(output, _extra_files=extra)
    assert json.loads(extra[NOTES_FILE])["name"] == "renamed"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "--output"),
        (["-o", "{tmp}/a.bin"], 2, "--format"),
        (["-o", "{tmp}/a.pt", "--format", "tflite"], 2, "tflite"),
        (["-o", "{tmp}/a.pt", "--weights", "{tmp}/none.pt"], 2, "none.pt does not exist"),
        (["-o", "{tmp}/no/folder/a.pt"], 2, "does not exist"),
        (["-o", "{tmp}/there.safetensors"], 5, "--overwrite"),
        (["-o", "{tmp}/there.safetensors", "--weights", "{tmp}/there.safetensors", "--overwrite"], 2, "the input"),
        (["-o", "{tmp}/a.pt", "--weights", "{tmp}/there.safetensors"], 3, "no safetensors file"),
    ],
)
def test_wrong_use_is_told_in_one_line(words: list[str], code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "there.safetensors").write_text("precious")
    result = run(*(word.format(tmp=tmp_path) for word in ["-q", *words]))
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("there.safetensors", "precious")]


def test_a_file_that_exists_is_replaced_only_if_told(weights: Weights, tmp_path: Path) -> None:
    output = tmp_path / "a.safetensors"
    output.write_text("old")
    with pytest.raises(OutputExistsError):
        export_weights(weights, output, ExportFormat.SAFETENSORS)
    assert output.read_text() == "old"
    export_weights(weights, output, ExportFormat.SAFETENSORS, overwrite=True)
    assert read_weights(output).notes == weights.notes


def test_an_export_that_fails_leaves_nothing(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(torch.jit, "save", fail)
    with pytest.raises(InputError, match="no space left"):
        export_weights(weights, tmp_path / "a.pt", ExportFormat.TORCHSCRIPT)
    assert not list(tmp_path.iterdir())

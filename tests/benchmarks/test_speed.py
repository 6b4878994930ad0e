"""The harness of speed: the plain network is the network, forms agree, commits are compared, stages add up."""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest
import torch

from rrl_register.matching import guided_matching as guided
from rrl_register.nn.encoder import MGLA
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import RRLNet

torch.set_num_threads(1)

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
Load = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    """Benchmarks are scripts: they find one another beside themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module


@torch.no_grad()
def test_plain_attention_is_the_attention(load: Load) -> None:
    torch.manual_seed(1)
    attention = MGLA(12, 8)
    x = 3 * torch.randn(2, 12, 8, 8)
    torch.testing.assert_close(load("plain_network").PlainMGLA(attention)(x), attention(x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_every_form_of_the_network_says_the_same(load: Load, make_network: Callable[..., RRLNet]) -> None:
    speed = load("speed")
    patches = torch.rand(2, 3, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    forms = speed.build_forms(make_network(), torch.device("cpu"))
    assert forms[0].encoder is speed.plain_encode
    assert not any(isinstance(module, MGLA) for module in forms[0].network.modules())
    answers = []
    for form in forms:
        if not form.fastest:
            features = form.encode(patches[0], Spectrum.VISIBLE), form.encode(patches[1], Spectrum.OTHER)
            answers.append((features[0].descriptors, form.relation(form.network, *features)))
    for descriptors, scores in answers[1:]:
        torch.testing.assert_close(descriptors, answers[0][0], rtol=0, atol=1e-5)
        torch.testing.assert_close(scores, answers[0][1], rtol=0, atol=1e-4)


@torch.no_grad()
def test_onnx_runtime_says_what_the_network_says(load: Load, make_network: Callable[..., RRLNet]) -> None:
    network, patches = make_network(), torch.rand(2, 2, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    features = network.encode(patches[0], Spectrum.VISIBLE), network.encode(patches[1], Spectrum.OTHER)
    expected = network.score(*features)
    single, integers = load("speed").runtime_forms(network, patches, 1)
    kept = single.graphs.encode(patches)
    torch.testing.assert_close(torch.from_numpy(kept[0]), features[0].descriptors, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(single.graphs.relate(kept)), expected, rtol=0, atol=1e-4)
    assert integers.graph.score(patches).shape == (2,)
    for form in (single, integers):
        form.time(patches, iter((1.0, 3.0, 8.0)).__next__)
        assert (form.encoding, form.relating[0]) == ([0.5], 2.5 if form is single else 1.5)


def test_rates_are_best_and_ratios_are_of_the_same_round(load: Load) -> None:
    speed = load("speed")
    plain = speed.Timed("plain", encoding=[9.0, 0.2, 0.4], relating=[9.0, 1.0, 1.0])
    quick = speed.Timed("quick", encoding=[9.0, 0.1, 0.1], relating=[9.0, 0.5, 0.25])
    lines = speed.report([plain, quick], speed.Floor(1e9, 1e9, 0.1, 0.5)).splitlines()
    assert lines[0] == "matrix product 1.0 GFLOP/s, copying 1.0 GB/s"
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[-3:]]
    assert cells[0] == ["plain", "5.0", "1.00", "1.0", "1.00", "0.7", "1.00"]
    assert cells[1] == ["quick", "10.0", "3.00", "4.0", "3.00", "2.2", "3.00"]
    assert cells[2] == ["floor of the plain form", "10", "-", "2", "-", "1", "-"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits of a package that knows one number, 4 and then 3."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git = ("git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run([*git, "init", "--quiet"], check=True)
    for number in (4, 3):
        (folder / "thing.py").write_text(f"NUMBER = {number}\n")
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", f"{number}"], check=True)
    return folder


def test_commits_are_compared_by_what_their_package_does(
    load: Load, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)  # whose package is none of the two that are compared, though it lies nearest
    (repository / "thing.py").write_text("NUMBER = 9\n")
    command = ["-c", "import json, thing; print('noise'); print(json.dumps({'number': thing.NUMBER}))"]
    table = load("compare_commits").compare(["HEAD~1", "HEAD"], command, 2, repository)
    rows = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]] for line in table.splitlines()}
    assert rows["number"] == ["4", "3", "0.750"]
    assert {"seconds", "cpu_seconds", "peak_mib"} < rows.keys()
    listed = subprocess.run(["git", "-C", str(repository), "worktree", "list"], capture_output=True, text=True)
    assert listed.stdout.count("\n") == 1


def test_a_command_that_fails_leaves_no_work_tree(load: Load, repository: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        load("compare_commits").compare(["HEAD~1", "HEAD"], ["-c", "raise SystemExit(3)"], 1, repository)
    assert not list((repository / ".git" / "worktrees").glob("*"))


@pytest.mark.parametrize(
    ("printed", "figures"),
    [
        ("", {}),
        ("nothing\n", {}),
        ("[1, 2]\n", {}),
        (json.dumps({"a": 1, "b": "text", "c": True}) + "\n", {"a": 1}),
        ('{"a": 1}\n{"a": 2.5}\n', {"a": 2.5}),
    ],
)
def test_figures_are_the_numbers_of_the_last_line(load: Load, printed: str, figures: dict[str, float]) -> None:
    assert load("compare_commits").figures_in(printed) == figures


def test_stages_are_watched_for_a_while_and_add_up(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = load("stages")
    monkeypatch.setattr(guided, "detect", lambda: "points")
    ticks = count()
    seconds = {"import": 4.0}
    with stages.watched(seconds, lambda: float(next(ticks))):
        assert guided.detect() == guided.detect() == "points"
    assert seconds == {"import": 4.0, "detect": 2.0}
    guided.detect()
    assert seconds["detect"] == 2
    rows = {
        line.split("|")[1].strip(): line.split("|")[2].strip() for line in stages.report(seconds, 10).split("\n")[:-2]
    }
    assert (rows["find keypoints"], rows["the rest"], rows["whole"]) == ("2.00", "4.00", "10.00")

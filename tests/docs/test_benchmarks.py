"""Every line of the documentation that runs a benchmark is run, on small files and as briefly as its options allow.

What takes long is stood in for: the search for a transform by a known one, rival methods that need an environment of
their own by an interpreter that knows the answer. All else, from the command line to the tables, is the script's own.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import rasterio
import torch
from case_maker.difficulties import DIFFICULTIES

import docs_scripts
import known_search
from docs_pages import lines_of, scripts_shown, shown_commands
from docs_scripts import FAMILIES, KNOWN, SIDE, SUITES, cells_of, run_here, run_script, smaller
from rrl_register.batch import dask_local, executors
from rrl_register.batch import work as batch_work
from rrl_register.batch.executors import in_turn
from rrl_register.exchange.registration import Registration
from rrl_register.nn.inference import load as scorers
from rrl_register.nn.inference.load import load_scorer
from rrl_register.pipeline import register as pipeline
from rrl_register.raster.grid import Grid

REPOSITORY = docs_scripts.REPOSITORY
ANSWER = {"status": "ok", "reason": "", "matrix": KNOWN.tolist(), "n_inliers": 30}
KNOWS_THE_ANSWER = """#!/bin/sh
# An interpreter of a rival method: it has every package, and whatever it runs writes the known answer.
test "$1" = -c && exit 0
for result; do :; done
cp ANSWER "$result"
"""
KNOWS_THE_SEARCH = """#!/bin/sh
# An interpreter whose rrl_register finds the known transform.
PYTHONPATH="{repository}" exec "{python}" "{script}" "{known}" "$@"
"""
IN_THIS_ENVIRONMENT = ("ours", "sift", "template", "gradient-phase", "phase-correlation")
METHODS = (*IN_THIS_ENVIRONMENT, "elastix", "aliked", "xfeat")
Run = Callable[..., str]


@pytest.fixture
def known(make_registration: Callable[..., Registration]) -> Registration:
    grid = Grid(SIDE, SIDE)
    return make_registration(matrix=KNOWN, fixed_grid=grid, moving_grid=grid)


@pytest.fixture
def world(tmp_path: Path, known: Registration, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory: images, pairs and patches; the search is stood in for in this process."""
    folder = tmp_path / "world"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "data").symlink_to(REPOSITORY / "data")
    docs_scripts.write_images(folder)
    docs_scripts.write_pairs(folder / "PAIRS.json")
    monkeypatch.setattr(pipeline, "register", known_search.known_search(known))
    monkeypatch.setattr(scorers, "load_scorer", lambda *arguments, **more: None)
    with docs_scripts.fresh_modules():
        yield folder


@pytest.fixture
def run(world: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    return partial(run_script, capfd=capfd)


@pytest.fixture
def processes(world: Path, known: Registration, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of their own that run the program are started as ever, and find the known transform."""
    (world / "known").write_bytes(pickle.dumps(known))
    places = {"script": known_search.__file__, "known": world / "known", "repository": REPOSITORY}
    text = KNOWS_THE_SEARCH.format(python=sys.executable, **places)
    monkeypatch.setattr(sys, "executable", str(executable(world / "python", text)))


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_every_benchmark_that_is_shown_is_run_by_a_test_of_this_module() -> None:
    source = Path(__file__).read_text()
    assert scripts_shown("benchmarks") == set(re.findall(r'^@lines_of\("(.*)"\)', source, re.MULTILINE))


def interpreters() -> list[str]:
    """What PYTHONS stands for: the interpreters that the page on benchmarks names once."""
    lines = [words for (words,) in (each.values for each in shown_commands()) if words.count("--python") > 1]
    return [word for word in lines[0] if word == "--python" or "=" in word]


@pytest.fixture
def rivals(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environments of the other methods; those of this environment are run in this process."""
    (world / "ANSWER").write_text(json.dumps(ANSWER))
    for method in ("elastix", "aliked", "xfeat"):
        executable(world / "ENVS" / method / "bin" / "python", KNOWS_THE_ANSWER)
    monkeypatch.setattr(subprocess, "run", run_here)


@lines_of("benchmarks/pairs.py")
@pytest.mark.usefixtures("rivals")
def test_pairs(words: list[str], run: Run, world: Path) -> None:
    (world / "HARD").mkdir()
    docs_scripts.write_images(world / "HARD")
    docs_scripts.write_pairs(world / "HARD" / "pairs.json")
    words = with_interpreters(words)
    if "--report" in words:
        printed = run([word for word in words if word != "--report"])
        (world / "FIXED").unlink()  # no pair can be registered any more
        assert run(words) == printed
    by_suite, *others = run(words).split("\n\n")
    suites = option(words, "--suite", ",".join(SUITES)).split(",")
    lines = {tuple(line[:2]): line for line in cells_of(by_suite)}
    skipped = [row[0] for row in cells_of(others[-1]) if "No module named" in row[1]]
    methods = [m for m in option(words, "--methods", ",".join(METHODS)).split(",") if m not in skipped]
    assert not {*IN_THIS_ENVIRONMENT, *re.findall(r"--python (\w+)=", " ".join(words))} & set(skipped)
    assert {(suite, method) for suite in [*suites, "all"] for method in methods} <= set(lines)
    assert all(lines[suite, "ours"][2:4] == ["1", "1.00"] for suite in suites if suite != "negative")
    assert "negative" not in suites or lines["negative", "ours"][-2] == "0 of 1"
    if "--json" in words:
        rows = json.loads((world / option(words, "--json")).read_text())["rows"]
        assert {(row["suite"], row["method"]) for row in rows} == {(s, m) for s in suites for m in methods}
        assert {row["status"] for row in rows} <= {"ok", "failed"}


def with_interpreters(words: list[str]) -> list[str]:
    """PYTHONS are the interpreters that the page on benchmarks names, PYTHON is the one of that method."""
    named = interpreters()
    of_method = {word.partition("=")[0]: word for word in named if "=" in word}
    return [
        each
        for word in words
        for each in (named if word == "PYTHONS" else [of_method[word[:-7]] if word.endswith("=PYTHON") else word])
    ]


def option(words: list[str], name: str, default: str = "") -> str:
    return words[words.index(name) + 1] if name in words else default


@lines_of("benchmarks/hard_cases.py")
def test_hard_cases(words: list[str], run: Run, world: Path) -> None:
    docs_scripts.write_training_pairs(world / "DATA_DIR", {"a": "nir", "b": "nir"}, side=352)
    assert run(smaller(words, {"--per-kind": "1"})).strip() == "HARD/pairs.json"
    listed = json.loads((world / "HARD" / "pairs.json").read_text())
    assert [entry["suite"] for entry in listed] == list(DIFFICULTIES)
    assert all((world / "HARD" / entry[image]).is_file() for entry in listed for image in ("fixed", "moving"))


@lines_of("benchmarks/network_share.py")
def test_network_share(words: list[str], run: Run, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs_scripts.write_training_pairs(world.parent / "train", {"a": "nir"}, side=128)
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import descriptor_alone

    monkeypatch.setattr(descriptor_alone, "PAIRS_PER_GROUP", 4)
    registered, accepted = run(words).split("\n\n")
    variants = ("shipped", "untrained", "descriptor")
    lines = {tuple(line[:2]): line for line in cells_of(registered)}
    assert {(suite, variant) for suite in [*SUITES, "all"] for variant in variants} <= set(lines)
    assert lines["nir", "shipped"][2:4] == ["1", "1.00"]
    shares = cells_of(accepted)[2:]
    assert [row[0] for row in shares] == list(variants)
    assert all(0 <= float(share) <= 1 for row in shares for share in row[1:])


@lines_of("benchmarks/patch_fpr95.py")
def test_patch_fpr95(words: list[str], run: Run, world: Path) -> None:
    docs_scripts.write_patch_sets(world / "PATCH_DIR", FAMILIES[:2])
    header, _, *rows = cells_of(run(words))
    assert header[2:] == ["RRL-Net", "int8", "descriptor", "oriented gradients", "RootSIFT"]
    assert [row[:2] for row in rows] == [[family, "8"] for family in sorted(FAMILIES[:2])]
    assert all(0 <= float(cell) <= 100 for row in rows for cell in row[2:])


@lines_of("benchmarks/resources.py")
@pytest.mark.usefixtures("processes")
def test_resources(words: list[str], run: Run, world: Path) -> None:
    figures = json.loads(run(words))
    assert figures["exit_code"] == 0
    assert figures["seconds"] > 0
    assert figures["peak_mib"] > 10
    with rasterio.open(world / "OUT") as aligned:
        assert aligned.shape == (SIDE, SIDE)


@lines_of("benchmarks/baselines/set_up.py")
def test_set_up(words: list[str], run: Run, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the network: what Python and pip would be told; the interpreter is that of the lines for pairs.py."""
    asked: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **more: asked.append(command))
    printed = run(words).split()
    method, folder = words[2:]
    python = f"{world}/{folder}/bin/python"
    assert asked[0] == [sys.executable, "-m", "venv", folder]
    assert asked[1][:3] == [python, "-m", "pip"]
    assert printed == ["--python", f"{method}={python}"]
    assert f"{method}={folder}/bin/python" in interpreters()
    pinned = [line for line in Path(asked[1][-1]).read_text().splitlines() if line and line[0] not in "#-"]
    assert pinned
    assert all("==" in line for line in pinned)


@lines_of("benchmarks/workers.py")
def test_workers(words: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "ProcessPool", lambda work, workers: in_turn(work))
    monkeypatch.setattr(dask_local, "DaskWorkers", lambda work, folder, workers: in_turn(partial(work, folder=folder)))
    monkeypatch.setattr(batch_work, "_scorer", lambda *arguments: None)
    *lines, table = run(smaller(words, {"--rounds": "1", "--scenes": "2", "--size": "64"})).split("\nworkers", 1)
    runs = [json.loads(line) for line in lines[0].splitlines()]
    assert [each["way"] for each in runs] == ["pool, 1", "pool, 2", "Dask, 1", "Dask, 2"]
    assert {each["failed" if "--idle" in words else "ok"] for each in runs} == {2}
    assert all(each["way"] in table for each in runs)
    assert table.endswith("pixels and results are the same whatever the way\n")


@lines_of("benchmarks/warp_speed.py")
def test_warp_speed(words: list[str], run: Run) -> None:
    figures = json.loads(run(smaller(words, {"--side": "256", "--threads": "2"})))
    assert (figures["side"], figures["dtype"], figures["threads"]) == (256, words[-1], 2)
    assert figures["mpx_per_second"] > 0


@lines_of("benchmarks/speed.py")
def test_speed(words: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    if "cuda" in words:
        assert_it_wants_a_gpu(words, run, monkeypatch)
        return
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import runtime_forms

    # Graphs take seconds to make: tests/benchmarks/test_speed.py.
    graphs = SimpleNamespace(encode=lambda patches: patches, relate=lambda kept: sum(range(1000)))
    monkeypatch.setattr(runtime_forms.SinglePrecision, "of", lambda *arguments: graphs)
    count_nothing(monkeypatch)
    printed = run(smaller(words, {"--rounds": "1", "--batch": "2"}))
    assert printed.startswith("matrix product ")
    header, _, *rows = cells_of(printed)
    assert header[0] == "form"
    assert rows[0][::2][1:] == ["1.00"] * 3
    forms = [row[0] for row in rows]
    assert forms[-3:] == ["ONNX Runtime, single precision", "ONNX Runtime, int8", "floor of the plain form"]


def assert_it_wants_a_gpu(words: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, a script says so in a line."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(scorers, "load_scorer", load_scorer)
        with pytest.raises(AssertionError, match=r"^Error: --device cuda, but torch sees no GPU[^\n]*\n?$"):
            run(words)


def count_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting operations imports PyTorch's compiler, which takes seconds: tests/benchmarks/test_scaling.py."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import operations

    for name in ("count", "of_network"):
        monkeypatch.setattr(operations.Operations, name, lambda *arguments: operations.Operations(1e8, 5e8))


@lines_of("benchmarks/stages.py")
def test_stages(words: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    if "cuda" in words:
        assert_it_wants_a_gpu(words, run, monkeypatch)
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)  # for all tests of this process
    printed = run(words)
    import stages

    rows = {row[0]: row[1] for row in cells_of(printed)[2:]}
    assert list(rows) == [*stages.STAGES.values(), "the rest", "whole"]
    assert float(rows["whole"]) >= float(rows["warp and write"]) > 0
    assert re.search(r"^peak memory \d+ MiB$", printed, re.MULTILINE)


@lines_of("benchmarks/growth.py")
def test_growth(words: list[str], run: Run) -> None:
    rows = cells_of(run([*smaller(words, {"--rounds": "1"}), "--keypoints", "4", "8", "--sides", "64", "96"]))[2:]
    efforts = [(against, effort) for effort in ("normal", "thorough") for against in ("keypoints", "area")]
    assert [tuple(row[:2]) for row in rows] == efforts
    assert [row[2] for row in rows[:2]] == ["4, 8", "4,096, 9,216"]
    assert all(float(row[4]) == float(row[4]) for row in rows)


@lines_of("benchmarks/compare_commits.py")
@pytest.mark.usefixtures("processes")
def test_compare_commits(words: list[str], world: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In a repository of its own, whose package is, at either commit, the program with the known search."""
    shutil.copytree(REPOSITORY / "benchmarks", world / "repository" / "benchmarks")
    package = world / "repository" / "rrl_register"
    package.mkdir()
    (package / "__init__.py").touch()
    git = ("git", "-C", "repository", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run([*git, "init", "--quiet"], check=True)
    for commit in ("BEFORE", "AFTER"):
        (package / "__main__.py").write_text(f"# {commit}\n{runs_instead([str(world / 'python')])}")
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", commit], check=True)
        subprocess.run([*git, "tag", commit], check=True)
    printed = run_script(smaller(words, {"--rounds": "1"}), capfd, world / "repository")
    header, _, *rows = cells_of(printed)
    assert header == ["figure", "before", "after", "ratio"]
    assert [row[0] for row in rows] == ["seconds", "cpu_seconds", "peak_mib"]
    assert all(float(row[1]) > 0 for row in rows)
    assert (world / "OUT.tif").is_file()


def runs_instead(command: list[str]) -> str:
    """Python that becomes another program, with its own arguments."""
    return f"import os, sys\nos.execv({command[0]!r}, [*{command!r}, *sys.argv[1:]])\n"


@lines_of("benchmarks/report_size.py")
def test_report_size(words: list[str], run: Run, world: Path, known: Registration) -> None:
    (world / "RESULT.json").write_text(json.dumps(known.to_json()))
    words = smaller(words, {"--runs": "1"})
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        with pytest.raises(AssertionError, match=r"^none of chromium, [^\n]* is installed; try: make browser\n?$"):
            run(words)
        return
    figures = json.loads(run(words))
    assert figures["bytes"] > 10_000
    assert figures["drawn"] >= figures["load"] > 0


@lines_of("benchmarks/scaling.py")
@pytest.mark.usefixtures("processes")
def test_scaling(words: list[str], run: Run, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count_nothing(monkeypatch)
    sides = ["96"] if {"--sides", "--report"} & set(words) else ["96", "128"]  # two tell of an archive
    words = smaller(words, {"--sides": ",".join(sides)})
    printed = run([word for word in words if word != "--report"])
    if "--report" in words:
        (world / "python").unlink()  # nothing is run any more
        assert run(words) == printed
    stages = option(words, "--stages", "register,warp").split(",")
    rows = json.loads((world / option(words, "--json")).read_text())
    assert [(row["side"], row["stage"]) for row in rows] == [(int(side), stage) for side in sides for stage in stages]
    assert all(row["exit_code"] == 0 for row in rows)
    assert all(f"`{stage}`:" in printed for stage in stages)
    assert "GPU, calculated and not measured" in printed
    assert ("processor hours" in printed) == (len(sides) > 1)
    assert not list((world / "FOLDER").iterdir())

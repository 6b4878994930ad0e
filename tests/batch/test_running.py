"""A batch as a whole: what ends it, what does not, and what is there afterwards.

Registration is stood in for by something quick.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from rrl_register.batch import BatchItem, Manifest, Outcome, Progress, Summary, run_batch
from rrl_register.batch.executors import Outcomes, in_turn
from rrl_register.batch.journal import FAILED, FILE_NAME, OK, Journal, State
from rrl_register.config import BatchConfig, RegisterConfig, WarpConfig
from rrl_register.errors import OutputExistsError, UsageError, WriteError

RESUME = BatchConfig(resume=True)


def manifest(*names: str, folder: Path = Path("in"), config: RegisterConfig | None = None) -> Manifest:
    settings = config or RegisterConfig()
    return Manifest("test", tuple(BatchItem(n, folder / f"{n}_f.tif", folder / f"{n}_m.tif", settings) for n in names))


class Bench:
    """An output folder, and work that notes what it is asked for; what a scene is to fail of can be told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worked: list[str] = []
        self.trouble: dict[str, BaseException | Outcome] = {}

    def work(self, scene: BatchItem) -> Outcome:
        self.worked.append(scene.id)
        trouble = self.trouble.get(scene.id)
        if isinstance(trouble, BaseException):
            raise trouble
        if trouble is not None:
            return trouble
        for suffix in (".tif", ".json"):
            (self.folder / f"{scene.id}{suffix}").write_text(scene.id)
        return Outcome(scene.id, OK, seconds=1.0, figures={"n_inliers": 30})

    def run(self, scenes: Manifest, config: BatchConfig | None = None, **more: Any) -> Summary:
        self.worked.clear()
        return run_batch(scenes, self.folder, config, executor=in_turn(self.work), **more)

    def states(self) -> dict[str, State]:
        with Journal(self.folder, "test") as journal:
            return journal.states()

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "new" / "out")


def test_every_scene_is_done_and_told(bench: Bench) -> None:
    bench.trouble["b"] = Outcome("b", FAILED, "no overlap", 3)
    summary = bench.run(manifest("a", "b", "c"))
    assert bench.worked == ["a", "b", "c"]
    written = json.loads((bench.folder / "summary.json").read_text())
    assert written == summary.to_json()
    assert written["counts"] == {"total": 3, "ok": 2, "failed": 1}
    assert [(pair["id"], pair["status"], pair["reason"]) for pair in written["pairs"]] == [
        ("a", "ok", ""),
        ("b", "failed", "no overlap"),
        ("c", "ok", ""),
    ]
    assert written["pairs"][0]["n_inliers"] == 30
    assert (written["pairs"][0]["output"], written["pairs"][1]["output"]) == ("a.tif", None)
    assert bench.names() == {"a.tif", "a.json", "c.tif", "c.json", "summary.json", FILE_NAME}


def test_progress_counts_scenes_failures_and_time(bench: Bench) -> None:
    bench.trouble["b"] = Outcome("b", FAILED, "no overlap", 3)
    seen: list[Progress] = []
    bench.run(manifest("a", "b", "c"), watch=seen.append)
    assert [(p.n_finished, p.n_failed) for p in seen] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert seen[0].outcome is None
    assert seen[-1].seconds_left == 0
    bench.run(manifest("a", "b", "c", "d"), RESUME, watch=seen.append)
    assert (seen[-1].n_finished, seen[-1].n_failed, seen[-1].n_worked) == (4, 1, 1)


def test_rate_and_time_left_are_those_of_this_run() -> None:
    progress = Progress(n_scenes=100, n_finished=40, n_failed=2, n_worked=10, seconds=20.0)
    assert (progress.scenes_per_minute, progress.seconds_left) == (30.0, 120.0)
    assert Progress(5, 0, 0).scenes_per_minute is None
    assert Progress(5, 0, 0).seconds_left is None


def test_a_second_run_needs_to_be_told_what_to_do(bench: Bench) -> None:
    bench.run(manifest("a", "b"))
    with pytest.raises(OutputExistsError, match=r"--resume.*--overwrite"):
        bench.run(manifest("a", "b"))
    with pytest.raises(UsageError, match="choose"):
        bench.run(manifest("a", "b"), BatchConfig(resume=True, overwrite=True))
    assert not bench.worked
    bench.run(manifest("a", "b"), RESUME)
    assert not bench.worked
    bench.run(manifest("a", "b"), BatchConfig(overwrite=True))
    assert bench.worked == ["a", "b"]


def test_resuming_does_what_is_new_changed_or_lost(bench: Bench, tmp_path: Path) -> None:
    bench.run(manifest("a", "b", "c", folder=tmp_path))
    (tmp_path / "a_m.tif").write_text("a new image")
    (bench.folder / "b.tif").unlink()
    bench.run(manifest("a", "b", "c", "d", folder=tmp_path), RESUME)
    assert bench.worked == ["a", "b", "d"]
    bench.run(manifest("a", "b", folder=tmp_path, config=RegisterConfig(warp=WarpConfig(nodata=0))), RESUME)
    assert bench.worked == ["a", "b"]


def test_failures_are_final_unless_told_otherwise(bench: Bench) -> None:
    bench.trouble["b"] = Outcome("b", FAILED, "no overlap", 3)
    bench.run(manifest("a", "b"))
    assert bench.run(manifest("a", "b"), RESUME).counts()["failed"] == 1
    assert not bench.worked
    bench.trouble.clear()
    assert bench.run(manifest("a", "b"), BatchConfig(retry_failed=True)).counts()["failed"] == 0
    assert bench.worked == ["b"]


def test_files_of_others_are_kept(bench: Bench) -> None:
    bench.folder.mkdir(parents=True)
    (bench.folder / "b.json").write_text("precious")
    with pytest.raises(OutputExistsError, match=r"b\.json exists"):
        bench.run(manifest("a", "b"))
    assert bench.names() == {"b.json"}
    bench.run(manifest("a"))
    with pytest.raises(OutputExistsError, match=r"b\.json exists"):
        bench.run(manifest("a", "b"), RESUME)
    assert (bench.folder / "b.json").read_text() == "precious"


def test_an_input_is_never_an_output(bench: Bench) -> None:
    bench.folder.mkdir(parents=True)
    image = bench.folder / "a.tif"
    image.write_text("pixels")
    link = bench.folder.parent / "link"
    link.symlink_to(bench.folder)
    for moving in (image, link / "a.tif"):
        scenes = Manifest("test", (BatchItem("a", Path("f.tif"), moving),))
        with pytest.raises(UsageError, match="is an input"):
            bench.run(scenes, BatchConfig(overwrite=True))
    assert image.read_text() == "pixels"


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), WriteError("the disk is full"), ZeroDivisionError()])
def test_what_ends_a_batch_leaves_a_journal_to_go_on_from(bench: Bench, trouble: BaseException) -> None:
    bench.trouble["b"] = trouble
    with pytest.raises(type(trouble)):
        bench.run(manifest("a", "b", "c"))
    assert bench.states() == {"a": State.DONE, "b": State.PENDING, "c": State.PENDING}
    bench.trouble.clear()
    assert bench.run(manifest("a", "b", "c"), RESUME).counts()["ok"] == 3
    assert bench.worked == ["b", "c"]


class PressesCtrlC:
    """Presses Ctrl-C while its destructor runs, where Python drops the KeyboardInterrupt."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_that_python_drops_ends_a_batch_all_the_same(bench: Bench) -> None:
    def outcomes(scenes: Iterable[BatchItem]) -> Outcomes:
        for scene in scenes:
            if scene.id == "b":
                PressesCtrlC()
            yield bench.work(scene)

    bench.folder.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        run_batch(manifest("a", "b", "c"), bench.folder, executor=outcomes)
    assert bench.states() == {"a": State.DONE, "b": State.DONE, "c": State.PENDING}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_batch_leaves_a_handler_of_ctrl_c_alone(bench: Bench) -> None:
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        bench.run(manifest("a"), watch=lambda progress: signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [signal.SIGINT] * 2


def test_unfinished_files_of_a_killed_run_are_cleared_away(bench: Bench) -> None:
    bench.run(manifest("a"))
    (bench.folder / ".b.0123abcd.part.tif").write_text("half")
    (bench.folder / "mine.part.tif").write_text("mine")
    attempt = bench.folder / ".attempts-0123" / "4567"
    attempt.mkdir(parents=True)
    (attempt / "b.tif").write_text("not told of")
    bench.run(manifest("a", "b"), RESUME)
    assert not [name for name in bench.names() if name.startswith(".")]
    assert "mine.part.tif" in bench.names()


def test_an_output_folder_that_cannot_be(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="Cannot make the output folder"):
        run_batch(manifest("a"), tmp_path / "file" / "out")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match="cannot be written to"):
        bench.run(manifest("a"))
    assert not bench.names()

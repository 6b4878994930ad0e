"""Summary and progress of a batch, and attempts at scenes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.batch import BatchItem, Outcome, Progress, Scene, Summary
from rrl_register.batch.journal import FAILED, FIGURES, OK, outputs_of
from rrl_register.batch.work import begin_attempt, keep_attempt, open_attempts, remove_attempts, writing_to
from rrl_register.config import __version__
from rrl_register.errors import WriteError

PAIRS = (
    (BatchItem("a", Path("f/a.tif"), Path("m/a.tif")), Outcome("a", OK, seconds=1.5, figures={"n_inliers": 30})),
    (BatchItem("b", Path("f/b.tif"), Path("m/b.tif")), Outcome("b", FAILED, "Too dark; try other bands", 4, 0.5)),
)


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    (tmp_path / "b.json").write_text("{}")
    return Summary(tmp_path, "scenes.csv", PAIRS)


def test_the_public_name_of_an_item_is_scene() -> None:
    assert Scene is BatchItem


def test_scenes_are_counted_by_status(summary: Summary) -> None:
    assert summary.counts() == {"total": 2, "ok": 1, "failed": 1}
    assert [outcome.id for outcome in summary.failed] == ["b"]
    assert Summary(summary.folder, "none", ()).counts() == {"total": 0, "ok": 0, "failed": 0}


def test_the_summary_is_json_with_one_record_per_scene(summary: Summary) -> None:
    data = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert (data["schema"], data["version"], data["manifest"]) == (1, __version__, "scenes.csv")
    first, second = data["pairs"]
    assert first == {
        "id": "a",
        "status": "ok",
        "reason": "",
        "exit_code": 0,
        "fixed": "f/a.tif",
        "moving": "m/a.tif",
        "output": "a.tif",
        "result": None,
        "seconds": 1.5,
        "n_inliers": 30,
    }
    assert (second["output"], second["result"], second["exit_code"]) == (None, "b.json", 4)
    assert [second[figure] for figure in FIGURES] == [None] * len(FIGURES)


@given(total=st.integers(1, 99), outcomes=st.lists(st.booleans(), min_size=1, max_size=20), seconds=st.floats(0.1, 1e6))
def test_progress_adds_up(total: int, outcomes: list[bool], seconds: float) -> None:
    progress = Progress(total + len(outcomes), 0, 0)
    for number, ok in enumerate(outcomes, 1):
        progress = progress.after(Outcome(str(number), OK if ok else FAILED), seconds * number)
    assert (progress.n_finished, progress.n_worked, progress.n_failed) == (len(outcomes),) * 2 + (
        outcomes.count(False),
    )
    assert progress.scenes_per_minute == pytest.approx(60 / seconds)
    assert progress.seconds_left == pytest.approx(total * seconds)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_folder_of_attempts_is_gone_after_the_block(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_attempts(tmp_path) as attempts:
        assert attempts.parent == tmp_path
        (begin_attempt(attempts) / "a.tif").write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == set()


def test_attempts_of_a_killed_run_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".attempts-1" / "2").mkdir(parents=True)
    (tmp_path / ".attempts-1" / "2" / "a.tif").write_text("half")
    (tmp_path / "attempts-1").mkdir()
    remove_attempts(tmp_path)
    assert names(tmp_path) == {"attempts-1"}


def test_an_attempt_that_is_kept_replaces_both_files_of_its_scene(tmp_path: Path) -> None:
    for path in outputs_of("a", tmp_path):
        path.write_text("earlier")
    (tmp_path / "b.tif").write_text("another scene")
    with open_attempts(tmp_path) as attempts:
        attempt = begin_attempt(attempts)
        (attempt / "a.json").write_text("failed")
        keep_attempt(attempt, Outcome("a", FAILED), tmp_path)
        assert not attempt.exists()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.json": "failed",
        "b.tif": "another scene",
    }


def test_two_attempts_never_share_a_folder(tmp_path: Path) -> None:
    with open_attempts(tmp_path) as attempts:
        assert len({begin_attempt(attempts) for _ in range(20)}) == 20


def test_errors_of_writing_are_one_line_with_a_remedy(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteError, match=r"Cannot write to the output folder .*No such file.*--resume$"),
        writing_to(tmp_path),
    ):
        (tmp_path / "gone" / "a.tif").write_text("")
    with pytest.raises(WriteError, match="Cannot write to the output folder"), open_attempts(tmp_path / "gone"):
        pass
    with pytest.raises(ZeroDivisionError), writing_to(tmp_path):
        raise ZeroDivisionError

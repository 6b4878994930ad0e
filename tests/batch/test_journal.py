"""The journal: what it remembers, what it asks to be done again, whom it turns away."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rrl_register.batch import journal as journal_module
from rrl_register.batch.journal import FAILED, FILE_NAME, OK, Journal, Outcome, State, fingerprint
from rrl_register.batch.manifest import BatchItem
from rrl_register.config import EstimateConfig, MatchConfig, RegisterConfig
from rrl_register.errors import InputError, UsageError, WriteError

MARKS = {"a": "1", "b": "1", "c": "1", "d": "1"}
DONE = Outcome("a", OK, seconds=1.5, figures={"n_inliers": 30, "rmse_px": None})
LOST = Outcome("b", FAILED, "no overlap", 3, 0.5, {"n_inliers": None}, "Traceback")


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The folder of a batch that ended with one scene each done, failed, in work and pending."""
    with Journal(tmp_path, "scenes.csv") as journal:
        journal.add_scenes(MARKS)
        for name in "abc":
            journal.start(name)
        journal.finish(DONE)
        journal.finish(LOST)
    return tmp_path


def states(folder: Path, marks: dict[str, str] = MARKS, retry_failed: bool = False) -> str:
    """First letters of the states after scenes were taken in again."""
    with Journal(folder, "scenes.csv") as journal:
        journal.add_scenes(marks, retry_failed)
        return "".join(state[0] for _, state in sorted(journal.states().items()))


def test_states_follow_what_is_noted(left: Path) -> None:
    with Journal(left, "scenes.csv") as journal:
        assert journal.states() == {"a": State.DONE, "b": State.FAILED, "c": State.RUNNING, "d": State.PENDING}


def test_outcomes_come_back_as_they_were(left: Path) -> None:
    with Journal(left, "scenes.csv") as journal:
        assert journal.outcomes() == {"a": DONE, "b": LOST}


def test_what_was_interrupted_is_pending_again(left: Path) -> None:
    assert states(left) == "dfpp"


def test_failures_are_tried_again_on_demand(left: Path) -> None:
    assert states(left, retry_failed=True) == "dppp"


def test_what_changed_is_pending_again(left: Path) -> None:
    assert states(left, {**MARKS, "a": "2", "b": "2"}) == "pppp"


def test_scenes_may_be_added_and_taken_out(left: Path) -> None:
    """What is not in the manifest any more is remembered, for it may come back."""
    assert states(left, {"a": "1", "e": "1"}) == "dfppp"


def test_attempts_are_counted_until_something_changes(left: Path) -> None:
    def attempts() -> int:
        with closing(sqlite3.connect(left / FILE_NAME)) as database:
            return int(database.execute("SELECT attempts FROM scenes WHERE id = 'c'").fetchone()[0])

    with Journal(left, "scenes.csv") as journal:
        journal.add_scenes(MARKS)
        journal.start("c")
    assert attempts() == 2
    states(left, {**MARKS, "c": "2"})
    assert attempts() == 0


def test_interruptions_and_lost_outputs_are_noted(left: Path) -> None:
    with Journal(left, "scenes.csv") as journal:
        journal.interrupt()
        journal.reopen("a")
        assert [journal.states()[name] for name in "ac"] == [State.PENDING, State.PENDING]
        assert set(journal.outcomes()) == {"b"}


def test_another_manifest_is_turned_away_unless_all_begins_anew(left: Path) -> None:
    with pytest.raises(UsageError, match=r"journal of scenes\.csv, not of other\.csv"):
        Journal(left, "other.csv")
    with Journal(left, "other.csv", anew=True) as journal:
        assert journal.states() == {}


def test_two_batches_do_not_share_a_journal(left: Path) -> None:
    with Journal(left, "scenes.csv"), pytest.raises(UsageError, match="Another batch is using"):
        Journal(left, "scenes.csv")


def test_a_file_that_is_no_journal_is_kept(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"precious" * 1000)
    with pytest.raises(InputError, match="no intact journal"):
        Journal(tmp_path, "scenes.csv", anew=True)
    assert (tmp_path / FILE_NAME).read_bytes().startswith(b"precious")


def test_a_journal_of_a_later_version_is_kept(left: Path) -> None:
    with closing(sqlite3.connect(left / FILE_NAME)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match="version 99"):
        Journal(left, "scenes.csv")


def test_where_no_file_can_be_there_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=f"Cannot write {tmp_path}"):
        Journal(tmp_path / "nowhere", "scenes.csv")


def test_a_journal_that_could_not_be_begun_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_TABLES", "no SQL")
    with pytest.raises(WriteError):
        Journal(tmp_path, "scenes.csv")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_takes_nothing_back(left: Path) -> None:
    """SQLite is told that the file may not grow; what was noted before stays."""
    with Journal(left, "scenes.csv") as journal:
        (pages,) = journal._database.execute("PRAGMA page_count").fetchone()
        journal._database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(WriteError, match=r"full.*--resume"):
            journal.add_scenes({f"new {i}": "1" * 1000 for i in range(100)})
    assert states(left) == "dfpp"


@pytest.fixture
def scene(tmp_path: Path) -> BatchItem:
    for name in ("f.tif", "m.tif"):
        (tmp_path / name).write_text(name)
    return BatchItem("a", tmp_path / "f.tif", tmp_path / "m.tif")


def test_a_fingerprint_follows_files_and_settings(scene: BatchItem) -> None:
    first = fingerprint(scene)
    assert fingerprint(replace(scene, id="b")) == first
    other = RegisterConfig(estimate=EstimateConfig(seed=1))
    assert fingerprint(replace(scene, config=other)) != first
    assert fingerprint(replace(scene, fixed=scene.moving, moving=scene.fixed)) != first
    scene.moving.write_text("longer")
    longer = fingerprint(scene)
    assert longer != first
    os.utime(scene.moving, ns=(0, 0))
    assert fingerprint(scene) != longer
    scene.moving.unlink()
    assert fingerprint(scene) not in (first, longer)


@pytest.mark.parametrize("field", ["weights", "init_points"])
def test_a_fingerprint_follows_files_of_the_settings(scene: BatchItem, tmp_path: Path, field: str) -> None:
    file = tmp_path / "mine"
    file.write_text("old")
    mine = replace(scene, config=RegisterConfig(match=MatchConfig(**{field: file})))
    first = fingerprint(mine)
    file.write_text("newer")
    assert fingerprint(mine) != first

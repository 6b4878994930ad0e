"""What was done and what is left: one row per scene in an SQLite file, which survives whatever ends the program."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Any

from rrl_register.batch.manifest import BatchItem
from rrl_register.batch.outcome import FAILED, OK, Outcome
from rrl_register.errors import InputError, UsageError, WriteError

FILE_NAME = "journal.sqlite"
_VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS batch (source TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS scenes (
    id TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    exit_code INTEGER,
    reason TEXT,
    seconds REAL,
    figures TEXT,
    traceback TEXT
);
"""


class State(StrEnum):
    """Of a scene."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Journal:
    """The journal of one batch; while it is open, no other program can use it.

    Args:
        folder: Where ``journal.sqlite`` is, or is to be.
        source: Of the manifest.
        anew: Whether to forget what an earlier batch wrote.

    Raises:
        UsageError: It is that of another manifest, or another program is using it.
        InputError: The file is no journal.
        WriteError: It cannot be written. Every method may raise this.
    """

    def __init__(self, folder: Path, source: str, anew: bool = False) -> None:
        self._path = folder / FILE_NAME
        is_new = not self._path.exists()
        with self._told():
            self._database = sqlite3.connect(self._path, timeout=1)
        try:
            self._set_up(source, anew)
        except BaseException:
            self._database.close()
            if is_new:
                self._remove()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()

    def enrol(self, fingerprints: Mapping[str, str], retry_failed: bool = False) -> None:
        """Take in the scenes of the manifest: those that are new, changed or were interrupted are pending again.

        Args:
            fingerprints: Of each scene, by id.
            retry_failed: Whether those that failed are pending again, too.
        """
        again = [State.RUNNING, *([State.FAILED] if retry_failed else [])]
        with self._transaction() as database:
            for state in again:
                database.execute("UPDATE scenes SET state = ? WHERE state = ?", (State.PENDING, state))
            database.executemany(
                "INSERT INTO scenes (id, fingerprint, state) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                "fingerprint = excluded.fingerprint, state = excluded.state, attempts = 0 "
                "WHERE fingerprint != excluded.fingerprint",
                [(name, fingerprint, State.PENDING) for name, fingerprint in fingerprints.items()],
            )

    def states(self) -> dict[str, State]:
        """State of each scene that was ever taken in, by id."""
        with self._told():
            return {name: State(state) for name, state in self._database.execute("SELECT id, state FROM scenes")}

    def reopen(self, name: str) -> None:
        """Note that a scene has to be done again."""
        with self._transaction() as database:
            database.execute("UPDATE scenes SET state = ? WHERE id = ?", (State.PENDING, name))

    def start(self, name: str) -> None:
        """Note that a scene is being worked on."""
        with self._transaction() as database:
            database.execute("UPDATE scenes SET state = ?, attempts = attempts + 1 WHERE id = ?", (State.RUNNING, name))

    def finish(self, outcome: Outcome) -> None:
        """Note what became of a scene."""
        with self._transaction() as database:
            database.execute(
                "UPDATE scenes SET state = ?, exit_code = ?, reason = ?, seconds = ?, figures = ?, traceback = ? "
                "WHERE id = ?",
                (
                    State.DONE if outcome.ok else State.FAILED,
                    outcome.exit_code,
                    outcome.reason,
                    outcome.seconds,
                    json.dumps(outcome.figures),
                    outcome.traceback,
                    outcome.id,
                ),
            )

    def interrupt(self) -> None:
        """Note that what is being worked on will not be finished."""
        with self._transaction() as database:
            database.execute("UPDATE scenes SET state = ? WHERE state = ?", (State.PENDING, State.RUNNING))

    def outcomes(self) -> dict[str, Outcome]:
        """What became of each scene that is done or has failed, by id."""
        with self._told():
            rows = self._database.execute(
                "SELECT id, state, reason, exit_code, seconds, figures, traceback FROM scenes WHERE state IN (?, ?)",
                (State.DONE, State.FAILED),
            )
            return {
                name: Outcome(
                    name, OK if state == State.DONE else FAILED, reason, code, seconds, json.loads(figures), at
                )
                for name, state, reason, code, seconds, figures, at in rows
            }

    def _set_up(self, source: str, anew: bool) -> None:
        with self._told():
            # One program for as long as the batch lasts; and a write-ahead log is whole after whatever befalls it.
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._require_version()
            self._database.executescript(_TABLES)
        with self._transaction() as database:
            database.execute(f"PRAGMA user_version = {_VERSION}")
            if anew:
                database.execute("DELETE FROM scenes")
                database.execute("DELETE FROM batch")
            known = database.execute("SELECT source FROM batch").fetchone()
            if known is None:
                database.execute("INSERT INTO batch VALUES (?)", (source,))
        if known is not None and known[0] != source:
            raise UsageError(
                f"{self._path} is the journal of {known[0]}; needed that of {source}; choose another folder, or pass "
                "--overwrite to begin anew"
            )

    def _remove(self) -> None:
        for suffix in ("", "-wal"):
            self._path.with_name(FILE_NAME + suffix).unlink(missing_ok=True)

    def _require_version(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise InputError(
                f"{self._path} is a journal of version {version}; needed {_VERSION}; choose another folder"
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block is written, or nothing."""
        with self._told(), self._database:
            yield self._database

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in one line what SQLite stumbled over."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise UsageError(
                    f"another batch is using {self._path}; needed a journal of its own; wait, or choose another folder"
                ) from error
            raise WriteError(
                f"cannot write {self._path} ({error}); needed write access and room; go on with --resume then"
            ) from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self._path} is no intact journal ({error}); needed that of a batch; choose another folder"
            ) from error


def fingerprint(scene: BatchItem) -> str:
    """What a scene's result depends on, condensed: settings, and name, size and time of its files."""
    match = scene.config.match
    files = [scene.fixed, scene.moving, *(path for path in (match.weights, match.init_points) if path)]
    facts = {"files": [_identity(path) for path in files], "config": asdict(scene.config)}
    return hashlib.sha256(json.dumps(facts, default=str, sort_keys=True).encode()).hexdigest()


def _identity(path: Path) -> list[Any]:
    try:
        facts = path.stat()
    except OSError:
        return [path.absolute()]  # missing, or one of GDAL's own names
    return [path.absolute(), facts.st_size, facts.st_mtime_ns]

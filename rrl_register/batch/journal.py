"""Journal of a batch: the outcome of each scene in an SQLite file, which survives any end of the program."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from rrl_register.batch.manifest import BatchItem
from rrl_register.config import __version__
from rrl_register.errors import InputError, UsageError, WriteError

SUMMARY_FILE = "summary.json"
SUMMARY_SCHEMA = 1
OK, FAILED = "ok", "failed"
CRASHED = 1
"""Exit code of a bug or of a process that died."""

FIGURES = (
    "model", "n_tie_points", "n_inliers", "rmse_px", "check_rmse_px", "uncertainty_px", "confidence",
    "fixed_kind", "moving_kind", "support_px",
)  # fmt: skip
"""Fields of a ``Registration`` that journal and summary repeat."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of one scene.

    Attributes:
        id: Id of the scene.
        status: ``ok`` or ``failed``.
        reason: Reason of a failure and a remedy, in one line; else empty.
        exit_code: Exit code of ``rrl-register register`` for this scene.
        seconds: Time that it took.
        figures: Value, or None, of each of ``FIGURES``.
        traceback: Traceback of an unexpected error; else empty.
    """

    id: str
    status: str
    reason: str = ""
    exit_code: int = 0
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(FIGURES))
    traceback: str = ""

    @property
    def ok(self) -> bool:
        """True if the scene was registered."""
        return self.status == OK


def outputs_of(name: str, folder: Path) -> tuple[Path, Path]:
    """Return the paths of a scene's raster and RESULT.json."""
    return folder / f"{name}.tif", folder / f"{name}.json"


@dataclass(frozen=True)
class Summary:
    """Summary of a batch.

    Attributes:
        folder: Output folder.
        source: Source of the scenes.
        pairs: Each scene and its outcome, in the order of the manifest.
    """

    folder: Path
    source: str
    pairs: tuple[tuple[BatchItem, Outcome], ...]

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Outcomes of the scenes that were not registered."""
        return tuple(outcome for _, outcome in self.pairs if not outcome.ok)

    def counts(self) -> dict[str, int]:
        """Count the scenes: all, registered and failed."""
        found = Counter(outcome.status for _, outcome in self.pairs)
        return {"total": len(self.pairs), OK: found[OK], FAILED: found[FAILED]}

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``summary.json``, in JSON's types."""
        return {
            "schema": SUMMARY_SCHEMA,
            "version": __version__,
            "manifest": self.source,
            "counts": self.counts(),
            "pairs": [self._pair(scene, outcome) for scene, outcome in self.pairs],
        }

    def _pair(self, scene: BatchItem, outcome: Outcome) -> dict[str, Any]:
        raster, result = outputs_of(scene.id, self.folder)
        return {
            "id": scene.id,
            "status": outcome.status,
            "reason": outcome.reason,
            "exit_code": outcome.exit_code,
            "fixed": str(scene.fixed),
            "moving": str(scene.moving),
            "output": raster.name if outcome.ok else None,
            "result": result.name if result.exists() else None,
            "seconds": outcome.seconds,
            **outcome.figures,
        }


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
_ADD_SCENE = """
INSERT INTO scenes (id, fingerprint, state) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE
SET fingerprint = excluded.fingerprint, state = excluded.state, attempts = 0
WHERE fingerprint != excluded.fingerprint
"""
_FINISH = "UPDATE scenes SET state = ?, exit_code = ?, reason = ?, seconds = ?, figures = ?, traceback = ? WHERE id = ?"
_OUTCOMES = "SELECT id, state, reason, exit_code, seconds, figures, traceback FROM scenes WHERE state IN (?, ?)"


class State(StrEnum):
    """State of a scene."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Journal:
    """Journal of one batch; while it is open, no other program can use it.

    Args:
        folder: Folder of ``journal.sqlite``.
        source: Source of the manifest.
        anew: Forget the earlier batch.

    Raises:
        UsageError: It belongs to another manifest, or another program is using it.
        InputError: The file is no journal.
        WriteError: It cannot be written. Every method may raise this.
    """

    def __init__(self, folder: Path, source: str, anew: bool = False) -> None:
        self._path = folder / FILE_NAME
        is_new = not self._path.exists()
        with self._one_line_errors():
            self._database = sqlite3.connect(self._path, timeout=1)
        try:
            self._set_up(source, anew)
        except BaseException:
            self._database.close()
            if is_new:
                for suffix in ("", "-wal"):
                    self._path.with_name(FILE_NAME + suffix).unlink(missing_ok=True)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()

    def add_scenes(self, fingerprints: Mapping[str, str], retry_failed: bool = False) -> None:
        """Add the scenes of the manifest; new, changed and interrupted ones become pending.

        Args:
            fingerprints: Fingerprint of each scene, by id.
            retry_failed: Make failed scenes pending too.
        """
        again = [State.RUNNING, *([State.FAILED] if retry_failed else [])]
        rows = [(name, fingerprint, State.PENDING) for name, fingerprint in fingerprints.items()]
        with self._transaction() as database:
            for state in again:
                database.execute("UPDATE scenes SET state = ? WHERE state = ?", (State.PENDING, state))
            database.executemany(_ADD_SCENE, rows)

    def states(self) -> dict[str, State]:
        """Return the state of each scene that was ever added, by id."""
        with self._one_line_errors():
            return {name: State(state) for name, state in self._database.execute("SELECT id, state FROM scenes")}

    def reopen(self, name: str) -> None:
        """Record that a scene has to be done again."""
        with self._transaction() as database:
            database.execute("UPDATE scenes SET state = ? WHERE id = ?", (State.PENDING, name))

    def start(self, name: str) -> None:
        """Record that a scene is in work."""
        with self._transaction() as database:
            database.execute("UPDATE scenes SET state = ?, attempts = attempts + 1 WHERE id = ?", (State.RUNNING, name))

    def finish(self, outcome: Outcome) -> None:
        """Record the outcome of a scene."""
        state, figures = State.DONE if outcome.ok else State.FAILED, json.dumps(outcome.figures)
        row = (state, outcome.exit_code, outcome.reason, outcome.seconds, figures, outcome.traceback, outcome.id)
        with self._transaction() as database:
            database.execute(_FINISH, row)

    def interrupt(self) -> None:
        """Record that the scenes in work will not be finished."""
        with self._transaction() as database:
            database.execute("UPDATE scenes SET state = ? WHERE state = ?", (State.PENDING, State.RUNNING))

    def outcomes(self) -> dict[str, Outcome]:
        """Return the outcome of each scene that is done or has failed, by id."""
        with self._one_line_errors():
            rows = self._database.execute(_OUTCOMES, (State.DONE, State.FAILED)).fetchall()
        return {
            name: Outcome(name, OK if state == State.DONE else FAILED, reason, code, seconds, json.loads(figures), at)
            for name, state, reason, code, seconds, figures, at in rows
        }

    def _set_up(self, source: str, anew: bool) -> None:
        with self._one_line_errors():
            # Exclusive for the whole batch; a write-ahead log stays consistent after any crash.
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise InputError(
                    f"{self._path} is a journal of version {version}, and this program reads version {_VERSION}; "
                    "choose another folder"
                )
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
                f"{self._path} is the journal of {known[0]}, not of {source}; choose another folder, or pass "
                "--overwrite to start again"
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Write all of the block, or nothing."""
        with self._one_line_errors(), self._database:
            yield self._database

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        """Convert errors of SQLite to one-line errors."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise UsageError(f"Another batch is using {self._path}; wait, or choose another folder") from error
            raise WriteError(
                f"Cannot write {self._path} ({error}); check access and free space, then continue with --resume"
            ) from error
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self._path} is no intact journal ({error}); choose another folder") from error


def fingerprint(scene: BatchItem) -> str:
    """Hash everything that determines a scene's result: settings, and name, size and time of its files."""
    match = scene.config.match
    files = [scene.fixed, scene.moving, *(path for path in (match.weights, match.init_points) if path)]
    facts = {"files": [_identity(path) for path in files], "config": asdict(scene.config)}
    return hashlib.sha256(json.dumps(facts, default=str, sort_keys=True).encode()).hexdigest()


def _identity(path: Path) -> list[Any]:
    try:
        facts = path.stat()
    except OSError:
        return [path.absolute()]  # missing, or a name of GDAL's own
    return [path.absolute(), facts.st_size, facts.st_mtime_ns]

"""Attempts at scenes that nobody can call back: each writes in a folder of its own until its outcome is known.

A task on a cluster may go on after the batch was interrupted, or run twice because its first worker was lost from
sight. What it writes is moved to its place by the program that holds the journal, and only with the outcome that the
journal notes, so that a latecomer cannot touch what is finished.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rrl_register.batch.outcome import Outcome
from rrl_register.batch.work import outputs_of
from rrl_register.errors import WriteError

_PREFIX = ".attempts-"


@contextmanager
def open_attempts(folder: Path) -> Iterator[Path]:
    """Make a folder for attempts inside the output folder, which is gone after the block.

    Raises:
        WriteError: It cannot be made.
    """
    try:
        attempts = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield attempts
    finally:
        shutil.rmtree(attempts, ignore_errors=True)


def remove_attempts(folder: Path) -> None:
    """Clear away the attempts of a run that was killed."""
    for path in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def begin_attempt(attempts: Path) -> Path:
    """Make the folder of one attempt.

    Raises:
        WriteError: The folder of the attempts is not to be found or cannot be written to.
    """
    try:
        return Path(tempfile.mkdtemp(dir=attempts))
    except OSError as error:
        raise _unwritable(attempts.parent, error) from error


def keep_attempt(attempt: Path, outcome: Outcome, folder: Path) -> None:
    """Move what an attempt wrote to the output folder, in place of what an earlier one left there.

    Raises:
        WriteError: It cannot be moved.
    """
    try:
        for path in outputs_of(outcome.id, folder):
            path.unlink(missing_ok=True)
        for path in attempt.iterdir():
            path.replace(folder / path.name)
        attempt.rmdir()
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> WriteError:
    return WriteError(
        f"cannot write to the output folder {folder} ({error.strerror}); needed write access and room; see to that and "
        "go on with --resume"
    )

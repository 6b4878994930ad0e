"""Attempts at scenes on a cluster: each writes to its own folder until the journal has its outcome.

A task on a cluster cannot be called back: it may continue after an interruption, or run twice because its first worker
was lost. Therefore the program that holds the journal moves the files of the attempt whose outcome it records.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rrl_register.batch.outcome import Outcome
from rrl_register.batch.work import outputs_of, writing_to

_PREFIX = ".attempts-"


@contextmanager
def open_attempts(folder: Path) -> Iterator[Path]:
    """Make a folder for attempts inside the output folder, and remove it after the block.

    Raises:
        WriteError: It cannot be made.
    """
    with writing_to(folder):
        attempts = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    try:
        yield attempts
    finally:
        shutil.rmtree(attempts, ignore_errors=True)


def remove_attempts(folder: Path) -> None:
    """Remove the attempts of a run that was killed."""
    for path in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def begin_attempt(attempts: Path) -> Path:
    """Make the folder of one attempt.

    Raises:
        WriteError: The folder of the attempts is gone or cannot be written to.
    """
    with writing_to(attempts.parent):
        return Path(tempfile.mkdtemp(dir=attempts))


def keep_attempt(attempt: Path, outcome: Outcome, folder: Path) -> None:
    """Move the files of an attempt to the output folder, in place of earlier ones.

    Raises:
        WriteError: They cannot be moved.
    """
    with writing_to(folder):
        for path in outputs_of(outcome.id, folder):
            path.unlink(missing_ok=True)
        for path in attempt.iterdir():
            path.replace(folder / path.name)
        attempt.rmdir()

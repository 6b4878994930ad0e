"""Attempt at a scene on a Dask worker, after a check of the worker's files and versions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from rrl_register.batch.attempts import begin_attempt
from rrl_register.batch.manifest import BatchItem
from rrl_register.batch.outcome import Outcome
from rrl_register.batch.work import fail_scene, write_failure
from rrl_register.config import __version__
from rrl_register.errors import InputError, UsageError, WriteError

FolderWork = Callable[[BatchItem, Path], Outcome]
"""Works on a scene and writes its outputs to a folder."""


def attempt_scene(
    scene: BatchItem,
    work: FolderWork,
    attempts: Path,
    versions: dict[str, str],
    reported: Path | None = None,
    distant: bool = True,
) -> tuple[Outcome, Path]:
    """Work on a scene, on a worker, in a folder of its own.

    Args:
        scene: The scene.
        work: Work on it.
        attempts: Folder of the attempts, inside the output folder.
        versions: Versions of the program that submits it.
        reported: Output folder as errors name it; None: the folder that holds ``attempts``.
        distant: True if the worker may see other files than the program that submits.

    Returns:
        The outcome, and the folder of this attempt.

    Raises:
        UsageError: The worker has other versions.
        WriteError: The worker does not see the folder of the attempts, or cannot write to it.
    """
    require_versions(versions, f"The Dask worker {_address()}")
    if not attempts.is_dir():
        raise InputError(
            f"The Dask worker {_address()} does not see the output folder {attempts.parent}; choose a folder that all "
            "machines share under the same path, and continue with --resume"
        )
    folder, reported = begin_attempt(attempts), reported or attempts.parent
    images = (path for path in (scene.fixed, scene.moving) if not str(path).startswith("/vsi"))
    if distant and (unseen := [path for path in images if not path.exists()]):
        error = InputError(
            f"The Dask worker {_address()} does not see the file {unseen[0]}; check the path, or move the images to a "
            "folder that all machines share under the same path"
        )
        return fail_scene(scene.id, error, folder), folder
    try:
        return _with_folder(work(scene, folder), folder, reported), folder
    except WriteError as error:
        end = WriteError(str(error).replace(str(folder), str(reported)))
    raise end  # after the handler, because GDAL's error as its cause could not be pickled


def _with_folder(outcome: Outcome, attempt: Path, reported: Path) -> Outcome:
    """Replace the folder of the attempt, which will be gone, by the output folder in the reason."""
    if str(attempt) not in outcome.reason:
        return outcome
    outcome = replace(outcome, reason=outcome.reason.replace(str(attempt), str(reported)))
    write_failure(outcome, attempt)
    return outcome


def versions() -> dict[str, str]:
    """Return the versions that this program and its workers must have in common."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"rrl_register": __version__, "distributed": version("distributed"), "Python": python}


def require_versions(needed: dict[str, str], who: str, whom: str = "the program that submits scenes") -> None:
    """Check that the versions of this program, ``who`` in messages, are those of ``whom``.

    Raises:
        UsageError: They differ.
    """
    own = versions()
    for name, wanted in needed.items():
        if own[name] != wanted:
            raise UsageError(
                f"{who} has {name} {own[name]}, but {whom} has {wanted}; install the same versions everywhere"
            )


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)

"""What runs on a Dask worker: an attempt at a scene, after a look at what the worker sees and has installed."""

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
from rrl_register.config.version import __version__
from rrl_register.errors import InputError, UsageError, WriteError

FolderWork = Callable[[BatchItem, Path], Outcome]
"""Works on a scene and writes its outputs to a folder."""


def attempt_scene(
    scene: BatchItem,
    work: FolderWork,
    attempts: Path,
    versions: dict[str, str],
    told: Path | None = None,
    distant: bool = True,
) -> tuple[Outcome, Path]:
    """Work on a scene, on a worker, in a folder of its own.

    Args:
        scene: The scene.
        work: What to do with it.
        attempts: Folder of the attempts, inside the output folder.
        versions: Of the program that asks for it.
        told: The output folder as errors speak of it; None: the one that holds ``attempts``.
        distant: Whether the worker may see other files than the program that asks for it.

    Returns:
        What became of the scene, and the folder of this attempt.

    Raises:
        UsageError: The worker has other versions.
        WriteError: The worker does not see the folder of the attempts, or cannot write to it.
    """
    require_versions(versions, f"the Dask worker {_address()}")
    if not attempts.is_dir():
        raise InputError(
            f"the Dask worker {_address()} does not see the output folder {attempts.parent}; needed one under the same "
            "path on all machines; choose a folder that they share, and go on with --resume"
        )
    folder, told = begin_attempt(attempts), told or attempts.parent
    if distant and (unseen := _unseen(scene)):
        error = InputError(
            f"the Dask worker {_address()} sees no file {unseen[0]}; needed images that all machines see under the "
            "same path; check the path, or move the images there"
        )
        return fail_scene(scene.id, error, folder), folder
    try:
        return _told(work(scene, folder), folder, told), folder
    except WriteError as error:
        end = WriteError(str(error).replace(str(folder), str(told)))
    raise end  # after the handler: GDAL's error, which would hang on it, cannot be sent to another process


def _unseen(scene: BatchItem) -> list[Path]:
    return [path for path in (scene.fixed, scene.moving) if not (path.exists() or str(path).startswith("/vsi"))]


def _told(outcome: Outcome, attempt: Path, told: Path) -> Outcome:
    """The outcome with the folder that the outputs come to, instead of the attempt's, which nobody will find."""
    if str(attempt) not in outcome.reason:
        return outcome
    outcome = replace(outcome, reason=outcome.reason.replace(str(attempt), str(told)))
    write_failure(outcome, attempt)
    return outcome


def versions() -> dict[str, str]:
    """Versions that this program and its workers must have in common."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"rrl_register": __version__, "distributed": version("distributed"), "Python": python}


def require_versions(needed: dict[str, str], who: str, whom: str = "the program that it works for") -> None:
    """Refuse a program, ``who``, whose versions are not those of ``whom``.

    Raises:
        UsageError: They are not.
    """
    own = versions()
    for name, wanted in needed.items():
        if own[name] != wanted:
            raise UsageError(
                f"{who} has {name} {own[name]}; needed {wanted}, as {whom} has; install the same versions everywhere"
            )


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)

"""What runs on a Dask worker: an attempt at a scene, after a look at what the worker sees and has installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from rrl_register import __version__
from rrl_register.batch.attempts import begin_attempt
from rrl_register.batch.manifest import Scene
from rrl_register.batch.outcome import Outcome
from rrl_register.batch.work import fail_scene
from rrl_register.errors import InputError, UsageError

FolderWork = Callable[[Scene, Path], Outcome]
"""Works on a scene and writes its outputs to a folder."""


def attempt_scene(scene: Scene, work: FolderWork, attempts: Path, versions: dict[str, str]) -> tuple[Outcome, Path]:
    """Work on a scene, on a worker, in a folder of its own.

    Args:
        scene: The scene.
        work: What to do with it.
        attempts: Folder of the attempts.
        versions: Of the program that asks for it.

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
    folder = begin_attempt(attempts)
    unseen = [path for path in (scene.fixed, scene.moving) if not (path.exists() or str(path).startswith("/vsi"))]
    if unseen:
        error = InputError(
            f"the Dask worker {_address()} sees no file {unseen[0]}; needed images that all machines see under the "
            "same path; check the path, or move the images there"
        )
        return fail_scene(scene.id, error, folder), folder
    return work(scene, folder), folder


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

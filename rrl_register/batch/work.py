"""Work on one scene: register, warp, write. Every error that concerns this scene only becomes its outcome.

On a cluster, each attempt at a scene writes to its own folder until the journal has its outcome. A task there cannot be
called back: it may continue after an interruption, or run twice because its first worker was lost. Therefore the
program that holds the journal moves the files of the attempt whose outcome it records.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rrl_register.batch.journal import CRASHED, FAILED, FIGURES, OK, Outcome, outputs_of
from rrl_register.batch.manifest import BatchItem
from rrl_register.config import Device
from rrl_register.errors import NotRegisteredError, RegistrationError, WriteError

if TYPE_CHECKING:
    from rrl_register.nn.inference.load import LoadedScorer

_ATTEMPTS = ".attempts-"


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Convert errors of writing to the output folder to one-line errors.

    Raises:
        WriteError: The block raised OSError.
    """
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"Cannot write to the output folder {folder} ({error.strerror}); check access and free space, then "
            "continue with --resume"
        ) from error


def register_scene(scene: BatchItem, folder: Path, threads: int) -> Outcome:
    """Register a scene and write ``<id>.tif`` and ``<id>.json``, each completely or not at all.

    Files of an earlier attempt are replaced. A scene that fails leaves only the JSON file, with the reason.

    Args:
        scene: The scene.
        folder: Output folder.
        threads: Most threads of the network, of OpenCV and of the warp each.

    Raises:
        WriteError: The folder cannot be written to, or has no room for the output: the next scene would fail too.
    """
    import cv2

    start = time.perf_counter()
    # OpenCV's own pool has as many threads as the machine has cores, in each of the workers.
    cv2.setNumThreads(min(threads, cv2.getNumThreads()))
    try:
        outcome = _register_and_write(scene, folder, threads)
    except Exception as error:
        if isinstance(error, WriteError):
            _require_usable(folder, scene)
        outcome = fail_scene(scene.id, error, folder)
    return replace(outcome, seconds=round(time.perf_counter() - start, 3))


def fail_scene(name: str, error: Exception, folder: Path) -> Outcome:
    """Write ``<id>.json`` of a scene that failed, remove its raster, and return its outcome.

    Raises:
        WriteError: The folder cannot be written to.
    """
    reason = " ".join(str(error).split())
    if isinstance(error, RegistrationError):
        outcome = Outcome(name, FAILED, reason, error.exit_code)
    else:
        reason = f"A bug: {type(error).__name__}: {reason}; the journal has its traceback"
        outcome = Outcome(name, FAILED, reason, CRASHED, traceback="".join(traceback.format_exception(error)))
    write_failure(outcome, folder)
    return outcome


def write_failure(outcome: Outcome, folder: Path) -> None:
    """Write ``<id>.json`` of a scene that failed, and remove its raster.

    Raises:
        WriteError: The folder cannot be written to.
    """
    from rrl_register.exchange.registration import failure_record
    from rrl_register.raster.writer import write_json

    raster, result = outputs_of(outcome.id, folder)
    raster.unlink(missing_ok=True)
    write_json(result, failure_record(outcome.reason), overwrite=True)


@contextmanager
def open_attempts(folder: Path) -> Iterator[Path]:
    """Make a folder for attempts inside the output folder, and remove it after the block.

    Raises:
        WriteError: It cannot be made.
    """
    with writing_to(folder):
        attempts = Path(tempfile.mkdtemp(prefix=_ATTEMPTS, dir=folder))
    try:
        yield attempts
    finally:
        shutil.rmtree(attempts, ignore_errors=True)


def remove_attempts(folder: Path) -> None:
    """Remove the attempts of a run that was killed."""
    for path in folder.glob(f"{_ATTEMPTS}*"):
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


def _register_and_write(scene: BatchItem, folder: Path, threads: int) -> Outcome:
    from rrl_register.exchange.registration import apply_transform
    from rrl_register.pipeline.register import register
    from rrl_register.raster.memory import bounded_block_cache
    from rrl_register.raster.reader import as_measurements
    from rrl_register.raster.writer import write_json
    from rrl_register.warping.apply import require_writable_grid

    raster, result = outputs_of(scene.id, folder)
    raster.unlink(missing_ok=True)
    match, warp = scene.config.match, scene.config.warp
    warp = replace(warp, threads=min(threads, warp.threads or threads))
    require_writable_grid(scene.fixed, warp)
    found = register(
        scene.fixed, scene.moving, scene.config, scorer=_scorer(match.weights, match.device, threads), similarity=True
    )
    if found.matrix is not None:
        no_alpha = as_measurements(scene.moving, wanted=scene.config.read.no_alpha)
        with bounded_block_cache(scene.config.resources.max_memory), no_alpha:
            apply_transform(found, scene.moving, raster, warp, overwrite=True)
    write_json(result, found.to_json(), overwrite=True)
    figures = {figure: getattr(found, figure) for figure in FIGURES}
    if found.matrix is None:
        return Outcome(scene.id, FAILED, found.reason, NotRegisteredError.exit_code, figures=figures)
    return Outcome(scene.id, OK, figures=figures)


def _require_usable(folder: Path, scene: BatchItem) -> None:
    """Distinguish a full or read-only folder, which ends the batch, from a scene that cannot be written."""
    import numpy as np

    from rrl_register.raster.reader import open_info

    needed = 0
    with suppress(RegistrationError):  # an input may be gone
        grid, moving = open_info(scene.fixed).grid, open_info(scene.moving)
        pixel = 4 if moving.dtype == "complex_int16" else np.dtype(moving.dtype).itemsize
        needed = grid.width * grid.height * moving.count * pixel
    with writing_to(folder), tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"\0" * 4096)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise WriteError(
            f"The disk of the output folder {folder} is full: {free / 1e6:.0f} MB are free, and the next scene needs "
            f"{needed / 1e6:.0f} MB; free space and continue with --resume"
        )


@lru_cache(maxsize=2)
def _scorer(weights: Path | None, device: Device, threads: int) -> LoadedScorer:
    """Load the network, once per process and not once per scene."""
    from rrl_register.nn.inference.load import load_scorer

    return load_scorer(weights, device, threads)

"""One scene: registered, warped, written; whatever goes wrong with it becomes its outcome."""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rrl_register.batch.manifest import BatchItem
from rrl_register.batch.outcome import FAILED, FIGURES, OK, Outcome
from rrl_register.config import Device
from rrl_register.errors import NotRegisteredError, RegistrationError, WriteError

if TYPE_CHECKING:
    from rrl_register.exchange.registration import Registration
    from rrl_register.nn.inference import LoadedScorer

_BUG = 1


def outputs_of(name: str, folder: Path) -> tuple[Path, Path]:
    """Where a scene's raster and result go."""
    return folder / f"{name}.tif", folder / f"{name}.json"


def register_scene(scene: BatchItem, folder: Path, threads: int) -> Outcome:
    """Register a scene and write ``<id>.tif`` and ``<id>.json``, each as a whole or not at all.

    What an earlier attempt wrote is replaced. Of a scene that fails only the JSON file is left, with the reason.

    Args:
        scene: What to register.
        folder: Where to write.
        threads: At most, for the network, OpenCV and the warp each.

    Raises:
        WriteError: The folder cannot be written to, or is too full for the output: the next scene would fail likewise.
    """
    start = time.perf_counter()
    _limit_threads(threads)
    try:
        outcome = _done(scene, folder, threads)
    except Exception as error:
        if isinstance(error, WriteError):
            _require_usable(folder, _output_size(scene))
        outcome = fail_scene(scene.id, error, folder)
    return replace(outcome, seconds=round(time.perf_counter() - start, 3))


def fail_scene(name: str, error: Exception, folder: Path) -> Outcome:
    """Write ``<id>.json`` of a scene that failed, remove its raster, and say what became of it.

    Raises:
        WriteError: The folder cannot be written to.
    """
    outcome = _failed(name, error)
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


def _done(scene: BatchItem, folder: Path, threads: int) -> Outcome:
    from rrl_register.exchange.registration import apply_transform
    from rrl_register.pipeline.register import register
    from rrl_register.raster.memory import bounded_block_cache
    from rrl_register.raster.writer import write_json
    from rrl_register.warping.apply import require_writable_grid

    raster, result = outputs_of(scene.id, folder)
    raster.unlink(missing_ok=True)
    match, warp = scene.config.match, scene.config.warp
    warp = replace(warp, threads=min(threads, warp.threads or threads))
    require_writable_grid(scene.fixed, warp)
    found = register(scene.fixed, scene.moving, scene.config, scorer=_scorer(match.weights, match.device, threads))
    if found.matrix is not None:
        with bounded_block_cache(scene.config.resources.max_memory):
            apply_transform(found, scene.moving, raster, warp, overwrite=True)
    write_json(result, found.to_json(), overwrite=True)
    return _outcome(scene.id, found)


def _outcome(name: str, found: Registration) -> Outcome:
    figures = {figure: getattr(found, figure) for figure in FIGURES}
    if found.matrix is None:
        return Outcome(name, FAILED, found.reason, NotRegisteredError.exit_code, figures=figures)
    return Outcome(name, OK, figures=figures)


def _failed(name: str, error: Exception) -> Outcome:
    if isinstance(error, RegistrationError):
        return Outcome(name, FAILED, " ".join(str(error).split()), error.exit_code)
    reason = f"a bug: {type(error).__name__}: {' '.join(str(error).split())}; the journal has where it arose"
    return Outcome(name, FAILED, reason, _BUG, traceback="".join(traceback.format_exception(error)))


def _output_size(scene: BatchItem) -> int:
    """Bytes of the output, uncompressed; 0 if an input cannot be read any more."""
    from rrl_register.raster.reader import open_info

    try:
        grid, moving = open_info(scene.fixed).grid, open_info(scene.moving)
    except RegistrationError:
        return 0
    return grid.width * grid.height * moving.count * _bytes_per_pixel(moving.dtype)


def _bytes_per_pixel(dtype: str) -> int:
    import numpy as np

    return 4 if dtype == "complex_int16" else np.dtype(dtype).itemsize


def _require_usable(folder: Path, size: int) -> None:
    """Tell a folder that takes nothing more from a scene that cannot be written for reasons of its own."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
    except OSError as error:
        raise WriteError(
            f"cannot write to the output folder {folder} ({error.strerror}); needed write access and room; see to that "
            "and go on with --resume"
        ) from error
    free = shutil.disk_usage(folder).free
    if free < size:
        raise WriteError(
            f"the disk of the output folder {folder} is full: {free / 1e6:.0f} MB are free; needed {size / 1e6:.0f} MB "
            "for the next scene; make room and go on with --resume"
        )


def _limit_threads(threads: int) -> None:
    import cv2

    cv2.setNumThreads(min(threads, cv2.getNumThreads()))


@lru_cache(maxsize=2)
def _scorer(weights: Path | None, device: Device, threads: int) -> LoadedScorer:
    """The network, loaded once per process and not once per scene."""
    from rrl_register.nn.inference.load import load_scorer

    return load_scorer(weights, device, threads)

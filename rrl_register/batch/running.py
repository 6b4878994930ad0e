"""Running a batch: register the scenes that are left, record each outcome, report progress."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rrl_register.batch.executors import Executor, Interrupts, ProcessPool, recorded_interrupts
from rrl_register.batch.journal import (
    FILE_NAME,
    SUMMARY_FILE,
    Journal,
    Outcome,
    State,
    Summary,
    fingerprint,
    outputs_of,
)
from rrl_register.batch.manifest import BatchItem, Manifest
from rrl_register.batch.work import register_scene, remove_attempts
from rrl_register.config import BatchConfig
from rrl_register.errors import OutputExistsError, UsageError, WriteError
from rrl_register.parallel import usable_cores


@dataclass(frozen=True)
class Progress:
    """Progress of a batch.

    Attributes:
        n_scenes: Scenes of the manifest.
        n_finished: Scenes done or failed, including earlier runs.
        n_failed: Scenes failed, including earlier runs.
        n_worked: Scenes finished in this run.
        seconds: Time of this run.
        outcome: Outcome of the last finished scene; None before the first.
    """

    n_scenes: int
    n_finished: int
    n_failed: int
    n_worked: int = 0
    seconds: float = 0.0
    outcome: Outcome | None = None

    @property
    def scenes_per_minute(self) -> float | None:
        """Rate of this run; None before its first scene."""
        return 60 * self.n_worked / self.seconds if self.n_worked and self.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Time for the other scenes at this rate; None before the first scene."""
        rate = self.scenes_per_minute
        return None if rate is None else 60 * (self.n_scenes - self.n_finished) / rate

    def after(self, outcome: Outcome, seconds: float) -> Progress:
        """Return the progress with one more finished scene."""
        failed = self.n_failed + (not outcome.ok)
        return Progress(self.n_scenes, self.n_finished + 1, failed, self.n_worked + 1, seconds, outcome)


Watch = Callable[[Progress], None]


def run_batch(
    manifest: Manifest,
    folder: Path,
    config: BatchConfig | None = None,
    *,
    executor: Executor | None = None,
    watch: Watch | None = None,
) -> Summary:
    """Register every scene of a manifest and write ``summary.json``.

    A scene that fails does not stop the others. After any end of the run, Ctrl-C included, the journal allows to
    continue with ``resume``. Workers are processes, so a script that calls this needs ``if __name__ == "__main__":``.

    Args:
        manifest: The scenes.
        folder: Output folder; made if missing.
        config: Number of workers and treatment of earlier runs; None: the defaults.
        executor: Works on the scenes; None: processes or a Dask cluster, as in ``config``.
        watch: Called at the beginning and after each scene.

    Raises:
        OutputExistsError: The folder holds a batch or outputs, and ``config`` neither resumes nor overwrites.
        UsageError: Settings contradict each other, the folder cannot be written to, an output is an input, or the
            journal belongs to another manifest or is in use.
        WriteError: The disk is full, or the folder can no longer be written to.
    """
    from rrl_register.raster.writer import write_json

    config = config or BatchConfig()
    if config.overwrite and (config.resume or config.retry_failed):
        raise UsageError("--overwrite starts again, --resume and --retry-failed continue; choose one of them")
    if config.scheduler is not None and config.workers != BatchConfig.workers:
        raise UsageError("--workers are processes of this machine, --scheduler has its own; choose one of the two")
    _make_folder(folder)
    _check_outputs(manifest, folder, config)
    with Journal(folder, manifest.source, anew=config.overwrite) as journal:
        _remove_unfinished(folder)
        journal.add_scenes({scene.id: fingerprint(scene) for scene in manifest.scenes}, config.retry_failed)
        states = journal.states()
        for scene in manifest.scenes:
            if states[scene.id] is State.DONE and not all(path.exists() for path in outputs_of(scene.id, folder)):
                journal.reopen(scene.id)
        try:
            _run_scenes(manifest, journal, executor or _executor(folder, config), watch)
        finally:
            _remove_unfinished(folder)
        outcomes = journal.outcomes()
    summary = Summary(folder, manifest.source, tuple((scene, outcomes[scene.id]) for scene in manifest.scenes))
    write_json(folder / SUMMARY_FILE, summary.to_json(), overwrite=True)
    return summary


def _run_scenes(manifest: Manifest, journal: Journal, executor: Executor, watch: Watch | None) -> None:
    states, outcomes = journal.states(), journal.outcomes()
    left = [scene for scene in manifest.scenes if states[scene.id] is State.PENDING]
    failed = sum(scene.id in outcomes and not outcomes[scene.id].ok for scene in manifest.scenes)
    progress = Progress(len(manifest.scenes), len(manifest.scenes) - len(left), failed)
    report = watch or (lambda progress: None)
    report(progress)
    start = time.monotonic()
    try:
        with recorded_interrupts() as interrupts, closing(executor(_begun(left, journal, interrupts))) as finished:
            for outcome in finished:
                journal.finish(outcome)
                progress = progress.after(outcome, time.monotonic() - start)
                report(progress)
                interrupts.raise_missed()
    except BaseException:
        with suppress(WriteError):
            journal.interrupt()
        raise


def _begun(scenes: Iterable[BatchItem], journal: Journal, interrupts: Interrupts) -> Iterator[BatchItem]:
    for scene in scenes:
        interrupts.raise_missed()
        journal.start(scene.id)
        yield scene


def _executor(folder: Path, config: BatchConfig) -> Executor:
    work = partial(register_scene, threads=max(1, usable_cores() // config.workers))
    from rrl_register.batch.dask_cluster import DaskCluster, extra_installed

    if config.scheduler is not None:
        return DaskCluster(partial(register_scene, threads=1), folder, config.scheduler)
    if config.workers == 1 or not extra_installed():
        return ProcessPool(partial(work, folder=folder), config.workers)
    from rrl_register.batch.dask_local import DaskWorkers

    return DaskWorkers(work, folder, config.workers)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot make the output folder {folder} ({error.strerror}); choose another") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"The output folder {folder} cannot be written to; check access, or choose another folder")


def _check_outputs(manifest: Manifest, folder: Path, config: BatchConfig) -> None:
    """Refuse outputs that are inputs or, unless they may be replaced, that no earlier run of this batch wrote."""
    inputs = {path.resolve() for scene in manifest.scenes for path in (scene.fixed, scene.moving)}
    outputs = [(scene.id, output) for scene in manifest.scenes for output in outputs_of(scene.id, folder)]
    for _, output in outputs:
        if output.resolve() in inputs:
            raise UsageError(f"Output {output} is an input; choose another folder")
    if config.overwrite:
        return
    known: set[str] = set()
    if (folder / FILE_NAME).exists():
        if not (config.resume or config.retry_failed):
            raise OutputExistsError(
                f"{folder} holds a batch; pass --resume to continue it, or --overwrite to start again"
            )
        with Journal(folder, manifest.source) as journal:
            known = set(journal.states())
    for name, output in outputs:
        if name not in known and output.exists():
            raise OutputExistsError(f"Output {output} exists; choose another folder or pass --overwrite")


def _remove_unfinished(folder: Path) -> None:
    """Remove the files of a run that was killed while it wrote."""
    for path in folder.glob(".*.part.*"):
        path.unlink(missing_ok=True)
    remove_attempts(folder)

"""``rrl-register batch``: register many scenes, and go on after whatever stopped it."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from rrl_register.cli.checks import require_file
from rrl_register.cli.command import INTERRUPTED, RegistrationCommand
from rrl_register.cli.options import config_options, overwrite_option, set_up_logging, verbosity_options
from rrl_register.config import BatchConfig, RegisterConfig
from rrl_register.config.option_types import FILE
from rrl_register.config.options import build_config
from rrl_register.errors import NotRegisteredError, UsageError

if TYPE_CHECKING:
    from rrl_register.batch.manifest import Manifest
    from rrl_register.batch.outcome import Outcome
    from rrl_register.batch.running import Progress
    from rrl_register.batch.summary import Summary

_SECONDS_BETWEEN_LINES = 10.0
_IDS_TOLD = 5


@click.command(cls=RegistrationCommand, no_args_is_help=True, short_help="Register many scenes; go on after a stop.")
@click.argument("manifest", type=FILE, required=False)
@click.option("-o", "--output", type=FILE, required=True, metavar="DIR", help="Folder of the outputs; made if missing.")
@click.option("--fixed", metavar="PATTERN", help="Fixed image of every scene, or their paths with {id}.")
@click.option("--moving", metavar="PATTERN", help="Paths of the moving images with {id}, instead of MANIFEST.")
@click.option("--fixed-asset", metavar="KEY", help="Asset of a STAC item that is the fixed image.")
@click.option("--moving-asset", metavar="KEY", help="Asset of a STAC item that is the moving image.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=BatchConfig().workers,
    show_default=True,
    help="Scenes worked on at a time, each in a process of its own; by Dask if installed.",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Dask scheduler, tcp://HOST:PORT, whose workers do the work instead."
)
@click.option("--resume", is_flag=True, help="Go on with the batch in DIR: do what is left or has changed.")
@click.option("--report", is_flag=True, help="Write report.html, which shows all scenes, and a report of each.")
@click.option("--retry-failed", is_flag=True, help="As --resume, and do again what failed.")
@overwrite_option
@config_options("read", "match", "estimate", "warp", "resources")
@verbosity_options
@click.pass_context
def batch(
    ctx: click.Context,
    /,
    manifest: Path | None,
    output: Path,
    fixed: str | None,
    moving: str | None,
    fixed_asset: str | None,
    moving_asset: str | None,
    workers: int,
    scheduler: str | None,
    resume: bool,
    retry_failed: bool,
    report: bool,
    overwrite: bool,
    verbose: int,
    quiet: bool,
    **values: Any,
) -> None:
    """Register every scene of MANIFEST, a CSV file with the columns id, fixed and moving, JSON lines, or STAC items.

    Further columns are options of 'register' without dashes, such as moving-kind; those given here hold where a scene
    says nothing. Paths are relative to the manifest. Instead of MANIFEST: --fixed 'optical/{id}.tif' --moving
    'sar/{id}.tif'. DIR gets ID.tif and ID.json of each scene, and summary.json, whose path is printed.
    """
    set_up_logging(verbose, quiet)
    sources = Sources(manifest, fixed, moving, fixed_asset, moving_asset)
    scenes = _scenes(sources, build_config(values))
    from rrl_register.batch.running import run_batch
    from rrl_register.batch.summary import FILE_NAME

    config = BatchConfig(workers, resume, retry_failed, overwrite, scheduler)
    try:
        with Reporter(verbose, quiet) as reporter:
            summary = run_batch(scenes, output, config, watch=reporter)
        page = _write_report(summary, workers) if report else None
    except KeyboardInterrupt:
        click.echo(f"Interrupted: what is finished is kept in {output}; go on with --resume.", err=True)
        ctx.exit(INTERRUPTED)
    if not quiet:
        click.echo(table(summary), err=True)
    click.echo(output / FILE_NAME)
    if page:
        click.echo(page)
    if summary.failed:
        _fail(summary, output / FILE_NAME)


def table(summary: Summary) -> str:
    """Lay out how it went, a line for each scene."""
    from rrl_register.training.evaluation.tables import text_table

    header = ["id", "status", "model", "inliers", "held out px", "confidence", "seconds", "reason"]
    figures = ("model", "n_inliers", "check_rmse_px", "confidence")
    rows = [
        [o.id, o.status, *(o.figures.get(figure) for figure in figures), o.seconds, o.reason] for _, o in summary.pairs
    ]
    return text_table(header, rows)


def _write_report(summary: Summary, workers: int) -> Path:
    from rrl_register.report import write_batch_report

    return write_batch_report(summary, workers)


@dataclass(frozen=True)
class Sources:
    """Where the scenes come from, as it stands on the command line."""

    manifest: Path | None
    fixed: str | None
    moving: str | None
    fixed_asset: str | None = None
    moving_asset: str | None = None

    @property
    def one_fixed(self) -> Path | None:
        """The one file that ``--fixed`` names, if it is no pattern."""
        return Path(self.fixed) if self.fixed is not None and "{id}" not in self.fixed else None


def _scenes(given: Sources, config: RegisterConfig) -> Manifest:
    from rrl_register.batch.manifest import match_files

    for path in (config.match.weights, given.one_fixed):
        if path:
            require_file(path)
    if given.manifest and not given.moving:
        return _listed(given, given.manifest, config)
    if given.manifest or not (given.fixed and given.moving):
        raise UsageError("needed either MANIFEST or both --fixed and --moving; try scenes.csv, or 'sar/{id}.tif'")
    _refuse_assets(given, "--moving")
    return match_files(given.fixed, given.moving, config)


def _listed(given: Sources, manifest: Path, config: RegisterConfig) -> Manifest:
    from rrl_register.batch.manifest import read_manifest
    from rrl_register.batch.stac import SUFFIXES, Assets, read_collection

    require_file(manifest)
    if given.fixed and not given.one_fixed:
        raise UsageError(f"--fixed {given.fixed} beside MANIFEST; needed one image for all scenes; take out {{id}}")
    if manifest.suffix.lower() not in SUFFIXES:
        _refuse_assets(given, str(manifest))
        return read_manifest(manifest, config, given.one_fixed)
    if given.moving_asset is None:
        raise UsageError(f"--moving-asset is missing; needed the key of the moving image in the items of {manifest}")
    return read_collection(manifest, Assets(given.moving_asset, given.fixed_asset), config, given.one_fixed)


def _refuse_assets(given: Sources, beside: str) -> None:
    if given.fixed_asset or given.moving_asset:
        raise UsageError(f"assets beside {beside}; needed a STAC item collection (.json) for them; leave them out")


def _fail(summary: Summary, path: Path) -> NoReturn:
    ids = [outcome.id for outcome in summary.failed]
    told = ", ".join(ids[:_IDS_TOLD]) + (", ..." if len(ids) > _IDS_TOLD else "")
    raise NotRegisteredError(
        f"{len(ids)} of {len(summary.pairs)} scenes could not be registered ({told}); the reasons are in {path}; "
        "try --retry-failed with other options"
    )


class Reporter:
    """Progress on stderr: one line that changes where a person watches, else a line every few seconds."""

    def __init__(self, verbose: int, quiet: bool) -> None:
        self._every_scene = verbose > 0
        self._quiet = quiet
        self._watched = sys.stderr.isatty()
        self._line_open = False
        self._told_at = time.monotonic()

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *error: object) -> None:
        self._end_line()

    def __call__(self, progress: Progress) -> None:
        """Tell how far it is."""
        if self._quiet:
            return
        if self._every_scene and progress.outcome:
            self._end_line()
            click.echo(_scene_line(progress.outcome), err=True)
        if self._watched:
            click.echo(f"\r\x1b[K{_progress_line(progress)}", nl=False, err=True)
            self._line_open = True
        elif time.monotonic() - self._told_at >= _SECONDS_BETWEEN_LINES:
            click.echo(_progress_line(progress), err=True)
            self._told_at = time.monotonic()

    def _end_line(self) -> None:
        if self._line_open:
            click.echo(err=True)
            self._line_open = False


def _progress_line(progress: Progress) -> str:
    rate, left = progress.scenes_per_minute, progress.seconds_left
    pace = "" if rate is None or left is None else f", {rate:.1f} a minute, {timedelta(seconds=round(left))} left"
    return f"{progress.n_finished} of {progress.n_scenes} scenes, {progress.n_failed} failed{pace}"


def _scene_line(outcome: Outcome) -> str:
    how = "registered" if outcome.ok else f"failed: {outcome.reason}"
    return f"{outcome.id}: {how} ({outcome.seconds:.1f} s)"

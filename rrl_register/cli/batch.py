"""``rrl-register batch``: register many scenes, and continue after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rrl_register.cli.command import (
    INTERRUPTED,
    RegistrationCommand,
    collect,
    config_options,
    overwrite_option,
    require_files,
    verbosity,
    verbosity_options,
)
from rrl_register.cli.progress import Bar, progress_bar
from rrl_register.config import BatchConfig, RegisterConfig
from rrl_register.config.files import printable
from rrl_register.config.option_types import FILE
from rrl_register.config.options import build_config
from rrl_register.errors import NotRegisteredError, UsageError

if TYPE_CHECKING:
    from rrl_register.batch.journal import Summary
    from rrl_register.batch.manifest import Manifest
    from rrl_register.batch.running import Progress

_IDS_SHOWN = 5


@click.command(cls=RegistrationCommand, no_args_is_help=True, short_help="Register many scenes.")
@click.argument("manifest", type=FILE, required=False)
@click.option("-o", "--output", type=FILE, required=True, metavar="DIR", help="Output folder; made if missing.")
@click.option("--fixed", metavar="PATTERN", help="Fixed image of all scenes, or paths with {id}.")
@click.option("--moving", metavar="PATTERN", help="Paths of the moving images with {id}, instead of MANIFEST.")
@click.option("--fixed-asset", metavar="KEY", help="Asset of a STAC item that is the fixed image.")
@click.option("--moving-asset", metavar="KEY", help="Asset of a STAC item that is the moving image.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=BatchConfig().workers,
    show_default=True,
    help="Scenes at a time, each in its own process; run by Dask if it is installed.",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Use the workers of this Dask scheduler, tcp://HOST:PORT, instead."
)
@click.option(
    "--resume", is_flag=True, help="Continue the batch in DIR: do scenes that are unfinished or have changed."
)
@click.option("--report", is_flag=True, help="Write report.html with all scenes, and a report of each scene.")
@click.option("--retry-failed", is_flag=True, help="Continue as with --resume, and try failed scenes again.")
@overwrite_option
@config_options("read", "match", "estimate", "warp", "resources")
@verbosity_options
@click.pass_context
def batch(ctx: click.Context, /, output: Path, report: bool, **values: Any) -> None:
    """Register every scene of MANIFEST, a CSV file with the columns id, fixed and moving, JSON lines, or STAC items.

    Further columns are options of 'register' without dashes, such as moving-kind; they take precedence over the options
    given here. Paths are relative to the manifest. Instead of MANIFEST: --fixed 'optical/{id}.tif' --moving
    'sar/{id}.tif'. DIR gets ID.tif and ID.json of each scene, and summary.json. The path of summary.json is printed.
    """
    sources = ("manifest", "fixed", "moving", "fixed_asset", "moving_asset")
    scenes = _scenes(build_config(values), *(values[source] for source in sources))
    from rrl_register.batch.journal import SUMMARY_FILE
    from rrl_register.batch.running import run_batch

    config, page = collect(BatchConfig, values), None
    try:
        with progress_bar(len(scenes.scenes)) as bar:
            summary = run_batch(scenes, output, config, watch=_watch(bar, every_scene=verbosity() > 0))
        if report:
            from rrl_register.report import write_batch_report

            page = write_batch_report(summary, config.workers)
    except KeyboardInterrupt:
        click.echo(f"Interrupted; finished scenes are kept in {output}; continue with --resume.", err=True)
        ctx.exit(INTERRUPTED)
    if verbosity() >= 0:
        click.echo(printable(table(summary)), err=True)
    click.echo(output / SUMMARY_FILE)
    if page:
        click.echo(page)
    if summary.failed:
        ids = [outcome.id for outcome in summary.failed]
        shown = ", ".join(ids[:_IDS_SHOWN]) + (", ..." if len(ids) > _IDS_SHOWN else "")
        raise NotRegisteredError(
            f"{len(ids)} of {len(summary.pairs)} scenes could not be registered ({shown}); see the reasons in "
            f"{output / SUMMARY_FILE}, and try --retry-failed with other options"
        )


def table(summary: Summary) -> str:
    """Lay out the summary, one line per scene."""
    from rrl_register.training.evaluation.figures import text_table

    header = ["id", "status", "model", "inliers", "check px", "confidence", "seconds", "reason"]
    figures = ("model", "n_inliers", "check_rmse_px", "confidence")
    rows = [
        [o.id, o.status, *(o.figures.get(figure) for figure in figures), o.seconds, o.reason] for _, o in summary.pairs
    ]
    return text_table(header, rows)


def _watch(bar: Bar, every_scene: bool) -> Callable[[Progress], None]:
    """Return a function that shows the progress of a batch, and prints the outcome of every scene if asked."""

    def report(progress: Progress) -> None:
        """Update the bar."""
        if every_scene and progress.outcome:
            outcome = progress.outcome
            result = "registered" if outcome.ok else f"failed: {outcome.reason}"
            bar.print(f"{outcome.id}: {result} ({outcome.seconds:.1f} s)")
        rate = progress.scenes_per_minute
        pace = "" if rate is None else f", {rate:.1f} a minute"
        bar.show(progress.n_finished, f"scenes, {progress.n_failed} failed{pace}")

    return report


def _scenes(
    config: RegisterConfig,
    manifest: Path | None,
    fixed: str | None,
    moving: str | None,
    fixed_asset: str | None,
    moving_asset: str | None,
) -> Manifest:
    """Find the scenes, as the options of the same names describe them."""
    from rrl_register.batch.manifest import SUFFIXES, match_files, read_collection, read_manifest

    one_fixed = Path(fixed) if fixed is not None and "{id}" not in fixed else None
    require_files(config.match.weights, one_fixed)
    if manifest and not moving:
        require_files(manifest)
        if fixed and not one_fixed:
            raise UsageError(f"--fixed {fixed} beside MANIFEST must be one image for all scenes; remove {{id}}")
        if manifest.suffix.lower() in SUFFIXES:
            if moving_asset is None:
                raise UsageError(
                    f"--moving-asset is missing; pass the key of the moving image in the items of {manifest}"
                )
            return read_collection(manifest, moving_asset, fixed_asset, config, one_fixed)
    elif manifest or not (fixed and moving):
        raise UsageError(
            "Pass either MANIFEST, such as scenes.csv, or both --fixed and --moving, such as 'sar/{id}.tif'"
        )
    if fixed_asset or moving_asset:
        beside = "--moving" if moving else manifest
        raise UsageError(f"Assets need STAC items (.json), not {beside}; leave --fixed-asset and --moving-asset out")
    if manifest:
        return read_manifest(manifest, config, one_fixed)
    assert fixed is not None and moving is not None
    return match_files(fixed, moving, config)

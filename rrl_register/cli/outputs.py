"""What the commands that register leave behind: one place that checks, writes and names their outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rrl_register.cli.checks import require_outputs
from rrl_register.cli.progress import stages
from rrl_register.config import RegisterConfig
from rrl_register.config.option_types import FILE
from rrl_register.errors import NotRegisteredError, UsageError
from rrl_register.exchange.formats import point_format, write_points

if TYPE_CHECKING:
    from rrl_register.exchange.registration import Registration

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def export_options(function: Decorated) -> Decorated:
    """Add ``--tie-points`` and ``--stac``."""
    tie_points = click.option(
        "--tie-points",
        type=FILE,
        multiple=True,
        help="Write the tie points, rejected ones included, to this file: .geojson, .csv, .points (QGIS), .gpkg or "
        ".gcp (GDAL); may be repeated.",
    )
    stac = click.option(
        "--stac", type=FILE, metavar="ITEM", help="Describe the output by a STAC item in this JSON file."
    )
    return tie_points(stac(function))


def write_tie_points(paths: tuple[Path, ...], registration: Registration, overwrite: bool) -> None:
    """Write the tie points to each of the files, and print their paths."""
    if not paths:
        return
    from rrl_register.exchange.table import Grids, PointTable

    table, grids = PointTable.of(registration), Grids(registration.fixed_grid, registration.moving_grid)
    for path in paths:
        write_points(path, table, grids, overwrite)
        click.echo(path)


@dataclass(frozen=True)
class Outputs:
    """The files that a command was asked for; their paths are printed as they are written.

    Attributes:
        overwrite: Whether files that exist may be replaced.
        raster: The moving image, aligned.
        result: RESULT.json.
        preview: A picture.
        report: A page.
        tie_points: Of any format that is known.
        stac: An item that describes ``raster``.

    Raises:
        UsageError: Neither ``raster`` nor ``result`` is asked for.
    """

    overwrite: bool
    raster: Path | None
    result: Path | None
    preview: Path | None = None
    report: Path | None = None
    tie_points: tuple[Path, ...] = ()
    stac: Path | None = None

    def __post_init__(self) -> None:
        if not (self.raster or self.result):
            raise UsageError("neither -o nor --json was given; needed somewhere to put the result; try -o aligned.tif")

    def check(self, inputs: list[Path]) -> None:
        """Refuse before any work what could not be written after it.

        Raises:
            UsageError: A format is not known or not installed, or a file cannot be written.
            OutputExistsError: A file exists and may not be replaced.
        """
        for path in self.tie_points:
            point_format(path)
        if self.stac:
            self._check_item()
        asked = (self.raster, self.result, self.preview, self.report, *self.tie_points, self.stac)
        require_outputs([path for path in asked if path], inputs, self.overwrite)

    def write_failure(self, reason: str, fixed: Path, moving: Path, config: RegisterConfig) -> None:
        """Write down why a registration could not begin."""
        from rrl_register.exchange.registration import failure_record

        self._write_result(failure_record(reason))
        self._write_report(fixed, moving, None, config, reason)

    def write(self, registration: Registration, fixed: Path, moving: Path, config: RegisterConfig) -> None:
        """Write all that is asked for; of a registration that failed, what tells of it.

        Raises:
            NotRegisteredError: It failed.
            WriteError: A file cannot be written completely.
        """
        self._write_result(registration.to_json())
        self._write_preview(fixed, moving, registration, config)
        write_tie_points(self.tie_points, registration, self.overwrite)
        self._write_report(fixed, moving, registration, config)
        if registration.matrix is None:
            raise NotRegisteredError(registration.reason)
        self._write_raster(moving, registration, config)
        self._write_item(fixed, moving, registration)

    def _check_item(self) -> None:
        from rrl_register.exchange.stac import require_pystac

        require_pystac()
        if self.raster is None:
            raise UsageError("--stac without -o; needed an output that the item describes; try -o aligned.tif")

    def _write_result(self, data: dict[str, Any]) -> None:
        if self.result is None:
            return
        from rrl_register.raster.writer import write_json

        write_json(self.result, data, self.overwrite)
        click.echo(self.result)

    def _write_preview(self, fixed: Path, moving: Path, registration: Registration, config: RegisterConfig) -> None:
        if self.preview is None:
            return
        from rrl_register.raster.memory import bounded_block_cache
        from rrl_register.raster.writer import write_png
        from rrl_register.report.preview import preview_of_files

        with stages("preview"), bounded_block_cache(config.resources.max_memory):
            write_png(self.preview, preview_of_files(fixed, moving, registration, config.read), self.overwrite)
        click.echo(self.preview)

    def _write_report(
        self, fixed: Path, moving: Path, registration: Registration | None, config: RegisterConfig, failure: str = ""
    ) -> None:
        if self.report is None:
            return
        from rrl_register.report import Case, write_report

        case = Case(fixed, moving, registration, config, failure=failure, result=self.result, output=self.raster)
        with stages("report"):
            write_report(case, self.report, self.overwrite)
        click.echo(self.report)

    def _write_raster(self, moving: Path, registration: Registration, config: RegisterConfig) -> None:
        if self.raster is None:
            return
        from rrl_register.exchange.registration import apply_transform
        from rrl_register.raster.memory import bounded_block_cache

        with stages("warp"), bounded_block_cache(config.resources.max_memory):
            apply_transform(registration, moving, self.raster, config.warp, overwrite=self.overwrite)
        click.echo(self.raster)

    def _write_item(self, fixed: Path, moving: Path, registration: Registration) -> None:
        if self.stac is None or self.raster is None:
            return
        from rrl_register.exchange.stac import stac_item
        from rrl_register.raster.writer import write_json

        item = stac_item(self.stac, self.raster, registration, fixed=fixed, moving=moving, result=self.result)
        write_json(self.stac, item, self.overwrite)
        click.echo(self.stac)

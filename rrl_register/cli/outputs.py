"""Outputs of the commands that register: options, checks and writing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rrl_register.cli.command import require_outputs
from rrl_register.cli.progress import stages
from rrl_register.config import RegisterConfig
from rrl_register.config.option_types import FILE
from rrl_register.config.options import Decorated
from rrl_register.errors import NotRegisteredError, UsageError
from rrl_register.exchange.formats import point_format, write_points

if TYPE_CHECKING:
    from rrl_register.exchange.registration import Registration

POINT_SUFFIXES = ".geojson, .csv, .points (QGIS), .gpkg or .gcp (GDAL)"


def raster_options(function: Decorated) -> Decorated:
    """Add ``-o`` and ``--json``."""
    raster = click.option(
        "-o", "--output", "raster", type=FILE, help="Write MOVING, aligned with FIXED, to this GeoTIFF."
    )
    result = click.option(
        "--json",
        "result",
        type=FILE,
        metavar="RESULT.json",
        help="Write transform and figures here, also of a failure.",
    )
    return raster(result(function))


def export_options(function: Decorated) -> Decorated:
    """Add ``--tie-points`` and ``--stac``."""
    tie_points = click.option(
        "--tie-points",
        type=FILE,
        multiple=True,
        help=f"Write the tie points, including rejected ones, to this file: {POINT_SUFFIXES}; may be repeated.",
    )
    stac = click.option("--stac", type=FILE, metavar="ITEM", help="Write a STAC item of the output to this JSON file.")
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
    """Output files of a command; each path is printed when its file is written.

    Attributes:
        overwrite: Replace existing files.
        raster: The aligned moving image.
        result: RESULT.json.
        preview: Picture of both images.
        report: HTML page.
        tie_points: Files of tie points, in any known format.
        stac: STAC item of ``raster``.

    Raises:
        UsageError: Both ``raster`` and ``result`` are missing.
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
            raise UsageError("Neither -o nor --json was given; pass an output, such as -o aligned.tif")

    def check(self, inputs: list[Path]) -> None:
        """Check before any work that all files can be written after it.

        Raises:
            UsageError: A format is unknown or not installed, or a file cannot be written.
            OutputExistsError: A file exists and may not be replaced.
        """
        for path in self.tie_points:
            point_format(path)
        if self.stac:
            from rrl_register.exchange.stac import require_pystac

            require_pystac()
            if self.raster is None:
                raise UsageError("--stac describes an output, and -o is missing; try -o aligned.tif")
        asked = (self.raster, self.result, self.preview, self.report, *self.tie_points, self.stac)
        require_outputs([path for path in asked if path], inputs, self.overwrite)

    def write_failure(self, reason: str, fixed: Path, moving: Path, config: RegisterConfig) -> None:
        """Write RESULT.json and report of a registration that could not begin."""
        from rrl_register.exchange.registration import failure_record

        if self.result:
            self._write_json(self.result, failure_record(reason))
        self._write_report(fixed, moving, None, config, reason)

    def write(self, registration: Registration, fixed: Path, moving: Path, config: RegisterConfig) -> None:
        """Write all files; for a failed registration all but raster and STAC item.

        Raises:
            NotRegisteredError: The registration failed.
            WriteError: A file cannot be written completely.
        """
        from rrl_register.raster.memory import bounded_block_cache

        if self.result:
            self._write_json(self.result, registration.to_json())
        if self.preview:
            from rrl_register.raster.writer import write_png
            from rrl_register.report.pictures import preview_of_files

            with stages("preview"), bounded_block_cache(config.resources.max_memory):
                write_png(self.preview, preview_of_files(fixed, moving, registration, config.read), self.overwrite)
            click.echo(self.preview)
        write_tie_points(self.tie_points, registration, self.overwrite)
        self._write_report(fixed, moving, registration, config)
        if registration.matrix is None:
            raise NotRegisteredError(registration.reason)
        if self.raster is None:
            return
        from rrl_register.exchange.registration import apply_transform
        from rrl_register.raster.reader import as_measurements

        no_alpha = as_measurements(moving, wanted=config.read.no_alpha)
        with stages("warp"), no_alpha, bounded_block_cache(config.resources.max_memory):
            apply_transform(registration, moving, self.raster, config.warp, overwrite=self.overwrite)
        click.echo(self.raster)
        if self.stac:
            from rrl_register.exchange.stac import stac_item

            item = stac_item(self.stac, self.raster, registration, fixed=fixed, moving=moving, result=self.result)
            self._write_json(self.stac, item)

    def _write_json(self, path: Path, data: dict[str, Any]) -> None:
        from rrl_register.raster.writer import write_json

        write_json(path, data, self.overwrite)
        click.echo(path)

    def _write_report(
        self, fixed: Path, moving: Path, registration: Registration | None, config: RegisterConfig, failure: str = ""
    ) -> None:
        if self.report is None:
            return
        from rrl_register.report import write_report
        from rrl_register.report.inputs import ReportInput

        page = ReportInput(fixed, moving, registration, config, failure=failure, result=self.result, output=self.raster)
        with stages("report"):
            write_report(page, self.report, self.overwrite)
        click.echo(self.report)

"""Formats of tie points, by suffix. Importing this loads none of them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrl_register.errors import InputError, UsageError, WriteError

if TYPE_CHECKING:
    from rrl_register.exchange.table import Grids, PointTable


@dataclass(frozen=True)
class PointFormat:
    """A file format of tie points.

    Attributes:
        name: Name for messages.
        module: Module of this package that reads and writes it.
        key: Name in that module's functions, ``read_KEY(path, grids)`` and ``write_KEY(path, table, grids)``.
        writable: False for formats that are only read.
        package: Package that it needs; None: none.
        extra: Extra of this program that installs the package.
    """

    name: str
    module: str
    key: str
    writable: bool = True
    package: str | None = None
    extra: str = ""

    def load(self, task: str) -> Callable[..., Any]:
        """Import the function of the format for a task, ``read`` or ``write``."""
        function: Callable[..., Any] = getattr(import_module(f"{__package__}.{self.module}"), f"{task}_{self.key}")
        return function


_GDAL = PointFormat("GDAL ground control points", "control_points", "gdal")
FORMATS = {
    ".geojson": PointFormat("GeoJSON", "named_fields", "geojson"),
    ".csv": PointFormat("CSV", "named_fields", "csv"),
    ".points": PointFormat("QGIS Georeferencer", "control_points", "qgis"),
    ".gpkg": PointFormat("GeoPackage", "named_fields", "geopackage", package="pyogrio", extra="vector"),
    ".gcp": _GDAL,
    ".txt": _GDAL,
    ".json": PointFormat("RESULT.json", "table", "result", writable=False),
}


def point_format(path: Path, to_write: bool = True) -> PointFormat:
    """Return the format of a file's suffix.

    Raises:
        UsageError: The suffix is unknown, or the format needs a package that is not installed.
    """
    known = {suffix: form for suffix, form in FORMATS.items() if form.writable or not to_write}
    found = known.get(path.suffix.lower())
    if found is None:
        raise UsageError(f"{path} has no suffix of a format of tie points; choose one of {', '.join(known)}")
    if found.package and find_spec(found.package) is None:
        raise UsageError(
            f"{found.name} needs {found.package}, which is not installed; "
            f"try: pip install 'rrl-register[{found.extra}]', or another format"
        )
    return found


def write_points(output: Path, table: PointTable, grids: Grids, overwrite: bool = False) -> None:
    """Write tie points in the format of the suffix.

    Raises:
        UsageError: The format is unknown or not installed, or the folder cannot be written to.
        OutputExistsError, WriteError: The file exists and may not be replaced, or cannot be written.
    """
    from rrl_register.raster.writer import atomic_path

    write = point_format(output).load("write")
    with atomic_path(output, overwrite) as temporary:
        try:
            write(temporary, table, grids)
        except (OSError, UnicodeEncodeError) as error:
            raise WriteError(f"Cannot write {output} ({error}); check access and free space") from error


def read_points(path: Path, grids: Grids) -> PointTable:
    """Read tie points in the format of the suffix.

    Args:
        path: A file of this program, of QGIS or GDAL, or made by hand; or a RESULT.json.
        grids: Grids of the two images.

    Raises:
        UsageError: The format is unknown or not installed.
        InputError: The file cannot be read, or has other content.
    """
    read = point_format(path, to_write=False).load("read")
    try:
        table: PointTable = read(path, grids)
    except InputError as error:
        raise InputError(f"Cannot use the points of {path}: {error}") from error
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"Cannot read the points of {path} ({error}); check that content and suffix agree") from error
    return table

"""Formats of tie points, by suffix. Importing this loads none of them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rrl_register.errors import InputError, UsageError, WriteError

if TYPE_CHECKING:
    from rrl_register.exchange.table import Grids, PointTable


@dataclass(frozen=True)
class PointFormat:
    """A file format of tie points.

    Attributes:
        name: Name for messages.
        module: Module of this package that writes and reads it.
        writable: False for formats that are only read.
        package: Package that it needs; None: none.
        extra: Extra of this program that installs the package.
    """

    name: str
    module: str
    writable: bool = True
    package: str | None = None
    extra: str = ""

    def load(self) -> ModuleType:
        """Import the module of the format, with ``write(path, table, grids)`` and ``read(path, grids)``."""
        return import_module(f"{__package__}.{self.module}")


_GDAL = PointFormat("GDAL ground control points", "gdal_gcps")
FORMATS = {
    ".geojson": PointFormat("GeoJSON", "geojson"),
    ".csv": PointFormat("CSV", "table_csv"),
    ".points": PointFormat("QGIS Georeferencer", "qgis_points"),
    ".gpkg": PointFormat("GeoPackage", "geopackage", package="pyogrio", extra="vector"),
    ".gcp": _GDAL,
    ".txt": _GDAL,
    ".json": PointFormat("RESULT.json", "result_points", writable=False),
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

    module = point_format(output).load()
    with atomic_path(output, overwrite) as temporary:
        try:
            module.write(temporary, table, grids)
        except OSError as error:
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
    module = point_format(path, to_write=False).load()
    try:
        table: PointTable = module.read(path, grids)
    except InputError as error:
        raise InputError(f"Cannot use the points of {path}: {error}") from error
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"Cannot read the points of {path} ({error}); check that content and suffix agree") from error
    return table

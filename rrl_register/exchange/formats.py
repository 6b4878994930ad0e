"""The formats of tie points, by suffix. Importing this loads none of them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rrl_register.errors import InputError, UsageError, WriteError

if TYPE_CHECKING:
    from rrl_register.exchange.table import Grids, PointTable


@dataclass(frozen=True)
class PointFormat:
    """A file format for tie points.

    Attributes:
        name: What people call it.
        module: Of this package, that writes and reads it.
        writes: Whether it can be written.
        package: What has to be installed for it; None: nothing.
        extra: Of this program, that brings the package.
    """

    name: str
    module: str
    writes: bool = True
    package: str | None = None
    extra: str = ""

    @property
    def write(self) -> Callable[[Path, PointTable, Grids], None]:
        """Writes a table to a path."""
        return cast("Callable[[Path, PointTable, Grids], None]", self._function("write"))

    @property
    def read(self) -> Callable[[Path, Grids], PointTable]:
        """Reads a table from a path."""
        return cast("Callable[[Path, Grids], PointTable]", self._function("read"))

    def _function(self, name: str) -> object:
        return getattr(import_module(f"{__package__}.{self.module}"), name)


_GDAL = PointFormat("GDAL ground control points", "gdal_gcps")
FORMATS = {
    ".geojson": PointFormat("GeoJSON", "geojson"),
    ".csv": PointFormat("CSV", "table_csv"),
    ".points": PointFormat("QGIS Georeferencer", "qgis_points"),
    ".gpkg": PointFormat("GeoPackage", "geopackage", package="pyogrio", extra="vector"),
    ".gcp": _GDAL,
    ".txt": _GDAL,
    ".json": PointFormat("result of a registration", "result_json", writes=False),
}


def point_format(path: Path, to_write: bool = True) -> PointFormat:
    """The format that a file's suffix stands for.

    Raises:
        UsageError: It stands for none, or what the format needs is not installed.
    """
    known = {suffix: form for suffix, form in FORMATS.items() if form.writes or not to_write}
    found = known.get(path.suffix.lower())
    if found is None:
        raise UsageError(
            f"no format of tie points is known by the suffix of {path}; needed one of {', '.join(known)}; "
            "try another name"
        )
    if found.package and find_spec(found.package) is None:
        raise UsageError(
            f"{found.package} is not installed; needed for {found.name}; "
            f"try: pip install 'rrl-register[{found.extra}]', or another format"
        )
    return found


def write_points(output: Path, table: PointTable, grids: Grids, overwrite: bool = False) -> None:
    """Writes tie points in the format that the suffix stands for.

    Raises:
        UsageError: The format is not known or not installed, or the output cannot be written where it is asked for.
        OutputExistsError, WriteError: The file exists and may not be replaced, or cannot be written.
    """
    from rrl_register.raster.writer import atomic_path

    write = point_format(output).write
    with atomic_path(output, overwrite) as temporary:
        try:
            write(temporary, table, grids)
        except OSError as error:
            raise WriteError(f"cannot write {output} ({error}); needed write access and room") from error


def read_points(path: Path, grids: Grids) -> PointTable:
    """Reads tie points in the format that the suffix stands for.

    Args:
        path: A file that this program, QGIS, GDAL or a person has written; or the JSON file of a registration.
        grids: Of the two images that the points tie.

    Raises:
        UsageError: The format is not known or not installed.
        InputError: The file cannot be read, or holds something else.
    """
    read = point_format(path, to_write=False).read
    try:
        return read(path, grids)
    except InputError as error:
        raise InputError(f"cannot use the points of {path}: {error}") from error
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"cannot read the points of {path} ({error}); needed a file that its suffix fits") from error

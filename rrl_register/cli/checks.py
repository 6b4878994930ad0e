"""What can be known to be wrong before any work is done."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from rrl_register.errors import UsageError


def require_file(path: Path) -> None:
    """Refuse a path that leads nowhere; GDAL's own names (``/vsizip/...``) are left to GDAL.

    Raises:
        UsageError: There is no such file.
    """
    if not path.exists() and not str(path).startswith("/vsi"):
        raise UsageError(f"there is no file {path}; needed an existing file; check the path")


def require_two_images(fixed: Path, moving: Path) -> None:
    """Refuse inputs that do not exist, and the same file twice.

    Raises:
        UsageError: A file is missing, or both names lead to one file.
    """
    require_file(fixed)
    require_file(moving)
    if _same(fixed, moving):
        raise UsageError(f"FIXED and MOVING are the same file {fixed}; needed two images; check the paths")


def require_outputs(outputs: list[Path], inputs: list[Path], overwrite: bool) -> None:
    """Refuse outputs that could not, or should not, be written.

    Raises:
        UsageError: An output is an input or another output, or its folder cannot be written to.
        OutputExistsError: An output exists and may not be replaced.
    """
    from rrl_register.raster.writer import check_not_input, check_output

    for one, other in combinations(outputs, 2):
        if _same(one, other):
            raise UsageError(f"two outputs have the same name {one}; needed one file each; choose another name")
    for output in outputs:
        check_not_input(output, *inputs)
        check_output(output, overwrite)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))

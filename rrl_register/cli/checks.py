"""Checks of input and output paths before any work."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from rrl_register.errors import UsageError


def require_file(path: Path | None) -> None:
    """Check that a path exists; None and GDAL's own names (``/vsizip/...``) pass.

    Raises:
        UsageError: There is no such file.
    """
    if path and not path.exists() and not str(path).startswith("/vsi"):
        raise UsageError(f"File {path} does not exist; check the path")


def require_two_images(fixed: Path, moving: Path) -> None:
    """Check that two inputs exist and differ.

    Raises:
        UsageError: A file is missing, or both names lead to one file.
    """
    require_file(fixed)
    require_file(moving)
    if _same(fixed, moving):
        raise UsageError(f"FIXED and MOVING are the same file {fixed}; pass two images")


def require_outputs(outputs: list[Path], inputs: list[Path], overwrite: bool) -> None:
    """Check that outputs can and may be written.

    Raises:
        UsageError: An output is an input or another output, or its folder cannot be written to.
        OutputExistsError: An output exists and may not be replaced.
    """
    from rrl_register.raster.writer import check_not_input, check_output

    for one, other in combinations(outputs, 2):
        if _same(one, other):
            raise UsageError(f"Two outputs have the same name {one}; choose another name")
    for output in outputs:
        check_not_input(output, *inputs)
        check_output(output, overwrite)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))

"""Atomic writing: a file is written to a temporary sibling and renamed when it is complete."""

from __future__ import annotations

import glob
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rrl_register.errors import OutputExistsError, UsageError, WriteError


@contextmanager
def atomic_path(output: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside the output; rename it if the block ends well, else remove it.

    Args:
        output: The file to appear.
        overwrite: Whether an existing file may be replaced.

    Yields:
        A path in the same folder, with the same suffix, for the block to write to.

    Raises:
        OutputExistsError: The output exists and may not be replaced.
        UsageError: The output is a folder, or its folder cannot be written to.
        WriteError: The file could not be put in place.
    """
    check_output(output, overwrite)
    with scratch_path(output) as temporary:
        yield temporary
        _refuse_existing(output, overwrite)
        with _write_errors(output):
            temporary.replace(output)


@contextmanager
def scratch_path(output: Path) -> Iterator[Path]:
    """Yield a path beside the output, of the same suffix; remove it in the end, with all that GDAL put beside it."""
    temporary = output.with_name(f".{output.stem}.{secrets.token_hex(4)}.part{output.suffix}")
    try:
        yield temporary
    finally:
        # GDAL's sidecar files (.aux.xml, .msk), and the file in which it collects overviews (.ovr.tmp).
        for path in output.parent.glob(f"{glob.escape(temporary.name)}*"):
            path.unlink(missing_ok=True)


def check_output(output: Path, overwrite: bool = False) -> None:
    """Refuse early an output that could not be written after hours of work.

    Raises:
        OutputExistsError: The output exists and may not be replaced.
        UsageError: The output is a folder, or its folder is missing or may not be written to.
    """
    folder = output.parent
    if output.is_dir():
        raise UsageError(f"Output {output} is a folder; name a file, such as {output / 'aligned.tif'}")
    if not folder.is_dir():
        raise UsageError(f"Output folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"Output folder {folder} may not be written to; choose another folder")
    _refuse_existing(output, overwrite)


def check_not_input(output: Path, *inputs: Path) -> None:
    """Refuse to overwrite an input.

    Raises:
        UsageError: The output is one of the inputs.
    """
    for path in inputs:
        if output.resolve() == path.resolve() or (output.exists() and path.exists() and output.samefile(path)):
            raise UsageError(f"Output {output} is the input {path}; choose another name")


def write_json(output: Path, data: Mapping[str, Any] | Sequence[Any], overwrite: bool = False) -> None:
    """Write data as indented JSON; NaN and infinity become null, numpy's scalars and arrays plain numbers and lists.

    Raises:
        OutputExistsError, UsageError, WriteError: As ``atomic_path``.
    """
    text = json.dumps(_plain(data), indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_path(output, overwrite) as temporary, _write_errors(output):
        temporary.write_bytes((text + "\n").encode(errors="backslashreplace"))  # names may hold bytes of no text


def write_png(output: Path, image: npt.NDArray[np.uint8], overwrite: bool = False) -> None:
    """Write an 8-bit image as PNG.

    Args:
        output: The file to write.
        image: uint8 (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OutputExistsError, UsageError, WriteError: As ``atomic_path``.
        ValueError: The array is of another shape or dtype.
    """
    channels = 1 if image.ndim == 2 else image.shape[-1]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(f"Cannot encode {image.dtype} {image.shape} as PNG; needed: uint8 (H, W) or (H, W, 3 or 4)")
    swap = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(channels)
    encoded = cv2.imencode(".png", image if swap is None else cv2.cvtColor(image, swap))[1]
    with atomic_path(output, overwrite) as temporary, _write_errors(output):
        temporary.write_bytes(encoded.tobytes())


def _refuse_existing(output: Path, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        raise OutputExistsError(f"Output {output} exists; choose another name or pass --overwrite")


@contextmanager
def _write_errors(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(f"Cannot write {output} ({error.strerror}); check write access and free space") from error


def _plain(value: Any) -> Any:
    """Reduce a value to JSON's types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value

"""Patches on disk, in the layout of the RRL-Net authors' release."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrl_register.errors import UsageError
from rrl_register.raster.writer import atomic_path, check_output
from rrl_register.training.evaluation.cutting import FamilyPatches

_SETS = {"": False, "_near": True}
_PARTS = ("images", "labels", "scenes")


def check_patch_files(folder: Path, families: Iterable[str], overwrite: bool = False) -> None:
    """Create the folder and check that the files can be written, before long computations.

    Raises:
        OutputExistsError: A file exists and must not be replaced.
        UsageError: The folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot create the folder {folder} ({error.strerror}); needed one for the patches") from error
    for family in families:
        for path in _paths(folder, family):
            check_output(path, overwrite)


def save_family(folder: Path, patches: FamilyPatches, overwrite: bool = False) -> list[Path]:
    """Write two sets of a family, ``<family>`` with negatives from elsewhere and ``<family>_near`` with near misses.

    Each has ``_images.npy`` (N, 2, 64, 64) uint8, ``_labels.npy`` (N,) uint8 and ``_scenes.npy`` (N,) text.

    Returns:
        The files written.

    Raises:
        OutputExistsError, UsageError, InputError: See ``raster.writer.atomic_path``.
    """
    paths = _paths(folder, patches.family)
    scenes = np.tile(patches.scenes, 2)
    arrays = [array for near in _SETS.values() for array in (*patches.labelled(near), scenes)]
    for path, array in zip(paths, arrays, strict=True):
        _save(path, array, overwrite)
    return paths


def _paths(folder: Path, family: str) -> list[Path]:
    return [folder / f"{family}{kind}_{part}.npy" for kind in _SETS for part in _PARTS]


def _save(path: Path, array: NDArray[Any], overwrite: bool) -> None:
    with atomic_path(path, overwrite) as temporary:
        np.save(temporary, array)

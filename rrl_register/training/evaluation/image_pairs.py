"""Lists of image pairs with landmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrl_register.errors import InputError, UsageError


@dataclass(frozen=True)
class PairPaths:
    """Two images of one place, with landmarks.

    Attributes:
        name: Name of the pair.
        family: Name of its family of spectra, such as nir, lwir, sar.
        fixed: The visible image.
        moving: The image of another spectrum.
        fixed_points, moving_points: (L, 2) landmarks, (x, y) in px of the files.
    """

    name: str
    family: str
    fixed: Path
    moving: Path
    fixed_points: NDArray[np.float64]
    moving_points: NDArray[np.float64]


def read_image_pairs(path: Path, families: Sequence[str] = ()) -> dict[str, list[PairPaths]]:
    """Read a list of pairs, without those that have no landmarks.

    Args:
        path: JSON, a list of objects with ``id``, ``family``, ``fixed`` and ``moving`` (paths from the file's folder),
            ``landmarks_fixed`` and ``landmarks_moving`` (lists of [x, y], or null).
        families: Families to keep, in this order; empty: all, in the order of the file.

    Returns:
        The pairs of each family.

    Raises:
        InputError: The file cannot be read, an entry is not as described, or no pair has landmarks.
        UsageError: A family is not among those with landmarks.
    """
    try:
        entries = json.loads(path.read_text())
        pairs = [_pair(entry, path.parent) for entry in entries if entry.get("landmarks_fixed")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else error
        raise InputError(
            f"{path} is no list of image pairs ({said}); needed id, family, fixed, moving, landmarks_fixed and "
            "landmarks_moving of each: see 'rrl-register evaluate patches --help'"
        ) from error
    if not pairs:
        raise InputError(
            f"no pair of {path} has landmarks; needed corresponding points: add landmarks_fixed and _moving"
        )
    found = list(dict.fromkeys(pair.family for pair in pairs))
    if unknown := [family for family in families if family not in found]:
        raise UsageError(f"there is no family {', '.join(unknown)} with landmarks in {path}; it has {', '.join(found)}")
    return {family: [pair for pair in pairs if pair.family == family] for family in families or found}


def _pair(entry: Mapping[str, Any], folder: Path) -> PairPaths:
    fixed, moving = (np.array(entry[f"landmarks_{image}"], np.float64) for image in ("fixed", "moving"))
    if fixed.shape != moving.shape or fixed.shape[1:] != (2,):
        raise ValueError(f"landmarks {fixed.shape} and {moving.shape} of {entry['id']}")
    name, family = str(entry["id"]), str(entry["family"])
    return PairPaths(name, family, folder / entry["fixed"], folder / entry["moving"], fixed, moving)

"""Files of hard cases, and their list for ``benchmarks/pairs.py``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from case_maker.cases import HardCase, Plan, make_case
from case_maker.difficulties import DIFFICULTIES, GEOTIFF, JPEG
from rrl_register.geometry.arrays import Points
from rrl_register.raster.writer import atomic_path, write_json

_JPEG_QUALITY = 90
_CRS, _EAST_M, _NORTH_M = "EPSG:32631", 500_000, 4_000_000
"""An arbitrary place for georeferenced images."""


def write_cases(folder: Path, plans: Iterable[Plan]) -> Path:
    """Make cases and write them, then their list pairs.json; existing files are replaced.

    Returns:
        The list: JSON as ``benchmarks/pairs.py`` describes it, with the ``matrix`` and the ``scenes`` of each case.

    Raises:
        InputError: A source cannot be read, or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = [write_case(folder, plan, make_case(plan)) for plan in plans]
    write_json(folder / "pairs.json", entries, overwrite=True)
    return folder / "pairs.json"


def write_case(folder: Path, plan: Plan, case: HardCase) -> dict[str, Any]:
    """Write both images of a case into a folder that exists; returns its entry in the list."""
    suffix = DIFFICULTIES[plan.suite].suffix
    fixed, moving = f"{plan.name}_fixed{suffix}", f"{plan.name}_moving{suffix}"
    for name, image in ((fixed, case.fixed), (moving, case.moving)):
        _write_image(folder / name, image, plan.scene.gsd)
    return {
        "id": plan.name,
        "suite": plan.suite,
        "family": plan.scene.family,
        "fixed": fixed,
        "moving": moving,
        "landmarks_fixed": _listed(case.landmarks_fixed),
        "landmarks_moving": _listed(case.landmarks_moving),
        "matrix": None if case.matrix is None else case.matrix.tolist(),
        "scenes": list(plan.scenes),
    }


def _listed(points: Points | None) -> list[list[float]] | None:
    return None if points is None else np.round(points, 3).tolist()


def _write_image(path: Path, image: NDArray[np.uint8], gsd: float) -> None:
    with atomic_path(path, overwrite=True) as temporary:
        if path.suffix == GEOTIFF:
            _write_geotiff(temporary, image, gsd)
        else:
            temporary.write_bytes(_encoded(path.suffix, image))


def _encoded(suffix: str, image: NDArray[np.uint8]) -> bytes:
    """Encode by OpenCV, which takes the bands last, and blue first."""
    settings = (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY) if suffix == JPEG else ()
    return bytes(cv2.imencode(suffix, np.ascontiguousarray(image[::-1].transpose(1, 2, 0)), settings)[1])


def _write_geotiff(path: Path, image: NDArray[np.uint8], gsd: float) -> None:
    count, height, width = image.shape
    place = Affine(gsd, 0, _EAST_M, 0, -gsd, _NORTH_M)
    layout = {"count": count, "height": height, "width": width, "dtype": "uint8", "crs": _CRS, "transform": place}
    with rasterio.open(path, "w", driver="GTiff", compress="deflate", **layout) as target:
        target.write(image)

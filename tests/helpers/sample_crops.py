"""A window of a sample pair that is registered in half a second, and its known transform."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

DATA = Path(__file__).resolve().parents[2] / "data"
PAIR = "synthetic_optical_sar"
CORNER, SIDE = (170, 170), 256


def cut_pair(folder: Path, corner: tuple[int, int] = CORNER) -> tuple[Path, Path]:
    """Write FIXED.tif and MOVING.tif: the same window of both images of the pair."""
    paths = []
    for part in ("fixed", "moving"):
        with rasterio.open(DATA / f"{PAIR}_{part}.tif") as source:
            window = Window(*corner, SIDE, SIDE)
            place = {"width": SIDE, "height": SIDE, "transform": source.window_transform(window)}
            paths.append(folder / f"{part.upper()}.tif")
            with rasterio.open(paths[-1], "w", **{**source.profile, **place}) as target:
                target.write(source.read(window=window))
    return paths[0], paths[1]


def true_matrix(corner: tuple[int, int] = CORNER) -> np.ndarray:
    """Return the known transform of the cut pair, (3, 3), moving pixel -> fixed pixel."""
    matrix = np.array(json.loads((DATA / f"{PAIR}_truth.json").read_text())["matrix"])
    shift = np.array([[1, 0, corner[0]], [0, 1, corner[1]], [0, 0, 1.0]])
    return np.linalg.inv(shift) @ matrix @ shift

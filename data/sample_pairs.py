"""Common parts of the scripts that make sample pairs: a known misregistration, resampling, and the files of a pair."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from scipy.ndimage import map_coordinates

FloatArray = npt.NDArray[np.float64]
FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Misregistration:
    """Misregistration of the moving image.

    Attributes:
        rotation_deg: Turn about the image centre, degrees.
        scale: Fixed pixels per moving pixel.
        shift_px: Where the moving image's centre lies off the fixed image's centre, fixed px (x, y).
        perspective: Last row of the homography, per px from the centre (x, y).
    """

    rotation_deg: float
    scale: float
    shift_px: tuple[float, float]
    perspective: tuple[float, float]

    def matrix(self, fixed_shape: tuple[int, int], moving_shape: tuple[int, int]) -> FloatArray:
        """Return the (3, 3) transform moving pixel -> fixed pixel; (0, 0) is the centre of the top-left pixel."""
        cosine, sine = (f(math.radians(self.rotation_deg)) * self.scale for f in (math.cos, math.sin))
        about_centre = np.array([[cosine, -sine, self.shift_px[0]], [sine, cosine, self.shift_px[1]], [0, 0, 1]])
        about_centre[2, :2] = self.perspective
        matrix = _to_centre(fixed_shape, 1) @ about_centre @ _to_centre(moving_shape, -1)
        return np.asarray(matrix / matrix[2, 2])


def resample(image: FloatArray, matrix: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Look an image up, by cubic splines, where the pixels of another grid lie on it.

    Args:
        image: (H, W).
        matrix: (3, 3), pixel of the new grid -> pixel of the image.
        shape: Rows and columns of the new grid.

    Returns:
        Float64 array of that shape, NaN outside the image.
    """
    rows, columns = np.indices(shape, dtype=np.float64)
    x, y, w = np.tensordot(matrix, np.stack([columns, rows, np.ones(shape)]), axes=1)
    x, y = x / w, y / w
    values = map_coordinates(image, [y, x], order=3, mode="nearest")
    outside = (x < 0) | (y < 0) | (x > image.shape[1] - 1) | (y > image.shape[0] - 1)
    return np.where(outside, np.nan, values)


def write_geotiff(
    path: Path,
    bands: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    crs: str | None = None,
    transform: Affine | None = None,
    *,
    names: tuple[str, ...],
    tags: dict[str, str],
    nodata: float | None = None,
) -> None:
    """Write (B, H, W) bands as a compressed GeoTIFF."""
    profile = {
        "driver": "GTiff",
        "dtype": bands.dtype.name,
        "count": bands.shape[0],
        "height": bands.shape[1],
        "width": bands.shape[2],
        "crs": crs,
        "transform": transform,
        "nodata": nodata,
        "compress": "deflate",
        "zlevel": 9,
        "predictor": 2,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
    }
    if bands.shape[0] == 3:
        profile["photometric"] = "rgb"
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(bands)
        dataset.descriptions = names
        dataset.update_tags(**tags)


def write_truth(path: Path, fixed: Path, moving: Path, matrix: FloatArray, made_by: Misregistration) -> None:
    """Write the known transform, and what it was made from, as JSON."""
    truth = {
        "fixed": fixed.name,
        "moving": moving.name,
        "convention": "moving pixel -> fixed pixel, (x, y) = (column, row), (0, 0) = centre of the top-left pixel",
        "matrix": matrix.tolist(),
        "misregistration": asdict(made_by),
    }
    path.write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")


def _to_centre(shape: tuple[int, int], sign: int) -> FloatArray:
    """Shift by the image centre: away from the origin (+1) or to it (-1)."""
    height, width = shape
    return np.array([[1, 0, sign * (width - 1) / 2], [0, 1, sign * (height - 1) / 2], [0, 0, 1]])

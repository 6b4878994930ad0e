"""Make the images of the worked examples (docs/examples.md) that data/ does not hold: thermal, a camera rig, a series.

    python data/make_example_pairs.py FOLDER

All are stand-ins, made from the sample pairs with known transforms. See data/README.md.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from make_synthetic_sar_pair import AMPLITUDE_SCALE, CRS, LOOKS, MARGIN, ORIGIN, PIXEL_M, SEED, SIZE
from rasterio.errors import NotGeoreferencedWarning
from sample_pairs import FOLDER, FloatArray, Misregistration, resample, write_geotiff, write_truth
from scipy.ndimage import gaussian_filter
from synthetic_landscape import make_landscape
from synthetic_sensors import add_speckle, radar_intensity

CROP = (60, 50, 400, 300)
"""Column, row, width and height of the part of the real pair that thermal and rig show, px."""
THERMAL = Misregistration(rotation_deg=6.0, scale=2.0, shift_px=(9.0, -7.0), perspective=(0.0, 0.0))
THERMAL_SHAPE = (150, 200)
THERMAL_BLUR, THERMAL_NOISE = 2.5, 2.0
RIG = {
    "blue": Misregistration(rotation_deg=0.6, scale=1.006, shift_px=(-14.0, 9.0), perspective=(0.0, 0.0)),
    "red": Misregistration(rotation_deg=-0.8, scale=0.995, shift_px=(17.0, 6.0), perspective=(0.0, 0.0)),
    "nir": Misregistration(rotation_deg=1.1, scale=1.012, shift_px=(6.0, -15.0), perspective=(0.0, 0.0)),
}
"""Of each camera against the green one."""
SERIES = {
    "2024-05-03": Misregistration(rotation_deg=0.5, scale=1.0, shift_px=(11.0, -8.0), perspective=(0.0, 0.0)),
    "2024-05-15": Misregistration(rotation_deg=-1.2, scale=1.01, shift_px=(-19.0, 5.0), perspective=(0.0, 0.0)),
    "2024-05-27": Misregistration(rotation_deg=0.3, scale=0.995, shift_px=(6.0, 22.0), perspective=(0.0, 0.0)),
}
"""Of each SAR image against the optical one."""
TAGS = {"SYNTHETIC": "YES, a stand-in", "MADE_BY": "data/make_example_pairs.py"}


def make_thermal(folder: Path) -> None:
    """Write the visible image, and an inverted, blurred one of half the resolution, without georeferences."""
    column, row, width, height = CROP
    visible = _visible()
    fixed = visible[:, row : row + height, column : column + width]
    matrix = THERMAL.matrix((height, width), THERMAL_SHAPE)
    warmth = 255 - gaussian_filter(visible.mean(axis=0), THERMAL_BLUR)
    moving = resample(warmth, _in_crop() @ matrix, THERMAL_SHAPE)
    moving += np.random.default_rng(SEED).normal(0, THERMAL_NOISE, THERMAL_SHAPE)
    fixed_path, moving_path = folder / "thermal_fixed.tif", folder / "thermal_moving.tif"
    write_geotiff(fixed_path, _bytes(fixed), names=("red", "green", "blue"), tags=TAGS)
    write_geotiff(moving_path, _bytes(moving[None]), names=("thermal",), tags=TAGS)
    write_truth(folder / "thermal_truth.json", fixed_path, moving_path, matrix, THERMAL)


def make_rig(folder: Path) -> None:
    """Write the four bands of a rig, each as its own camera would see it, without georeferences."""
    column, row, width, height = CROP
    red, green, blue = _visible()
    with rasterio.open(FOLDER / "rgb_nir_moving.tif") as dataset:
        near_infrared = dataset.read(1).astype(float)
    to_near_infrared = np.linalg.inv(json.loads((FOLDER / "rgb_nir_truth.json").read_text())["matrix"])
    (folder / "rig").mkdir(exist_ok=True)
    green_path = folder / "rig_green.tif"
    crop = green[None, row : row + height, column : column + width]
    write_geotiff(green_path, _bytes(crop), names=("green",), tags=TAGS)
    bands = {"blue": (blue, np.eye(3)), "red": (red, np.eye(3)), "nir": (near_infrared, to_near_infrared)}
    for name, (band, to_band) in bands.items():
        matrix = RIG[name].matrix((height, width), (height, width))
        path = folder / "rig" / f"{name}.tif"
        seen = resample(band, to_band @ _in_crop() @ matrix, (height, width))
        write_geotiff(path, _bytes(seen[None]), names=(name,), tags=TAGS)
        write_truth(folder / f"rig_{name}_truth.json", green_path, path, matrix, RIG[name])


def make_series(folder: Path) -> None:
    """Write SAR images of three dates, of the land of the synthetic pair, whose optical image is the reference."""
    (folder / "series").mkdir(exist_ok=True)
    intensity = radar_intensity(make_landscape(SIZE + 2 * MARGIN, PIXEL_M, SEED))
    on_land = np.array([[1, 0, MARGIN], [0, 1, MARGIN], [0, 0, 1.0]])
    transform = Affine.translation(*ORIGIN) * Affine.scale(PIXEL_M, -PIXEL_M)
    reference = FOLDER / "synthetic_optical_sar_fixed.tif"
    for number, (date, wrong) in enumerate(SERIES.items()):
        matrix = wrong.matrix((SIZE, SIZE), (SIZE, SIZE))
        echo = add_speckle(resample(intensity, on_land @ matrix, (SIZE, SIZE)), LOOKS, np.random.default_rng(number))
        moving = np.clip(np.rint(AMPLITUDE_SCALE * np.sqrt(echo)), 1, 65535).astype(np.uint16)
        path = folder / "series" / f"{date}.tif"
        write_geotiff(path, moving[None], CRS, transform, names=("VV amplitude",), tags=TAGS)
        write_truth(folder / f"series_{date}_truth.json", reference, path, matrix, wrong)


def _visible() -> FloatArray:
    with rasterio.open(FOLDER / "rgb_nir_fixed.tif") as dataset:
        return np.asarray(dataset.read(), float)


def _in_crop() -> FloatArray:
    """Return the (3, 3) transform pixel of the crop -> pixel of the real pair's fixed image."""
    return np.array([[1, 0, CROP[0]], [0, 1, CROP[1]], [0, 0, 1.0]])


def _bytes(values: FloatArray) -> np.ndarray:
    """Round to uint8; 0, no data, where the source has none."""
    return np.where(np.isnan(values), 0, np.clip(np.rint(values), 1, 255)).astype(np.uint8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write; made if missing")
    target = parser.parse_args().folder
    target.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # thermal and rig have no georeference on purpose
    make_thermal(target)
    make_rig(target)
    make_series(target)

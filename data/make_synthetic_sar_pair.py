"""Make the SYNTHETIC sample pair: an optical and a SAR image, 2 m, of a landscape that does not exist.

    python data/make_synthetic_sar_pair.py

Nothing is downloaded, everything is drawn from one seed. See ``synthetic_landscape.py`` for the land and
``synthetic_sensors.py`` for how both sensors see it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from affine import Affine
from sample_pairs import FOLDER, Misregistration, resample, write_geotiff, write_truth
from synthetic_landscape import make_landscape
from synthetic_sensors import add_speckle, photograph, radar_intensity

SEED = 7
PIXEL_M = 2.0
SIZE, MARGIN = 600, 64
"""Side of both images, px, and how much further the land reaches on each side, so that the SAR image has no gaps."""
LOOKS = 4
AMPLITUDE_SCALE = 1000
MISREGISTRATION = Misregistration(rotation_deg=-2.4, scale=0.975, shift_px=(-28.3, 15.6), perspective=(-1.5e-5, 2e-5))
# A projection that exists, at a round position that means nothing.
CRS, ORIGIN = "EPSG:32633", (500_000.0, 5_300_000.0)
TAGS = {"SYNTHETIC": "YES, a landscape that does not exist", "MADE_BY": "data/make_synthetic_sar_pair.py"}


def make_pair(folder: Path) -> None:
    """Write ``synthetic_optical_sar_{fixed,moving}.tif`` and ``..._truth.json`` to a folder."""
    rng = np.random.default_rng(SEED)
    land = make_landscape(SIZE + 2 * MARGIN, PIXEL_M, SEED)
    shape = (SIZE, SIZE)
    fixed = photograph(land, rng)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    matrix = MISREGISTRATION.matrix(shape, shape)
    on_land = np.array([[1, 0, MARGIN], [0, 1, MARGIN], [0, 0, 1.0]])
    intensity = resample(radar_intensity(land), on_land @ matrix, shape)
    amplitude = AMPLITUDE_SCALE * np.sqrt(add_speckle(intensity, LOOKS, rng))
    moving = np.clip(np.rint(amplitude), 1, 65535).astype(np.uint16)
    transform = Affine.translation(*ORIGIN) * Affine.scale(PIXEL_M, -PIXEL_M)
    stem = "synthetic_optical_sar"
    fixed_path, moving_path = folder / f"{stem}_fixed.tif", folder / f"{stem}_moving.tif"
    write_geotiff(fixed_path, fixed, CRS, transform, names=("red", "green", "blue"), tags=TAGS)
    write_geotiff(moving_path, moving[None], CRS, transform, names=("VV amplitude",), tags=TAGS)
    write_truth(folder / f"{stem}_truth.json", fixed_path, moving_path, matrix, MISREGISTRATION)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (default: beside this script)")
    make_pair(parser.parse_args().folder)

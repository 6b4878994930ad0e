"""Register a raster to another one with xarray and dask, and warp it chunk by chunk. Needs the extra ``xarray``.

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
    parser.add_argument("--registration", type=Path, help="RESULT.json of this pair, if it is registered already")
    arguments = parser.parse_args()
    fixed, moving = (
        rioxarray.open_rasterio(path, chunks={"x": CHUNK, "y": CHUNK}) for path in (arguments.fixed, arguments.moving)
    )
    known = None if arguments.registration is None else read_registration(arguments.registration)
    aligned = moving.rrl.register_to(fixed, registration=known)
    print(f"{type(aligned.data).__name__} {aligned.shape} in chunks of {aligned.data.chunksize}")
    aligned.rio.to_raster(arguments.output, tiled=True, compress="deflate")
    print(arguments.output)


if __name__ == "__main__":
    main()

"""Speed and memory of the warp alone, on a made-up scene of any size.

python benchmarks/warp_speed.py [--side 4000] [--dtype uint8] [--threads 1,2] [--format cog] [--displaced]

The scene, waves and noise in a tiled GeoTIFF, is turned by 3 degrees, tilted a little and, if asked for, displaced by a
thin-plate spline of 100 knots. Prints one line of JSON for each number of threads: wall and processor seconds, output
pixels (millions) per second of either, peak resident memory (MiB) of the process, which holds NumPy, SciPy and GDAL.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from resources import MAXRSS_PER_MIB

from rrl_register.config import RasterFormat, WarpConfig
from rrl_register.geometry.displacement import Displacement
from rrl_register.geometry.window import Box
from rrl_register.raster.grid import Grid
from rrl_register.warping.warp import warp_to_file

_TILE = 512


def main() -> None:
    """Read the arguments, make the scene, warp it once for each number of threads in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4000)
    parser.add_argument("--dtype", choices=["uint8", "uint16", "float32"], default="uint8")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--format", type=RasterFormat, choices=list(RasterFormat), default=RasterFormat.GTIFF)
    parser.add_argument("--displaced", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to write for a while; default: the temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        scene = Path(folder, "scene.tif")
        write_scene(scene, arguments.side, arguments.dtype)
        for threads in map(int, arguments.threads.split(",")):
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as fresh:
                config = WarpConfig(threads=threads, format=arguments.format)
                figures = fresh.submit(measure, scene, config, arguments.displaced).result()
            print(json.dumps({"side": arguments.side, "dtype": arguments.dtype, "threads": threads, **figures}))


def write_scene(path: Path, side: int, dtype: str) -> None:
    """Write waves and noise, tile by tile."""
    rng = np.random.default_rng(5)
    layout = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": dtype}
    tiling = {"tiled": True, "blockxsize": _TILE, "blockysize": _TILE, "compress": "deflate", "bigtiff": "if_safer"}
    noise = rng.normal(0, 6, (_TILE, _TILE))
    with rasterio.open(path, "w", **layout, **tiling) as target:
        for box in Box.of_shape((side, side)).blocks(_TILE):
            y, x = np.ogrid[box.top : box.bottom, box.left : box.right]
            grey = 100 + 40 * np.sin(x / 37) + 40 * np.cos(y / 23) + noise[: box.shape[0], : box.shape[1]]
            scaled = grey if dtype == "uint8" else grey * 100
            target.write(scaled.clip(0, 255 if dtype == "uint8" else 60_000).astype(dtype), 1, window=box.window())


def measure(scene: Path, config: WarpConfig, displaced: bool) -> dict[str, Any]:
    """Warp the scene onto a grid of its own size and measure it."""
    with rasterio.open(scene) as dataset:
        side = dataset.width
    c, s = np.cos(np.radians(3)), np.sin(np.radians(3))
    matrix = np.array([[c, -s, 0.02 * side], [s, c, -0.02 * side], [1e-3 / side, -1e-3 / side, 1]])
    displacement = thin_plate(side) if displaced else None
    start, start_cpu = time.perf_counter(), time.process_time()
    warp_to_file(scene, matrix, Grid(side, side), scene.with_name("warped.tif"), config, True, displacement)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "mpx_per_second": round(side**2 / 1e6 / seconds, 2),
        "mpx_per_cpu_second": round(side**2 / 1e6 / cpu, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_PER_MIB, 1),
    }


def thin_plate(side: int) -> Displacement:
    """Build some px of displacement, bent by 100 knots, all over a square."""
    rng = np.random.default_rng(6)
    ends = (0.0, side - 1.0)
    hull = np.array([(ends[0], ends[0]), (ends[1], ends[0]), (ends[1], ends[1]), (ends[0], ends[1])])
    knots, weights = rng.uniform(-1, 1, (100, 2)), rng.normal(0, 1, (100, 2))
    return Displacement(1, np.zeros((3, 2)), knots, weights, np.full(2, side / 2), side / 2, hull)


if __name__ == "__main__":
    main()

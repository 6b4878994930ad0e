"""Seconds that a batch of small scenes takes with 1 and 2 workers, in the local pool and as workers of Dask.

    python benchmarks/workers.py [--scenes 8] [--size 256] [--keypoints 300] [--rounds 1]
    python benchmarks/workers.py --idle

The scenes are parts of the sample pair in data/, of about known place, so that they are small work. All ways take
turns; each is timed from its start to its end, the start of its processes included. Prints a line of JSON for each run,
then a table with the medians and their ratios to one local worker, and whether pixels and results were the same,
whatever the way. With --idle the scenes are files that are not there, so that what is timed is the start and the end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import rasterio
from rasterio.windows import Window

from rrl_register import MatchConfig, RegisterConfig
from rrl_register.batch import BatchItem, Manifest, Summary, run_batch
from rrl_register.batch.dask_local import DaskWorkers
from rrl_register.batch.executors import ProcessPool
from rrl_register.batch.work import register_scene
from rrl_register.config import Device
from rrl_register.training.evaluation.figures import text_table

SAMPLES = Path(__file__).resolve().parents[1] / "data"


def pool(workers: int, scenes: Manifest, folder: Path) -> Summary:
    """Run the batch in a pool of processes, as ``--workers`` does without Dask."""
    work = partial(register_scene, folder=folder, threads=max(1, (os.cpu_count() or 1) // workers))
    return run_batch(scenes, folder, executor=ProcessPool(work, workers))


def on_dask(workers: int, scenes: Manifest, folder: Path) -> Summary:
    """Run the batch on Dask workers that are started for it, as ``--workers`` does with Dask."""
    work = partial(register_scene, threads=max(1, (os.cpu_count() or 1) // workers))
    return run_batch(scenes, folder, executor=DaskWorkers(work, folder, workers))


WAYS: dict[str, tuple[Callable[[int, Manifest, Path], Summary], int]] = {
    "pool, 1": (pool, 1),
    "pool, 2": (pool, 2),
    "Dask, 1": (on_dask, 1),
    "Dask, 2": (on_dask, 2),
}


def missing_scenes(n: int) -> Manifest:
    """Scenes that are no work."""
    return Manifest(
        "nothing", tuple(BatchItem(f"scene-{i}", Path("nowhere.tif"), Path("nowhere.tif")) for i in range(n))
    )


def cut_scenes(folder: Path, n: int, size: int, config: RegisterConfig) -> Manifest:
    """Cuts parts of the sample pair, each at another place."""
    scenes = []
    for i in range(n):
        paths = [folder / f"{i}_{name}.tif" for name in ("fixed", "moving")]
        for name, path in zip(("fixed", "moving"), paths, strict=True):
            _cut(SAMPLES / f"rgb_nir_{name}.tif", path, Window(12 * (i % 9), 8 * (i % 7), size, size))
        scenes.append(BatchItem(f"scene-{i}", *paths, config))
    return Manifest("parts of the sample pair", tuple(scenes))


def _cut(source: Path, target: Path, window: Window) -> None:
    with rasterio.open(source) as whole:
        profile = whole.profile | {"width": window.width, "height": window.height}
        if whole.crs:
            profile["transform"] = whole.window_transform(window)
        with rasterio.open(target, "w", **profile) as part:
            part.write(whole.read(window=window))


def contents(folder: Path) -> dict[str, Any]:
    """Pixels and results that a batch wrote, by file name."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("scene-*")):
        if path.suffix == ".json":
            found[path.name] = json.loads(path.read_text()) | {"seconds": None}
        else:
            with rasterio.open(path) as raster:
                found[path.name] = raster.read().tobytes()
    return found


def measure(scenes: Manifest, rounds: int) -> tuple[dict[str, list[float]], bool]:
    """Seconds of each way, and whether all wrote the same."""
    seconds: dict[str, list[float]] = defaultdict(list)
    first: dict[str, Any] = {}
    same = True
    for _ in range(rounds):
        for name, (run, workers) in WAYS.items():
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                summary = run(workers, scenes, Path(folder))
                seconds[name].append(time.perf_counter() - start)
                written = contents(Path(folder))
            first = first or written
            same &= written == first
            print(json.dumps({"way": name, "seconds": round(seconds[name][-1], 2), **summary.counts()}), flush=True)
    return seconds, same


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument("--size", type=int, default=256, metavar="PX", help="side of a scene; default: %(default)s")
    parser.add_argument("--keypoints", type=int, default=300, metavar="N", help="in each image; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--idle", action="store_true", help="time the start and the end alone")
    arguments = parser.parse_args()
    known = MatchConfig(n_keypoints=arguments.keypoints, max_shift="20px", rotation="none", scale="none")
    config = RegisterConfig(match=replace(known, device=Device.CPU))
    with tempfile.TemporaryDirectory() as folder:
        cut = partial(cut_scenes, Path(folder), size=arguments.size, config=config)
        scenes = (missing_scenes if arguments.idle else cut)(arguments.scenes)
        seconds, same = measure(scenes, arguments.rounds)
    base = median(seconds["pool, 1"])
    rows = [[way, median(taken), median(taken) / base] for way, taken in seconds.items()]
    print(text_table(["workers", "seconds", "ratio"], rows))
    print("pixels and results are the same whatever the way" if same else "pixels or results DIFFER")
    sys.exit(not same)


if __name__ == "__main__":
    main()

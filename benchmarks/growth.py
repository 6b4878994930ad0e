"""Growth of a registration's time with the number of keypoints and with the area of the images.

python benchmarks/growth.py FIXED MOVING [--keypoints 100 400 1600] [--sides 256 512 1024] [--rounds 2]

FIXED and MOVING are georeferenced and lie on each other to a few pixels; for the areas, the middle of both is cut out.
Processor seconds inside ``register``, of one thread, with the network loaded: the least of the rounds. The exponent is
the slope of the logarithm of the seconds over that of the keypoints or of the area, by least squares.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio.windows import Window
from tables import markdown_table

from rrl_register.config import Device, Effort, MatchConfig, RegisterConfig
from rrl_register.nn.inference.load import LoadedScorer, load_scorer
from rrl_register.pipeline.register import register

Pair = tuple[Path, Path]


def main() -> None:
    """Read the arguments, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", type=Path, metavar="FIXED")
    parser.add_argument("moving", type=Path, metavar="MOVING")
    parser.add_argument("--keypoints", type=int, nargs="+", default=[100, 400, 1600])
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024], help="of the images, px")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    pair, rounds = (arguments.fixed, arguments.moving), arguments.rounds
    scorer = load_scorer(None, Device.CPU, threads=1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        crops = [(middle(pair[0], s, Path(folder)), middle(pair[1], s, Path(folder))) for s in arguments.sides]
        for effort in (Effort.NORMAL, Effort.THOROUGH):
            by_number = [seconds(pair, MatchConfig(effort, n), scorer, rounds) for n in arguments.keypoints]
            rows.append(_row("keypoints", effort, arguments.keypoints, by_number))
            by_area = [seconds(crop, MatchConfig(effort), scorer, rounds) for crop in crops]
            rows.append(_row("area", effort, [side**2 for side in arguments.sides], by_area))
    print(markdown_table(["against", "effort", "numbers", "seconds", "exponent"], rows))


def middle(image: Path, side: int, folder: Path) -> Path:
    """Cut the middle of an image, ``side`` px a side, into a file of its own."""
    path = folder / f"{side}_{image.stem}.tif"
    with rasterio.open(image) as source:
        window = Window((source.width - side) // 2, (source.height - side) // 2, side, side)
        profile = {**source.profile, "width": side, "height": side, "transform": source.window_transform(window)}
        with rasterio.open(path, "w", **profile) as target:
            target.write(source.read(window=window, boundless=True))
    return path


def seconds(pair: Pair, config: MatchConfig, scorer: LoadedScorer, rounds: int) -> float:
    """Measure the least processor seconds of some registrations."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        found = register(*pair, RegisterConfig(match=config), scorer=scorer)
        taken.append(time.process_time() - start)
        if found.status != "ok":
            raise SystemExit(f"{pair[0].name} was refused: {found.reason}")
    return min(taken)


def exponent(numbers: Sequence[float], taken: Sequence[float]) -> float:
    """Slope of log seconds over log number."""
    return float(np.polyfit(np.log(numbers), np.log(taken), 1)[0])


def _row(against: str, effort: Effort, numbers: Sequence[int], taken: Sequence[float]) -> list[str]:
    shown = ", ".join(f"{number:,}" for number in numbers)
    return [against, effort.value, shown, ", ".join(f"{s:.2f}" for s in taken), f"{exponent(numbers, taken):.2f}"]


if __name__ == "__main__":
    main()

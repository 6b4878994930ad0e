"""Run the commands of docs/examples.md and draw its pictures.

python docs/make_example_pictures.py DIR

Run it from the root of the repository. The commands read data/ and write to runs/examples/, which is emptied first; the
pictures go to DIR.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning

Picture = npt.NDArray[np.uint8]
PAGE = Path(__file__).with_name("examples.md")
RUN = Path("runs/examples")
DATA = Path("data")
WIDTH, GAP, SQUARES = 1200, 8, 6
QUALITY = 66
PAIRS = {
    "sar": (DATA / "synthetic_optical_sar_fixed.tif", DATA / "synthetic_optical_sar_moving.tif"),
    "thermal": (RUN / "thermal_fixed.tif", RUN / "thermal_moving.tif"),
    "nir": (DATA / "rgb_nir_fixed.tif", DATA / "rgb_nir_moving.tif"),
}


def main() -> None:
    """Run the commands, then write ``example_*.jpg``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the pictures go")
    folder = parser.parse_args().folder
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # thermal and rig have no georeference on purpose
    shutil.rmtree(RUN, ignore_errors=True)
    for words in commands():
        print(shlex.join(words))
        subprocess.run(runnable(words), check=True)
    for name, (fixed, moving) in PAIRS.items():
        write(folder / f"example_{name}.jpg", pair_panels(read(fixed), read(moving), read(RUN / f"{name}.tif")))
    write(folder / "example_rig.jpg", rig_panels())
    write(folder / "example_series.jpg", series_panels())


def commands() -> list[list[str]]:
    """List the commands of the page, as words."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for line in "".join(blocks).replace("\\\n", "").splitlines()]


def runnable(words: list[str]) -> list[str]:
    """Run a command with this interpreter, whatever is on PATH."""
    programs = {"python": [sys.executable], "rrl-register": [sys.executable, "-m", "rrl_register"]}
    return [*programs[words[0]], *words[1:]]


def read(path: Path) -> Picture:
    """Read an image as (H, W, 3) BGR, each band stretched between its percentiles; amplitudes as decibels."""
    with rasterio.open(path) as dataset:
        bands = dataset.read(masked=True).astype(float)
    if bands.shape[0] == 1 and bands.max() > 255:
        bands = np.ma.log(bands)
    planes = [stretched(band) for band in bands]
    return np.dstack(planes[::-1] if len(planes) == 3 else planes[:1] * 3)


def stretched(band: np.ma.MaskedArray) -> Picture:
    """Map the 1st to 99th percentile of the valid pixels to 0 to 255."""
    low, high = np.percentile(band.compressed(), (1, 99))
    return np.asarray(np.clip((band.filled(low) - low) / max(high - low, 1e-9) * 255, 0, 255), np.uint8)


def pair_panels(fixed: Picture, moving: Picture, aligned: Picture) -> list[Picture]:
    """Show both images, and checkerboards of both as delivered and registered."""
    height, width = fixed.shape[:2]
    delivered = cv2.resize(moving, (width, height), interpolation=cv2.INTER_LINEAR)
    return [fixed, delivered, checkerboard(fixed, delivered), checkerboard(fixed, aligned)]


def checkerboard(one: Picture, other: Picture) -> Picture:
    """Show squares of two images in turn."""
    rows, columns = np.indices(one.shape[:2]) * SQUARES // max(one.shape[:2])
    return np.where(((rows + columns) % 2 == 0)[..., None], one, other)


def rig_panels() -> list[Picture]:
    """Show near infrared, red and green as red, green and blue, as delivered and registered."""
    green = read(RUN / "rig_green.tif")[..., 0]
    folders = (RUN / "rig", RUN / "rig_aligned")
    return [np.dstack([green, *(read(each / f"{name}.tif")[..., 0] for name in ("red", "nir"))]) for each in folders]


def series_panels() -> list[Picture]:
    """Show the reference, and the three dates as blue, green and red, as delivered and registered."""
    reference = read(DATA / "synthetic_optical_sar_fixed.tif")
    dates = [path.name for path in sorted((RUN / "series").glob("*.tif"))]
    folders = (RUN / "series", RUN / "series_aligned")
    composites = [np.dstack([read(each / date)[..., 0] for date in dates]) for each in folders]
    return [reference, *(cv2.GaussianBlur(each, (0, 0), 1.5) for each in composites)]


def write(path: Path, panels: list[Picture]) -> None:
    """Write panels of one size side by side as a JPEG that a page can carry."""
    strip = cv2.copyMakeBorder(panels[0], 0, 0, 0, 0, cv2.BORDER_CONSTANT)
    for panel in panels[1:]:
        gap = np.full((panel.shape[0], GAP, 3), 255, np.uint8)
        strip = np.hstack([strip, gap, panel])
    height = round(strip.shape[0] * WIDTH / strip.shape[1])
    cv2.imwrite(
        str(path), cv2.resize(strip, (WIDTH, height), interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    )
    print(path)


if __name__ == "__main__":
    main()

"""Make the SYNTHETIC change pair: an optical image and a SAR image of a later day, on which the land has changed.

    python data/make_change_pair.py

Drawn from one seed, like the pair of ``make_synthetic_sar_pair.py``. In between, the lake has risen over fields, a
part of the forest was felled and houses were built; ``synthetic_change_mask.tif`` is 1 there.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from affine import Affine
from sample_pairs import FOLDER, Misregistration, resample, write_geotiff, write_truth
from scipy.ndimage import distance_transform_edt, label
from synthetic_landscape import Cover, Landscape, Mask, make_landscape
from synthetic_sensors import add_speckle, photograph, radar_intensity

SEED = 11
PIXEL_M = 2.0
SIZE, MARGIN = 320, 48
"""Side of both images, px, and how much further the land reaches on each side, so that the SAR image has no gaps."""
LOOKS = 4
AMPLITUDE_SCALE = 1000
FLOOD_PX = 12
"""Distance by which the water rises over the shore of the lake."""
HOUSE_PX, LOT_PX, HOUSE_M = 9, 15, 7.0
"""Side of a new house, distance from one to the next, and their height."""
MISREGISTRATION = Misregistration(rotation_deg=2.1, scale=1.015, shift_px=(13.4, -9.7), perspective=(1e-5, -1e-5))
CRS, ORIGIN = "EPSG:32633", (510_000.0, 5_300_000.0)
TAGS = {"SYNTHETIC": "YES, a landscape that does not exist", "MADE_BY": "data/make_change_pair.py"}


def make_pair(folder: Path) -> None:
    """Write ``synthetic_change_{fixed,moving,mask}.tif`` and ``..._truth.json`` to a folder."""
    rng = np.random.default_rng(SEED)
    before = make_landscape(SIZE + 2 * MARGIN, PIXEL_M, SEED)
    after = changed(before)
    inner = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    fixed = photograph(before, rng)[:, *inner]
    mask = (before.cover != after.cover)[inner].astype(np.uint8)
    matrix = MISREGISTRATION.matrix((SIZE, SIZE), (SIZE, SIZE))
    on_land = np.array([[1, 0, MARGIN], [0, 1, MARGIN], [0, 0, 1.0]])
    intensity = resample(radar_intensity(after), on_land @ matrix, (SIZE, SIZE))
    amplitude = AMPLITUDE_SCALE * np.sqrt(add_speckle(intensity, LOOKS, rng))
    moving = np.clip(np.rint(amplitude), 1, 65535).astype(np.uint16)
    transform = Affine.translation(*ORIGIN) * Affine.scale(PIXEL_M, -PIXEL_M)
    paths = {part: folder / f"synthetic_change_{part}.tif" for part in ("fixed", "moving", "mask")}
    write_geotiff(paths["fixed"], fixed, CRS, transform, names=("red", "green", "blue"), tags=TAGS)
    write_geotiff(paths["moving"], moving[None], CRS, transform, names=("VV amplitude",), tags=TAGS)
    write_geotiff(paths["mask"], mask[None], CRS, transform, names=("changed",), tags=TAGS)
    write_truth(folder / "synthetic_change_truth.json", paths["fixed"], paths["moving"], matrix, MISREGISTRATION)


def changed(land: Landscape) -> Landscape:
    """Let the lake rise, fell a part of the forest, and build houses on fields in the south."""
    cover, height = land.cover.copy(), land.height.copy()
    lake = largest(land.cover == Cover.WATER)
    flooded = (distance_transform_edt(~lake) < FLOOD_PX) & (land.cover == Cover.FIELD)
    felled = clearing(land) & (land.cover == Cover.FOREST)
    built = houses(land) & (land.cover == Cover.FIELD) & ~flooded
    for where, now, metres in ((flooded, Cover.WATER, 0), (felled, Cover.TRACK, 0), (built, Cover.ROOF, HOUSE_M)):
        cover[where], height[where] = now, metres
    return replace(land, cover=cover, height=height)


def largest(mask: Mask) -> Mask:
    """Return the largest connected part of a mask."""
    parts, _ = label(mask)
    return np.asarray(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]))


def clearing(land: Landscape) -> Mask:
    """Return a part of the land in the north-east, with any cover."""
    size = len(land.cover)
    y, x = np.indices((size, size)) / size
    return np.asarray(np.hypot((x - 0.75) / 0.09, (y - 0.25) / 0.08) < 1)


def houses(land: Landscape) -> Mask:
    """Return rows of houses in a part of the land, on any cover."""
    size = len(land.cover)
    y, x = np.indices((size, size))
    estate = (np.abs(x / size - 0.72) < 0.13) & (np.abs(y / size - 0.72) < 0.09)
    return np.asarray(estate & (x % LOT_PX < HOUSE_PX) & (y % LOT_PX < HOUSE_PX))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (default: beside this script)")
    make_pair(parser.parse_args().folder)

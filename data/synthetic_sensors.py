"""Images of a synthetic landscape by a camera and by a side-looking radar."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates, shift
from synthetic_landscape import Cover, FloatArray, Landscape

SUN_AZIMUTH, SUN_ELEVATION = math.radians(155), math.radians(48)
INCIDENCE = math.radians(38)
"""Angle between the radar's rays and the vertical; the radar stands to the left (west)."""
SUBSAMPLES = 8
"""Points at which the ground between two pixels is looked at by the radar."""
NOISE_FLOOR = 0.002

COVER_COLOURS = {
    Cover.HEDGE: (52, 74, 40),
    Cover.TRACK: (165, 150, 122),
    Cover.FOREST: (38, 62, 32),
    Cover.WATER: (34, 58, 66),
    Cover.ROAD: (128, 127, 124),
    Cover.GARDEN: (86, 108, 66),
}
COVER_BACKSCATTER = {
    Cover.HEDGE: 0.16,
    Cover.TRACK: 0.020,
    Cover.FOREST: 0.13,
    Cover.WATER: 0.004,
    Cover.ROAD: 0.012,
    Cover.GARDEN: 0.07,
    Cover.ROOF: 0.05,
}
# Crops, colour and backscatter side by side: what the radar sees is roughness and moisture, not brightness.
CROP_COLOURS = np.array(
    [(74, 116, 54), (176, 156, 96), (112, 88, 68), (164, 144, 118), (94, 128, 72), (160, 158, 86), (92, 74, 60)], float
)
CROP_BACKSCATTER = np.array([0.045, 0.035, 0.110, 0.016, 0.065, 0.150, 0.022])
ROOF_COLOURS = np.array([(152, 84, 66), (134, 134, 138), (80, 80, 86), (212, 210, 204), (170, 110, 84)], float)
ROW_GAIN = 1.6
"""Fields whose rows lie across the radar's rays shine brighter by this factor."""
DIHEDRAL_GAIN = 0.9
"""Backscatter of the corner of ground and wall, per metre of wall that faces the radar."""


def photograph(land: Landscape, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Take a colour image from above: reflectance, sun on the slopes, shadows, a slight blur, noise.

    Returns:
        (3, N, N) uint8 red, green, blue.
    """
    surface = land.terrain + land.height
    # Slopes are lit as the ground lies; the sides of trees and houses are too steep for one normal per pixel.
    light = (0.30 + 0.70 * _sunlit(surface, land.pixel_m)) * _slope_light(
        land.terrain + 0.15 * land.height, land.pixel_m
    )
    colours = _colours(land) * (1 + 0.06 * land.texture) * light
    blurred = np.stack([gaussian_filter(band, 0.6) for band in colours])
    return np.clip(np.rint(blurred + rng.normal(0, 1.5, blurred.shape)), 0, 255).astype(np.uint8)


def radar_intensity(land: Landscape) -> FloatArray:
    """Look at the land from the side and lay the echoes out on the map, without speckle.

    Foreshortening, layover and shadow come from the surface itself. The echoes are then put where a coarse elevation
    model of the bare ground puts them, as in geocoded products: hills end up in place to a pixel or so, houses
    and trees still lean towards the radar.

    Returns:
        (N, N) float64 backscattered intensity.
    """
    datum = land.terrain.mean()
    surface = land.terrain - datum + land.height
    rows_of_ground = zip(surface, _backscatter(land), _corner_echo(land), strict=True)
    echoes = np.stack([_side_look(*row, land.pixel_m) for row in rows_of_ground])
    known_terrain = gaussian_filter(land.terrain - datum, 10)
    rows, columns = np.indices(surface.shape, dtype=np.float64)
    columns -= known_terrain / math.tan(INCIDENCE) / land.pixel_m
    return np.asarray(map_coordinates(echoes, [rows, columns], order=1, mode="nearest"))


def add_speckle(intensity: FloatArray, looks: int, rng: np.random.Generator) -> FloatArray:
    """Multiply by speckle: the mean of a few looks, each exponentially distributed, is gamma distributed."""
    return np.asarray((np.maximum(intensity, 0) + NOISE_FLOOR) * rng.gamma(looks, 1 / looks, intensity.shape))


def _colours(land: Landscape) -> FloatArray:
    """Colour of the bare cover, (3, N, N), 0 to 255."""
    colours = CROP_COLOURS[land.variety % len(CROP_COLOURS)]
    for cover, colour in COVER_COLOURS.items():
        colours[land.cover == cover] = colour
    roof = land.cover == Cover.ROOF
    colours[roof] = ROOF_COLOURS[land.variety[roof] % len(ROOF_COLOURS)]
    return np.moveaxis(colours, -1, 0)


def _slope_light(surface: FloatArray, pixel_m: float) -> FloatArray:
    """Cosine of the angle between the sun and the surface's normal, relative to flat ground."""
    down, right = np.gradient(surface, pixel_m)
    toward_sun = -(right * math.sin(SUN_AZIMUTH) - down * math.cos(SUN_AZIMUTH)) / math.tan(SUN_ELEVATION)
    return np.asarray(np.clip((1 + toward_sun) / np.sqrt(1 + down**2 + right**2), 0.3, 1.7))


def _sunlit(surface: FloatArray, pixel_m: float) -> FloatArray:
    """1 where nothing stands between the ground and the sun, 0 in shadow."""
    lit = np.ones(surface.shape)
    for step in range(1, 14):
        toward_sun = (-step * -math.cos(SUN_AZIMUTH), -step * math.sin(SUN_AZIMUTH))
        blocker = shift(surface, toward_sun, order=1, mode="nearest")
        lit[blocker > surface + step * pixel_m * math.tan(SUN_ELEVATION)] = 0
    return lit


def _backscatter(land: Landscape) -> FloatArray:
    """Backscatter of the cover at the radar's incidence on flat ground."""
    crops = CROP_BACKSCATTER[land.variety % len(CROP_BACKSCATTER)] * np.where(land.variety % 4 == 0, ROW_GAIN, 1)
    for cover, value in COVER_BACKSCATTER.items():
        crops[land.cover == cover] = value
    return np.asarray(crops * np.exp(0.15 * land.texture))


def _corner_echo(land: Landscape) -> FloatArray:
    """Echo of the corners that ground and wall form, at the pixel in front of each wall that faces the radar."""
    houses = np.where(land.cover == Cover.ROOF, land.height, 0.0)
    wall = np.maximum(np.diff(houses, axis=1, append=houses[:, -1:]), 0) * (houses == 0)
    down, right = np.gradient(gaussian_filter(houses, 1.5))
    facing = np.abs(right) / (np.hypot(down, right) + 1e-9)
    return np.asarray(DIHEDRAL_GAIN * wall * facing**6)


def _side_look(heights: FloatArray, backscatter: FloatArray, corner: FloatArray, pixel_m: float) -> FloatArray:
    """Add up the echoes of one row of ground in bins of ground range.

    A ray ``q = x cos + z sin`` apart from the radar's first ray is blocked by anything nearer that reaches a larger q;
    a point (x, z) echoes at the range of ``x - z / tan`` on flat ground.
    """
    n = len(heights)
    x = np.arange(0, n - 1, 1 / SUBSAMPLES) + 0.5 / SUBSAMPLES
    z = np.interp(x, np.arange(n), heights)
    ray = x * pixel_m * math.cos(INCIDENCE) + z * math.sin(INCIDENCE)
    visible = ray >= np.maximum.accumulate(ray)
    left = x.astype(int)
    rise = np.diff(heights)[left] / pixel_m
    lit = np.maximum(math.cos(INCIDENCE) + rise * math.sin(INCIDENCE), 0)
    # Area seen by the radar times the cosine of incidence on the facet, both relative to flat ground.
    gain = lit * (lit / np.hypot(1, rise)) / math.cos(INCIDENCE) ** 2 / SUBSAMPLES
    echo = np.where(visible, backscatter[np.rint(x).astype(int)] * gain, 0)
    at_foot = (left + 1 < n) & (x - left < 1 / SUBSAMPLES)
    echo[at_foot & visible] += corner[left[at_foot & visible]]
    return _splat(x - z / math.tan(INCIDENCE) / pixel_m, echo, n)


def _splat(positions: FloatArray, values: FloatArray, n: int) -> FloatArray:
    """Add values at fractional positions, shared between the two bins beside each."""
    inside = (positions >= 0) & (positions < n - 1)
    first = positions[inside].astype(int)
    fraction = positions[inside] - first
    return np.bincount(first, values[inside] * (1 - fraction), n) + np.bincount(first + 1, values[inside] * fraction, n)

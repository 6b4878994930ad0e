"""Table of difficulties: misregistration, damage and requirements of each."""

from __future__ import annotations

from dataclasses import dataclass

from case_maker import damage, misregistration
from case_maker.damage import Damage, intact
from case_maker.misregistration import Draw

PNG, JPEG, GEOTIFF = ".png", ".jpg", ".tif"
NEGATIVE = "negative"
_ANY_SIZE, _ROOMY = 0, 350


@dataclass(frozen=True)
class Difficulty:
    """One kind of hard case.

    Attributes:
        draw: Draws the misregistration.
        damage_fixed, damage_moving: Damage to the images.
        suffix: Suffix of the files; GeoTIFFs are georeferenced, and the misregistration is the georeference's error.
        relief: True if terrain displaces the moving image.
        not_families: Families without this difficulty.
        least_side: Smallest longer side of a pair, px.
    """

    draw: Draw = misregistration.modest
    damage_fixed: Damage = intact
    damage_moving: Damage = intact
    suffix: str = PNG
    relief: bool = False
    not_families: tuple[str, ...] = ()
    least_side: int = _ANY_SIZE


DIFFICULTIES: dict[str, Difficulty] = {
    "shift": Difficulty(misregistration.shifted, least_side=_ROOMY),
    "scale": Difficulty(misregistration.scaled, least_side=_ROOMY),
    "rotation": Difficulty(misregistration.turned),
    "perspective": Difficulty(misregistration.tilted, least_side=_ROOMY),
    "combined": Difficulty(misregistration.combined, least_side=_ROOMY),
    "inversion": Difficulty(damage_moving=damage.inverted, not_families=("sar",)),
    "night": Difficulty(damage_fixed=damage.night),
    "speckle": Difficulty(damage_moving=damage.speckled),
    "haze": Difficulty(damage_fixed=damage.hazy),
    "dark-saturated": Difficulty(damage_fixed=damage.dark_and_saturated, damage_moving=damage.dark_and_saturated),
    "black-border": Difficulty(damage_fixed=damage.framed, damage_moving=damage.framed, suffix=JPEG),
    "stripes": Difficulty(damage_fixed=damage.striped, damage_moving=damage.striped),
    "geo-100": Difficulty(misregistration.georeferenced_wrongly, suffix=GEOTIFF, least_side=_ROOMY),
    "terrain": Difficulty(relief=True, least_side=_ROOMY),
    NEGATIVE: Difficulty(),
}

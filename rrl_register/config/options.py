"""Options of a registration, each declared once, and how they become a configuration.

Every option of ``CONFIG_OPTIONS`` fills one field of ``RegisterConfig`` and takes its default from there. It is a flag
of the command line and, without the dashes, a column of a batch's manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import click

from rrl_register.config import (
    Crop,
    Device,
    Effort,
    Kind,
    ModelChoice,
    RasterFormat,
    RegisterConfig,
    Resampling,
)
from rrl_register.config.option_types import (
    FILE,
    band_list,
    block_side,
    creation_option,
    distance,
    one_of,
    output_grid,
    rotation,
    scale,
    size,
    size_text,
)
from rrl_register.errors import UsageError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
_GROUPS = {"read": "Input", "match": "Matching", "estimate": "Model", "warp": "Output"}


class GroupedOption(click.Option):
    """A flag that the help lists under a heading of its own.

    Args:
        group: The heading; None: the flag is a frequent one and comes first.
        arguments, others: As of ``click.Option``.
    """

    def __init__(self, *arguments: Any, group: str | None = None, **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.group = group


@dataclass(frozen=True)
class ConfigOption:
    """A flag and the one field of ``RegisterConfig`` that it fills.

    Attributes:
        flag: The long flag.
        section: Field of ``RegisterConfig``: read, match, estimate, warp or resources.
        field: Field of that section.
        help: One line for ``--help``.
        type: What ``click.option`` takes as type: one of click's, or a function of the text; BOOL makes a flag that
            takes no value (as a column of a manifest it does: yes or no).
        to_field: Turns what click gives into what the field holds; not called for None.
        from_field: Turns the field's default into what click would be given.
        default_text: What ``--help`` shows for a default of None.
        multiple: Whether the flag may be repeated.
        metavar: Placeholder in ``--help``.
        frequent: Whether ``--help`` describes it among the first options.
    """

    flag: str
    section: str
    field: str
    help: str
    type: Any
    to_field: Callable[[Any], Any] = lambda value: value
    from_field: Callable[[Any], Any] = lambda value: value
    default_text: str | None = None
    multiple: bool = False
    metavar: str | None = None
    frequent: bool = False

    @property
    def group(self) -> str:
        """Heading under which help and settings files list it."""
        return _GROUPS.get(self.section, self.section.capitalize())

    @property
    def parameter(self) -> str:
        """Name of the argument that click passes."""
        return f"{self.section}_{self.field}"

    @property
    def name(self) -> str:
        """The flag without its dashes."""
        return self.flag.removeprefix("--")

    @property
    def is_flag(self) -> bool:
        """Whether the command line takes no value after it."""
        return self.type is click.BOOL

    @property
    def default(self) -> Any:
        """The field's default, as click wants it: plain text for an enum, None for nothing."""
        value = getattr(getattr(RegisterConfig(), self.section), self.field)
        if value == ():
            return None
        return value.value if isinstance(value, StrEnum) else self.from_field(value)

    def parse(self, text: str) -> Any:
        """Read a value as the command line would; those of an option that may be repeated are parted by semicolons.

        Raises:
            UsageError: The text is no such value.
        """
        kind = click.types.convert_type(self.type)
        try:
            if self.multiple:
                return tuple(kind.convert(part.strip(), None, None) for part in text.split(";") if part.strip())
            return kind.convert(text, None, None)
        except click.BadParameter as error:
            raise UsageError(f"{self.name}: {error.message}") from error

    def plain(self, config: RegisterConfig) -> Any:
        """The field's value in a configuration, as YAML writes it and ``as_text`` reads it back; None for none."""
        value = getattr(getattr(config, self.section), self.field)
        if isinstance(value, tuple):
            return ["=".join(item) if isinstance(item, tuple) else item for item in value] or None
        if isinstance(value, Path):
            return str(value.absolute())
        return value.value if isinstance(value, StrEnum) else self.from_field(value)

    def decorate(self, function: Decorated) -> Decorated:
        """Add the flag to a command."""
        return click.option(
            self.flag,
            self.parameter,
            cls=GroupedOption,
            group=None if self.frequent else self.group,
            type=self.type,
            default=self.default,
            show_default=self.default_text or True,
            multiple=self.multiple,
            is_flag=self.is_flag,
            metavar=self.metavar,
            help=self.help,
        )(function)


def _kind_option(image: str) -> ConfigOption:
    what = f"What the {image} image shows; 'auto' recognises it."
    return ConfigOption(f"--{image}-kind", "read", f"{image}_kind", what, one_of(Kind), Kind, frequent=True)


def _bands_option(image: str) -> ConfigOption:
    what = f"Bands of the {image} image to match on, 1-based."
    flag, field = f"--{image}-bidx", f"{image}_bands"
    return ConfigOption(flag, "read", field, what, band_list, default_text="all but alpha", metavar="N[,N...]")


CONFIG_OPTIONS = (
    _kind_option("fixed"),
    _kind_option("moving"),
    _bands_option("fixed"),
    _bands_option("moving"),
    ConfigOption(
        "--max-side",
        "read",
        "max_side",
        "Longest side of the images as they are matched, px; larger ones are reduced for it.",
        click.IntRange(min=256),
    ),
    ConfigOption(
        "--max-shift",
        "match",
        "max_shift",
        "How far the georeference (or, without one, the centred image) may be off.",
        distance,
        default_text="100px; without georeferences half of the longer side",
        metavar="Npx|Nm",
        frequent=True,
    ),
    ConfigOption(
        "--rotation",
        "match",
        "rotation",
        "Clockwise rotation of the moving image on the fixed one, known to 10 degrees; 'auto': a few degrees with "
        "georeferences, any without; 'none': a few.",
        rotation,
        metavar="auto|none|DEG",
    ),
    ConfigOption(
        "--scale",
        "match",
        "scale",
        "Size of the moving image on the fixed one against what georeferences, or the sizes of the images, say, known "
        "to 15 per cent; 'auto': a few per cent with georeferences, 0.5 to 2 without; 'none': a few per cent.",
        scale,
        metavar="auto|none|FACTOR",
    ),
    ConfigOption(
        "--init-points",
        "match",
        "init_points",
        "Start from the points of this file instead of searching for a start: .points (QGIS), .geojson, .csv, .gpkg, "
        ".gcp (GDAL) or RESULT.json. Two are enough.",
        FILE,
        default_text="none",
    ),
    ConfigOption(
        "--support",
        "match",
        "support",
        "Side of the ground that a patch covers, px.",
        click.Choice(["64", "96", "128"]),
        int,
        default_text="128 for SAR, else 64",
    ),
    ConfigOption(
        "--effort",
        "match",
        "effort",
        "How much is done before an answer is taken: 'fast' gives up early, 'thorough' asks the network about every "
        "keypoint.",
        one_of(Effort),
        Effort,
        frequent=True,
    ),
    ConfigOption("--keypoints", "match", "n_keypoints", "Keypoints at most in each image.", click.IntRange(min=16)),
    ConfigOption(
        "--candidates",
        "match",
        "n_candidates",
        "Keypoints of the moving image that are compared with each of the fixed one.",
        click.IntRange(min=1),
    ),
    ConfigOption(
        "--min-score", "match", "min_score", "Probability from which a pair is a match.", click.FloatRange(0, 1)
    ),
    ConfigOption(
        "--device",
        "match",
        "device",
        "Where the network runs; 'auto' takes a GPU.",
        one_of(Device),
        Device,
        frequent=True,
    ),
    ConfigOption("--weights", "match", "weights", "Weights to use (.safetensors).", FILE, default_text="those shipped"),
    ConfigOption(
        "--model",
        "estimate",
        "model",
        "Transform to fit; 'auto' takes the stiffest that predicts points kept out of the fit as well as any. The last "
        "three are a homography and a smooth displacement, for terrain and depth.",
        one_of(ModelChoice),
        ModelChoice,
        frequent=True,
    ),
    ConfigOption(
        "--threshold",
        "estimate",
        "threshold",
        "Distance from the transform up to which a tie point is an inlier, px of the images as they are matched.",
        click.FloatRange(min=0.5),
    ),
    ConfigOption(
        "--min-inliers", "estimate", "min_inliers", "Inliers that a transform has to have.", click.IntRange(min=4)
    ),
    ConfigOption("--seed", "estimate", "seed", "Seed of everything that is drawn at random.", click.IntRange(min=0)),
    ConfigOption(
        "--resampling", "warp", "resampling", "Interpolation of the moving image.", one_of(Resampling), Resampling
    ),
    ConfigOption(
        "--grid",
        "warp",
        "grid",
        "Pixels to write: those of FIXED; of the moving image's size and orientation, where FIXED is; or those of "
        "another raster.",
        output_grid,
        metavar="fixed|moving|LIKE.tif",
    ),
    ConfigOption(
        "--crop",
        "warp",
        "crop",
        "How much to write: what both show; all of FIXED, or LIKE.tif; or that and all of the moving image.",
        one_of(Crop),
        Crop,
    ),
    ConfigOption(
        "--format", "warp", "format", "GeoTIFF, or cloud-optimised GeoTIFF.", one_of(RasterFormat), RasterFormat
    ),
    ConfigOption("--overviews", "warp", "overviews", "Put reduced copies into the file; a COG has them.", click.BOOL),
    ConfigOption(
        "--gcps-only",
        "warp",
        "gcps_only",
        "Copy the moving image's pixels as they are, with the inliers as ground control points.",
        click.BOOL,
    ),
    ConfigOption(
        "--nodata",
        "warp",
        "nodata",
        "Value where the moving image has no data.",
        click.FLOAT,
        default_text="the moving image's own, else 0",
    ),
    ConfigOption(
        "--block-size",
        "warp",
        "block_size",
        "Side of the blocks that are warped one by one, px.",
        block_side,
        metavar="PX",
    ),
    ConfigOption(
        "--threads",
        "warp",
        "threads",
        "Blocks that are warped at a time.",
        click.IntRange(min=1),
        default_text="as many as there are cores, 8 at most",
    ),
    ConfigOption(
        "--co",
        "warp",
        "creation_options",
        "GDAL creation option; may be repeated.",
        creation_option,
        tuple,
        default_text="tiled, compressed",
        multiple=True,
        metavar="NAME=VALUE",
    ),
    ConfigOption(
        "--max-memory",
        "resources",
        "max_memory",
        "Memory that the scene may take, beside the program and the network.",
        size,
        from_field=size_text,
        metavar="SIZE",
    ),
)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Ask for the known name that is most like an unknown one, if any is."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"is {close[0]!r} meant?" if close else None


def as_text(name: str, value: Any) -> str:
    """A plain value, of JSON or YAML, as it would stand in a cell of a manifest.

    Args:
        name: Of the option or column that it is for.
        value: A text, a number, or a list of them.

    Raises:
        UsageError: It is something else.
    """
    option = next((option for option in CONFIG_OPTIONS if option.name == name), None)
    if isinstance(value, list):
        return (";" if option and option.multiple else ",").join(as_text(name, item) for item in value)
    if isinstance(value, bool) and option and option.is_flag:
        return "yes" if value else "no"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{name} is {value!r}; needed a text, a number or a list of them")
    return str(value)


def build_config(values: Mapping[str, Any], base: RegisterConfig | None = None) -> RegisterConfig:
    """Fill a configuration from what click parsed.

    Args:
        values: Parameter name (``section_field``) -> value; fields without one keep what ``base`` says.
        base: The configuration to start from; None: the defaults.
    """
    config = base or RegisterConfig()
    for option in CONFIG_OPTIONS:
        value = values.get(option.parameter)
        if value is not None:
            section = replace(getattr(config, option.section), **{option.field: option.to_field(value)})
            config = replace(config, **{option.section: section})
    return config

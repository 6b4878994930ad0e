"""Options of a registration, each declared once, and their conversion to a configuration.

Every option of ``CONFIG_OPTIONS`` fills one field of ``RegisterConfig`` and takes its default from there. It is a flag
of the command line and, without the dashes, a column of a batch's manifest and a setting of a YAML file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import click

from rrl_register.config import Crop, Device, Effort, Kind, ModelChoice, RasterFormat, RegisterConfig, Resampling
from rrl_register.config import option_types as types
from rrl_register.errors import UsageError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
_LONGEST_TEXT, _LARGEST_NUMBER = 10_000, 1e15
_GROUPS = {"read": "Input", "match": "Matching", "estimate": "Model", "warp": "Output"}


class GroupedOption(click.Option):
    """A flag that the help lists under a heading of its own.

    Args:
        group: The heading; None: a frequent flag, which comes first.
        arguments, others: As for ``click.Option``.
    """

    def __init__(self, *arguments: Any, group: str | None = None, **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.group = group


@dataclass(frozen=True)
class ConfigOption:
    """A flag and the one field of ``RegisterConfig`` that it fills.

    Attributes:
        place: Section of ``RegisterConfig`` (read, match, estimate, warp or resources) and field, with a dot between.
        help: One line for ``--help``.
        type: Type for ``click.option``: one of click's, or a function of the text. BOOL makes a flag without a value
            (a column of a manifest has yes or no).
        to_field: Converts click's value to the field's; not called for None.
        from_field: Converts the field's default to click's.
        default_text: Text for ``--help`` if the default is None.
        multiple: True if the flag may be repeated.
        metavar: Placeholder in ``--help``.
        frequent: True if ``--help`` describes it among the first options.
        named: Name of the flag, without dashes, if it is not that of the field.
    """

    place: str
    help: str
    type: Any
    to_field: Callable[[Any], Any] = lambda value: value
    from_field: Callable[[Any], Any] = lambda value: value
    default_text: str | None = None
    multiple: bool = False
    metavar: str | None = None
    frequent: bool = False
    named: str | None = None

    @property
    def section(self) -> str:
        """Name of the section of ``RegisterConfig``."""
        return self.place.partition(".")[0]

    @property
    def field(self) -> str:
        """Name of the field in its section."""
        return self.place.partition(".")[2]

    @property
    def group(self) -> str:
        """Heading in help and settings files."""
        return _GROUPS.get(self.section, self.section.capitalize())

    @property
    def parameter(self) -> str:
        """Name of the argument that click passes."""
        return self.place.replace(".", "_")

    @property
    def name(self) -> str:
        """The flag without its dashes."""
        return self.named or self.field.replace("_", "-")

    @property
    def flag(self) -> str:
        """The long flag."""
        return f"--{self.name}"

    @property
    def is_flag(self) -> bool:
        """True if no value follows on the command line."""
        return self.type is click.BOOL

    @property
    def default(self) -> Any:
        """The field's default for click: text for an enum, None for an empty tuple."""
        value = getattr(getattr(RegisterConfig(), self.section), self.field)
        if value == ():
            return None
        return value.value if isinstance(value, StrEnum) else self.from_field(value)

    def parse(self, text: str) -> Any:
        """Read a value as the command line does; semicolons separate the values of an option that may be repeated.

        Raises:
            UsageError: The text is no such value.
        """
        if len(text) > _LONGEST_TEXT or "\0" in text:
            raise UsageError(f"{self.name}: {text[:60]!r} ... is too long, or has a null character")
        kind = click.types.convert_type(self.type)
        try:
            if self.multiple:
                return tuple(kind.convert(part.strip(), None, None) for part in text.split(";") if part.strip())
            return kind.convert(text, None, None)
        except click.BadParameter as error:
            raise UsageError(f"{self.name}: {error.message}") from error

    def plain(self, config: RegisterConfig) -> Any:
        """Return the field's value as YAML has it and ``as_text`` reads it back; None for none."""
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


def _choice(place: str, values: type[StrEnum], what: str, frequent: bool = False) -> ConfigOption:
    """Make an option of an enum."""
    return ConfigOption(place, what, types.one_of(values), values, frequent=frequent)


def _bands(image: str) -> ConfigOption:
    what = f"Bands of the {image} image used for matching, 1-based."
    place, named = f"read.{image}_bands", f"{image}-bidx"
    return ConfigOption(place, what, types.band_list, default_text="all but alpha", metavar="N[,N...]", named=named)


CONFIG_OPTIONS = (
    _choice("read.fixed_kind", Kind, "Kind of the fixed image; 'auto' recognises it.", frequent=True),
    _choice("read.moving_kind", Kind, "Kind of the moving image; 'auto' recognises it.", frequent=True),
    _bands("fixed"),
    _bands("moving"),
    ConfigOption(
        "read.no_alpha",
        "Take bands that are tagged as alpha for measurements; without it their names and values decide.",
        click.BOOL,
    ),
    ConfigOption(
        "read.max_side",
        "Longest side of an image at matching resolution, in pixels; larger images are reduced.",
        click.IntRange(min=256),
    ),
    ConfigOption(
        "match.max_shift",
        "Largest error of the georeference or, without georeferences, largest shift of the centred image.",
        types.distance,
        default_text="100px; without georeferences half of the longer side",
        metavar="Npx|Nm",
        frequent=True,
    ),
    ConfigOption(
        "match.rotation",
        "Clockwise rotation of the moving image relative to the fixed image, to within 10 degrees; 'auto': search a "
        "few degrees with georeferences, all rotations without; 'none': search a few degrees.",
        types.rotation,
        metavar="auto|none|DEG",
    ),
    ConfigOption(
        "match.scale",
        "Scale of the moving image, as a factor on the scale by georeferences (without them, by image sizes), to "
        "within 15 per cent; 'auto': search a few per cent with georeferences, 0.5 to 2 without; 'none': search a few "
        "per cent.",
        types.scale,
        metavar="auto|none|FACTOR",
    ),
    ConfigOption(
        "match.init_points",
        "Start from the points of this file instead of the coarse search: .points (QGIS), .geojson, .csv, .gpkg, "
        ".gcp (GDAL) or RESULT.json. Two points are enough.",
        types.FILE,
        default_text="none",
    ),
    ConfigOption(
        "match.support",
        "Side of the ground that a patch covers, in pixels.",
        click.Choice(["64", "96", "128"]),
        int,
        default_text="128 for SAR, else 64",
    ),
    _choice(
        "match.effort",
        Effort,
        "Effort of the search: 'fast' gives up early, 'thorough' scores every keypoint with the network.",
        frequent=True,
    ),
    ConfigOption("match.n_keypoints", "Most keypoints in each image.", click.IntRange(min=16), named="keypoints"),
    ConfigOption(
        "match.n_candidates",
        "Candidates in the moving image for each keypoint of the fixed image.",
        click.IntRange(min=1),
        named="candidates",
    ),
    ConfigOption("match.min_score", "Lowest match probability of a tie point.", click.FloatRange(0, 1)),
    _choice("match.device", Device, "Device of the network; 'auto' uses a GPU if there is one.", frequent=True),
    ConfigOption("match.weights", "Weights of the network (.safetensors).", types.FILE, default_text="those shipped"),
    _choice(
        "estimate.model",
        ModelChoice,
        "Transform to fit; 'auto' picks the simplest model whose cross-validation error is as low as the best. The "
        "last three add a smooth displacement to a homography, for terrain and depth.",
        frequent=True,
    ),
    ConfigOption(
        "estimate.threshold",
        "Largest residual of an inlier, in pixels at matching resolution.",
        click.FloatRange(min=0.5),
    ),
    ConfigOption("estimate.min_inliers", "Fewest inliers of a transform.", click.IntRange(min=4)),
    ConfigOption("estimate.seed", "Seed of all random numbers.", click.IntRange(min=0)),
    _choice("warp.resampling", Resampling, "Interpolation of the moving image."),
    ConfigOption(
        "warp.grid",
        "Output pixels: those of the fixed image; the size and orientation of the moving image's pixels, on the fixed "
        "image's ground; or those of another raster.",
        types.output_grid,
        metavar="fixed|moving|LIKE.tif",
    ),
    _choice(
        "warp.crop",
        Crop,
        "Output extent: the overlap; all of the fixed image or of LIKE.tif; or that and all of the moving image.",
    ),
    _choice("warp.format", RasterFormat, "GeoTIFF, or cloud-optimised GeoTIFF."),
    ConfigOption("warp.overviews", "Add overviews; a COG always has them.", click.BOOL),
    ConfigOption(
        "warp.gcps_only",
        "Copy the pixels of the moving image unchanged, and add the inliers as ground control points.",
        click.BOOL,
    ),
    ConfigOption(
        "warp.nodata",
        "Value of output pixels without data.",
        click.FLOAT,
        default_text="the moving image's own, else 0",
    ),
    ConfigOption(
        "warp.block_size", "Side of the blocks that are warped one by one, in pixels.", types.block_side, metavar="PX"
    ),
    ConfigOption(
        "warp.threads",
        "Blocks that are warped at the same time.",
        click.IntRange(min=1),
        default_text="as many as there are cores, 8 at most",
    ),
    ConfigOption(
        "warp.creation_options",
        "GDAL creation option; may be repeated.",
        types.creation_option,
        tuple,
        default_text="tiled, compressed",
        multiple=True,
        metavar="NAME=VALUE",
        named="co",
    ),
    ConfigOption(
        "resources.max_memory",
        "Most memory for the images, in addition to the program and the network.",
        types.size,
        from_field=types.size_text,
        metavar="SIZE",
    ),
)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Suggest the known name that is most similar to an unknown one; None if none is similar."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"is {close[0]!r} meant?" if close else None


def as_text(name: str, value: Any) -> str:
    """Convert a plain value of JSON or YAML to the text of a manifest's cell.

    Args:
        name: Name of its option or column.
        value: A text, a number, or a list of them.

    Raises:
        UsageError: It is something else.
    """
    option = next((option for option in CONFIG_OPTIONS if option.name == name), None)
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return (";" if option and option.multiple else ",").join(as_text(name, item) for item in value)
    if isinstance(value, bool) and option and option.is_flag:
        return "yes" if value else "no"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{name} is {value!r}; use a text, a number or a list of them")
    return str(value)


def build_config(values: Mapping[str, Any], base: RegisterConfig | None = None) -> RegisterConfig:
    """Build a configuration from click's values.

    Args:
        values: Parameter name (``section_field``) -> value; fields without one keep the value of ``base``.
        base: The configuration to start from; None: the defaults.

    Raises:
        UsageError: A number is not finite, or too large to be meant.
    """
    config = base or RegisterConfig()
    for option in CONFIG_OPTIONS:
        value = values.get(option.parameter)
        if value is not None:
            if isinstance(value, int | float) and option.field != "nodata" and not abs(value) <= _LARGEST_NUMBER:
                raise UsageError(f"{option.name}: {value} is no finite number, or too large")
            section = replace(getattr(config, option.section), **{option.field: option.to_field(value)})
            config = replace(config, **{option.section: section})
    return config

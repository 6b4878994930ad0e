"""``rrl-register info``: what would be done with two images, or what one image is, without doing anything."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rrl_register.cli.checks import require_file, require_two_images
from rrl_register.cli.command import RegistrationCommand
from rrl_register.cli.options import config_options, set_up_logging
from rrl_register.cli.progress import stages
from rrl_register.config import RegisterConfig
from rrl_register.config.option_types import FILE
from rrl_register.config.options import build_config

if TYPE_CHECKING:
    from rrl_register.pipeline.dry_run import ImagePlan, Plan
    from rrl_register.raster.grid import Grid

Line = tuple[str, str]


@click.command(cls=RegistrationCommand, no_args_is_help=True, short_help="Say what 'register' would do with images.")
@click.argument("fixed", type=FILE)
@click.argument("moving", type=FILE, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_options("read", "match", "estimate")
def info(fixed: Path, moving: Path | None, as_json: bool, **values: Any) -> None:
    """Say what 'register FIXED MOVING' would do, or how FIXED alone would be matched.

    Shows grids, resolution, overlap, what the images are taken for and why, the search, and about how long it would
    take on this machine. Ends as 'register' would with images that cannot be used. Writes no file.
    """
    set_up_logging(verbose=0, quiet=False)
    config = build_config(values)
    if moving is None:
        require_file(fixed)
        _tell(as_json, *_image_report(fixed, config))
    else:
        require_two_images(fixed, moving)
        if config.match.weights:
            require_file(config.match.weights)
        _tell(as_json, *_pair_report(fixed, moving, config))


def plan_lines(plan: Plan) -> list[tuple[str, list[Line]]]:
    """Lay out what would be done: headings, and under each what is known, with its name."""
    return [
        (f"FIXED   {plan.fixed.info.path}", image_lines(plan.fixed)),
        (f"MOVING  {plan.moving.info.path}", image_lines(plan.moving)),
        ("TOGETHER", list(_common_lines(plan))),
    ]


def image_lines(image: ImagePlan) -> list[Line]:
    """Lay out what is known of one image."""
    info, (height, width) = image.info, image.shape
    bands = ", ".join(map(str, image.bands))
    reduced = f", reduced by {image.reduction:.3g}" if image.reduction > 1 else ", as it is"
    return [
        ("grid", _grid_text(info.grid)),
        ("bands", f"{info.count} of {info.dtype}; matched on {bands}"),
        ("no data", f"{_no_data_text(image)}; {image.valid_share:.1%} of the pixels hold data"),
        ("kind", f"{image.kind} ({image.why})"),
        ("matched at", f"{width} x {height} px{reduced}"),
    ]


def _common_lines(plan: Plan) -> Iterable[Line]:
    yield "resolution", f"a moving pixel is {plan.ratio:.3g} fixed px wide"
    yield "overlap", _overlap_text(plan)
    yield "search", _search_text(plan)
    yield "points", f"up to {plan.n_keypoints} in each image, {plan.support_px} px of ground under a patch"
    yield "model", plan.model
    yield "network", f"{plan.weights} on {plan.device}"
    yield "time", f"about {plan.seconds:.0f} s on this machine; several times that before a refusal"


def _image_report(path: Path, config: RegisterConfig) -> tuple[dict[str, Any], list[tuple[str, list[Line]]]]:
    with stages("read"):
        from rrl_register.pipeline.dry_run import plan_image

        image = plan_image(path, config)
    return image.to_json(), [(str(path), image_lines(image))]


def _pair_report(
    fixed: Path, moving: Path, config: RegisterConfig
) -> tuple[dict[str, Any], list[tuple[str, list[Line]]]]:
    with stages("read"):
        from rrl_register.pipeline.dry_run import plan_registration

        plan = plan_registration(fixed, moving, config)
    return plan.to_json(), plan_lines(plan)


def _tell(as_json: bool, data: dict[str, Any], blocks: list[tuple[str, list[Line]]]) -> None:
    if as_json:
        click.echo(json.dumps(data, indent=2, allow_nan=False))
        return
    for heading, lines in blocks:
        click.echo(heading)
        for name, text in lines:
            click.echo(f"  {name:<12}{text}")


def _grid_text(grid: Grid) -> str:
    size = f"{grid.width} x {grid.height} px"
    if not grid.georeferenced:
        return f"{size}, no georeference"
    name = grid.to_dict()["crs"]
    metres = grid.metres_per_pixel
    ground = "" if metres is None else f" of {float(f'{metres:.2g}'):g} m"  # metres are known to 1 % only
    return f"{size}{ground}, {name if len(name) < 40 else 'a CRS of its own'}"


def _no_data_text(image: ImagePlan) -> str:
    info = image.info
    declared = [
        *([] if info.nodata is None else [f"value {info.nodata:g}"]),
        *([] if info.alpha_band is None else [f"alpha in band {info.alpha_band}"]),
    ]
    return " and ".join(declared) or "no value declared"


def _overlap_text(plan: Plan) -> str:
    overlap = plan.overlap
    if overlap is None:
        return "not known: without two georeferences the images are taken to show about the same scene"
    return (
        f"{overlap.fixed_share:.0%} of FIXED, {overlap.moving_share:.0%} of MOVING, "
        f"{overlap.width_m / 1000:.3g} x {overlap.height_m / 1000:.3g} km"
    )


def _search_text(plan: Plan) -> str:
    (low, high), (least, largest) = plan.rotations_deg, plan.scales
    # The whole turn is searched in steps, of which the last is the first again.
    rotations = "any rotation" if high - low > 340 else f"rotations {low:.0f} to {high:.0f} degrees"
    return f"shifts up to {plan.max_shift_px:.0f} px, {rotations}, scales {least:.2f} to {largest:.2f}"

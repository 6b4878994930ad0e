"""``rrl-register info``: show the plan of a registration, or the properties of one image, without matching."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rrl_register.cli.command import RegistrationCommand, config_options, require_files, require_two_images
from rrl_register.cli.progress import stages
from rrl_register.config.files import printable
from rrl_register.config.option_types import FILE
from rrl_register.config.options import build_config

if TYPE_CHECKING:
    from rrl_register.pipeline.dry_run import ImagePlan, Plan

Line = tuple[str, str]
Block = tuple[str, list[Line]]


@click.command(cls=RegistrationCommand, no_args_is_help=True, short_help="Show what 'register' would do with images.")
@click.argument("fixed", type=FILE)
@click.argument("moving", type=FILE, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_options("read", "match", "estimate")
def info(fixed: Path, moving: Path | None, as_json: bool, **values: Any) -> None:
    """Show what 'register FIXED MOVING' would do, or how FIXED alone would be matched.

    Prints grids, resolution, overlap, the recognised kinds and their reasons, the search, and an estimate of the time
    on this machine. Exits with the code of 'register' if the images cannot be used. Writes no file.
    """
    from rrl_register.raster.reader import as_measurements

    config = build_config(values)
    blocks: list[Block]
    if moving is None:
        require_files(fixed)
    else:
        require_two_images(fixed, moving)
        require_files(config.match.weights)
    with stages("read"), as_measurements(*filter(None, (fixed, moving)), wanted=config.read.no_alpha):
        from rrl_register.pipeline.dry_run import plan_image, plan_registration

        if moving is None:
            image = plan_image(fixed, config)
            data, blocks = image.to_json(), [(str(fixed), image_lines(image))]
        else:
            plan = plan_registration(fixed, moving, config)
            data, blocks = plan.to_json(), plan_lines(plan)
    if as_json:
        click.echo(json.dumps(data, indent=2, allow_nan=False))
        return
    for heading, lines in blocks:
        click.echo(printable(heading))
        for name, text in lines:
            click.echo(f"  {name:<12}{printable(text)}")


def plan_lines(plan: Plan) -> list[Block]:
    """Lay out a plan: headings, with named lines under each."""
    (low, high), (least, largest), overlap = plan.rotations_deg, plan.scales, plan.overlap
    # All rotations are searched in steps, and the last step would be the first again.
    rotations = "all rotations" if high - low > 340 else f"rotations {low:.0f} to {high:.0f} degrees"
    shared = "unknown; without two georeferences, the images are assumed to show about the same scene"
    if overlap is not None:
        ground = f"{overlap.width_m / 1000:.3g} x {overlap.height_m / 1000:.3g} km"
        shared = f"{overlap.fixed_share:.0%} of FIXED, {overlap.moving_share:.0%} of MOVING, {ground}"
    together = [
        ("resolution", f"a moving pixel is {plan.ratio:.3g} fixed px wide"),
        ("overlap", shared),
        ("search", f"shifts up to {plan.max_shift_px:.0f} px, {rotations}, scales {least:.2f} to {largest:.2f}"),
        ("points", f"up to {plan.n_keypoints} in each image; a patch covers {plan.support_px} px of ground"),
        ("model", plan.model),
        ("network", f"{plan.weights} on {plan.device}"),
        ("time", f"about {plan.seconds:.0f} s on this machine; several times that before a failure"),
    ]
    return [
        (f"FIXED   {plan.fixed.info.path}", image_lines(plan.fixed)),
        (f"MOVING  {plan.moving.info.path}", image_lines(plan.moving)),
        ("TOGETHER", together),
    ]


def image_lines(image: ImagePlan) -> list[Line]:
    """Lay out the properties of one image."""
    info, (height, width) = image.info, image.shape
    bands = ", ".join(map(str, image.bands))
    if image.without_content:
        bands += f"; without content {', '.join(map(str, image.without_content))}"
    nodata = [] if info.nodata is None else [f"value {info.nodata:g}"]
    alpha = [] if info.alpha_band is None else [f"alpha in band {info.alpha_band}"]
    alpha += [f"band {band} is tagged as alpha, but holds measurements" for band in info.untagged]
    ground, metres = ", no georeference", info.grid.metres_per_pixel
    if info.grid.georeferenced:
        ground = "" if metres is None else f" of {float(f'{metres:.2g}'):g} m"  # metres are known to 1 % only
        name = info.grid.to_dict()["crs"]
        ground += f", {name if len(name) < 40 else 'a CRS without a code'}"
    reduced = f"reduced by {image.reduction:.3g}" if image.reduction > 1 else "not reduced"
    return [
        ("grid", f"{info.grid.width} x {info.grid.height} px{ground}"),
        ("bands", f"{info.count} of {info.dtype}; matched on {bands}"),
        (
            "no data",
            f"{' and '.join(nodata + alpha) or 'not declared'}; {image.valid_share:.1%} of the pixels are valid",
        ),
        ("kind", f"{image.kind} ({image.why})"),
        ("matched at", f"{width} x {height} px, {reduced}"),
    ]

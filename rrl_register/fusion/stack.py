"""Stacks of the bands of several sensors on the grid of one of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rrl_register.config import Kind, RegisterConfig, WarpConfig
from rrl_register.errors import InputError, NotRegisteredError, UsageError
from rrl_register.exchange.registration import Registration
from rrl_register.fusion.aligned_stack import (
    AlignedStack,
    StackBand,
    StackMember,
    as_arrays,
    check_layers,
    open_layer,
    write_layers,
)
from rrl_register.nn.inference.load import LoadedScorer, load_scorer
from rrl_register.pipeline.register import register
from rrl_register.raster.grid import Grid
from rrl_register.raster.reader import open_info
from rrl_register.raster.sources import ImageArray, ImageLike, as_image
from rrl_register.raster.writer import check_not_input, check_output

OnFailure = Literal["raise", "skip"]


def align_stack(
    images: Sequence[ImageLike],
    config: RegisterConfig | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    kinds: Sequence[Kind | str] | None = None,
    labels: Sequence[str] | None = None,
    registrations: Sequence[Registration | None] | None = None,
    on_failure: OnFailure = "raise",
    overwrite: bool = False,
    scorer: LoadedScorer | None = None,
) -> AlignedStack:
    """Register images onto the first one and stack the bands of all images on its grid.

    The bands become float32, or float64 if an image's type needs it, with NaN where their image has no data. Alpha
    bands are not stacked, but define where an image has data.

    Args:
        images: The reference, then one or more images to register onto it: files or arrays.
        config: Settings of all registrations, and of the warp and the file; None: the defaults.
        output: A GeoTIFF to write block by block, so that the stack need not fit into memory; None: return arrays.
        kinds: Kind of each image, the reference first; None: as in ``config``, or detected.
        labels: Name of each image; None: names of the files, ``image1``, ``image2``, ... for arrays.
        registrations: Known results of ``register`` for each image but the reference; None for those to register.
        on_failure: ``raise``, or ``skip`` to leave a failed image out; ``AlignedStack.members`` has the reason.
        overwrite: Replace an existing output.
        scorer: A loaded network to use.

    Returns:
        The stack.

    Raises:
        NotRegisteredError: An image could not be registered; with ``skip``, none could.
        InputError: An image cannot be read or used; with ``skip``, only if it is the reference.
        OutputExistsError, UsageError, WriteError: The output cannot be written, or the arguments contradict each other.
    """
    config = config or RegisterConfig()
    request = _Request.of(images, kinds, labels, registrations, config)
    target = None if output is None else Path(output)
    _require_possible(request, config, target, on_failure, overwrite)
    return _stacked(request, _register_all(request, config, on_failure, scorer), config.warp, target, overwrite)


@dataclass(frozen=True)
class _Request:
    """The checked arguments; all sequences have one entry for each image, the reference first."""

    images: tuple[Path | ImageArray, ...]
    kinds: tuple[Kind, ...]
    labels: tuple[str, ...]
    registrations: tuple[Registration | None, ...]
    grid: Grid

    @classmethod
    def of(
        cls,
        images: Sequence[ImageLike],
        kinds: Sequence[Kind | str] | None,
        labels: Sequence[str] | None,
        registrations: Sequence[Registration | None] | None,
        config: RegisterConfig,
    ) -> _Request:
        """Fill in defaults and check the arguments."""
        found = tuple(as_image(image) for image in images)
        if len(found) < 2:
            raise UsageError(f"{len(found)} images to stack; needed the reference and at least one other")
        moving = len(found) - 1
        kinds = (config.read.fixed_kind, *[config.read.moving_kind] * moving) if kinds is None else kinds
        if labels is None:  # names of the files, or numbers for arrays and equal names
            stems = [image.stem if isinstance(image, Path) else "" for image in found]
            labels = [stem if stem and stems.count(stem) == 1 else f"image{i}" for i, stem in enumerate(stems, start=1)]
        known = [None] * moving if registrations is None else registrations
        lengths = {"kinds": (kinds, len(found)), "labels": (labels, len(found)), "registrations": (known, moving)}
        for what, (values, needed) in lengths.items():
            if len(values) != needed:
                raise UsageError(f"{len(values)} {what}; needed {needed}")
        if len(set(labels)) < len(labels):
            raise UsageError(f"labels {', '.join(labels)}; needed a different one for each image")
        grid = found[0].known_grid if isinstance(found[0], ImageArray) else open_info(found[0]).grid
        for shape in (each.fixed_grid.shape for each in known if each):
            if shape != grid.shape:
                raise UsageError(
                    f"a registration onto {shape} px, the reference has {grid.shape} px; "
                    "needed registrations onto the reference; register again"
                )
        return cls(found, tuple(map(_kind, kinds)), tuple(labels), (None, *known), grid)


def _kind(kind: Kind | str) -> Kind:
    try:
        return Kind(kind)
    except ValueError as error:
        raise UsageError(f"the kind {kind!r} of an image; needed one of {', '.join(Kind)}") from error


def _require_possible(
    request: _Request, config: RegisterConfig, output: Path | None, on_failure: str, overwrite: bool
) -> None:
    if on_failure not in ("raise", "skip"):
        raise UsageError(f"on_failure {on_failure!r}; needed 'raise' or 'skip'")
    if config.warp.nodata is not None:
        raise UsageError(f"nodata {config.warp.nodata:g} for a stack; needed None: NaN stands for no data in it")
    if output is not None:
        check_output(output, overwrite)
        check_not_input(output, *(image for image in request.images if isinstance(image, Path)))


def _register_all(
    request: _Request, config: RegisterConfig, on_failure: OnFailure, scorer: LoadedScorer | None
) -> tuple[StackMember, ...]:
    """Register all images; return the members, the reference first."""
    if scorer is None and not all(request.registrations[1:]):
        scorer = load_scorer(config.match.weights, config.match.device)
    reference, members = request.images[0], [StackMember(request.labels[0], None, "")]
    for place, label in enumerate(request.labels[1:], start=1):
        found, reason = request.registrations[place], ""
        if found is None:
            read = replace(config.read, fixed_kind=request.kinds[0], moving_kind=request.kinds[place])
            try:
                found = register(reference, request.images[place], replace(config, read=read), scorer=scorer)
            except InputError as error:
                if on_failure == "raise":
                    raise
                reason = str(error)
        reason = found.reason if found else reason
        if reason and on_failure == "raise":
            raise NotRegisteredError(f"{label}: {reason}")
        members.append(StackMember(label, found, reason))
    if all(member.reason for member in members[1:]):
        raise NotRegisteredError(f"no image could be registered onto {members[0].label}: {members[1].reason}")
    return tuple(members)


def _stacked(
    request: _Request, members: tuple[StackMember, ...], config: WarpConfig, output: Path | None, overwrite: bool
) -> AlignedStack:
    """Stack the bands of all registered members as one array or file."""
    with ExitStack() as opened:
        layers = [
            opened.enter_context(open_layer(image, member, config.resampling))
            for image, member in zip(request.images, members, strict=True)
            if not member.reason
        ]
        check_layers(layers)
        bands = tuple(StackBand(name, layer.label, band) for layer in layers for band, name in layer.names.items())
        if output is None:
            return AlignedStack(request.grid, bands, members, as_arrays(layers, request.grid, config))
        write_layers(layers, request.grid, output, config, overwrite)
    return AlignedStack(request.grid, bands, members, output)

"""Using a transform again: on another band of the moving image, or on the same ground at another resolution."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rrl_register.config import Resampling, WarpConfig
from rrl_register.errors import InputError
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.transforms import Matrix, invert, project
from rrl_register.raster.grid import Grid, prior_matrix
from rrl_register.raster.image_array import ImageArray, ImageLike, as_image
from rrl_register.raster.reader import grid_of, open_info
from rrl_register.raster.sources import ArraySource, FileSource, Source
from rrl_register.warping.gcps import copy_with_gcps
from rrl_register.warping.output_grid import require_georeferences
from rrl_register.warping.warp import View, warp_to_file


def apply_transform(
    registration: Registration,
    image: Path,
    output: Path,
    config: WarpConfig | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Warp a file with a transform that was found before, onto the fixed grid or the one that is configured.

    Args:
        registration: What ``register`` gave, or ``read_registration`` read.
        image: Shows what the moving image showed. With georeferences on both sides it may be of any extent and
            resolution; without them it has to cover the moving image's ground, at any resolution.
        output: The GeoTIFF to write.
        config: What to write and how; with ``gcps_only`` the image is copied, not warped.
        overwrite: Whether an existing output may be replaced.

    Raises:
        InputError: The registration failed, the image cannot be read or does not belong to it, or a georeference that
            is needed is missing.
        WriteError: The output cannot be written completely.
        OutputExistsError, UsageError: The output cannot be written there.
    """
    forward = _require_transform(registration)
    settings = config or WarpConfig()
    onto_moving = to_registered_pixels(open_info(image).grid, registration.moving_grid)
    if settings.gcps_only:
        points = project(invert(onto_moving), registration.tie_points.moving[registration.inlier])
        fixed_points = registration.tie_points.fixed[registration.inlier]
        copy_with_gcps(image, points, fixed_points, registration.fixed_grid, output, settings, overwrite)
        return
    matrix = forward @ onto_moving
    warp_to_file(
        image, matrix, registration.fixed_grid, output, settings, overwrite, displacement=registration.displacement
    )


def require_writable_grid(fixed: Path, config: WarpConfig) -> None:
    """Refuse, before any work, what needs georeferences that are not there.

    Raises:
        InputError: A georeference is missing, or a raster that is needed for its grid cannot be read.
    """
    if isinstance(config.grid, Path) or config.gcps_only:
        like = open_info(config.grid).grid if isinstance(config.grid, Path) else None
        require_georeferences(open_info(fixed).grid, config, like)


@contextmanager
def open_view(image: ImageLike, registration: Registration | None, resampling: Resampling) -> Iterator[View]:
    """Look at an image as it lies on the fixed grid; it is read and warped in the parts that are asked for.

    Args:
        image: As in ``apply_transform``, or an array. Alpha bands are no bands of the view, but count for its mask;
            images with a colour table are resampled by nearest neighbour.
        registration: What ``register`` gave; None: the image is on the fixed grid already.
        resampling: How to interpolate.

    Raises:
        InputError: As ``apply_transform``; also within the block, where reading fails.
        UsageError: It is no image.
    """
    found = as_image(image)
    if isinstance(found, ImageArray):
        yield _view(ArraySource(found.bands, found.mask), found.known_grid, registration, resampling)
        return
    with FileSource(found) as source:
        fitting = Resampling.NEAREST if source.has_palette else resampling
        view = _view(source, grid_of(source.dataset), registration, fitting)
        alpha = tuple(filter(source.is_alpha, view.bands))
        yield replace(view, bands=tuple(band for band in view.bands if band not in alpha), masks=alpha)


def _view(source: Source, grid: Grid, registration: Registration | None, resampling: Resampling) -> View:
    if registration is None:
        return View.of(source, np.eye(3), grid.shape, Resampling.NEAREST)
    matrix = _matrix_for(registration, grid)
    return View.of(source, matrix, registration.fixed_grid.shape, resampling, registration.displacement)


def _matrix_for(registration: Registration, image: Grid) -> Matrix:
    """(3, 3), pixel of an image -> fixed pixel."""
    return _require_transform(registration) @ to_registered_pixels(image, registration.moving_grid)


def _require_transform(registration: Registration) -> Matrix:
    if registration.matrix is None:
        raise InputError(
            f"the transform is of a failed registration ({registration.reason}); needed status 'ok'; register again"
        )
    return registration.matrix


def read_registration(path: Path) -> Registration:
    """Read the JSON file that ``rrl-register register --json`` wrote.

    Raises:
        InputError: The file is no such JSON.
    """
    try:
        return Registration.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); needed a result file; check the path") from error
    except InputError as error:
        raise InputError(f"cannot use {path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no result of a registration ({error!r}); needed what `rrl-register --json` writes; "
            "name that file first and the image second"
        ) from error


def to_registered_pixels(image: Grid, moving: Grid) -> npt.NDArray[np.float64]:
    """Find how pixels of an image lie on the grid of the moving image that was registered.

    Args:
        image: Grid of the image that the transform is to be applied to.
        moving: Grid of the moving image that was registered.

    Returns:
        (3, 3) float64, image pixel -> moving pixel.

    Raises:
        InputError: Their georeferences do not overlap, or without georeferences their shapes differ.
    """
    if image == moving:
        return np.eye(3)
    if image.georeferenced and moving.georeferenced:
        return prior_matrix(fixed=moving, moving=image)
    x, y = moving.width / image.width, moving.height / image.height
    # A reduced copy's sides are rounded to whole pixels, so its aspect may differ by a pixel of its own.
    if abs(x / y - 1) > 1.5 / min(image.width, image.height, moving.width, moving.height):
        raise InputError(
            f"the image is {image.width} x {image.height} px, the one registered {moving.width} x {moving.height} px; "
            "needed the same aspect where georeferences are missing; try an image of the same ground"
        )
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])

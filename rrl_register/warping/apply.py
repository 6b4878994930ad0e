"""Apply a transform: to the moving image, to another image of its ground, or to its tie points as control points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rasterio.control import GroundControlPoint
from rasterio.errors import RasterioError

from rrl_register.config import Crop, OutputGrid, Resampling, WarpConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.geometry.arrays import Matrix, Points
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.transforms import invert, project
from rrl_register.geometry.window import Box
from rrl_register.raster.geotiff import inherited_nodata, stored_raster
from rrl_register.raster.grid import Grid, grid_of, prior_matrix
from rrl_register.raster.reader import open_dataset, open_info, unreadable
from rrl_register.raster.sources import ArraySource, FileSource, ImageArray, ImageLike, Source, as_image
from rrl_register.raster.writer import check_not_input, check_output
from rrl_register.warping.output_grid import require_georeferences
from rrl_register.warping.warp import View, warp_to_file


def copy_with_gcps(
    image: Path,
    points: Points,
    fixed_points: Points,
    fixed_grid: Grid,
    output: Path,
    config: WarpConfig | None = None,
    overwrite: bool = False,
) -> None:
    """Copy a raster's pixels and give it ground control points in the fixed image's CRS.

    A georeference of the image is dropped, because a GeoTIFF holds either. Everything else is kept.

    Args:
        image: The raster to copy.
        points: (N, 2) px of the image.
        fixed_points: (N, 2) px of the fixed image, where each of them lies.
        fixed_grid: Grid of the fixed image.
        output: The GeoTIFF to write.
        config: Format, overviews and creation options; None: the defaults.
        overwrite: Whether an existing output may be replaced.

    Raises:
        InputError: The image cannot be read, or the fixed image has no georeference.
        WriteError: The output cannot be written completely.
        OutputExistsError: The output exists and may not be replaced.
        UsageError: The output is the input or cannot be written there, or a setting does not go with a copy.
    """
    settings = replace(config or WarpConfig(), gcps_only=True)
    _require_plain_copy(settings)
    require_georeferences(fixed_grid, settings)
    check_not_input(output, image)
    check_output(output, overwrite)
    with open_dataset(image) as dataset:
        grid, nodata = Grid(dataset.width, dataset.height), inherited_nodata(dataset)
        with stored_raster(output, dataset, grid, nodata, settings, overwrite) as target:
            target.gcps = ground_control_points(points, fixed_grid.pixel_to_map(fixed_points)), fixed_grid.crs
            for block in Box.of_shape(grid.shape).blocks(settings.block_size):
                window = block.window()
                try:
                    values = dataset.read(window=window)
                    mask = dataset.read_masks(1, window=window) if nodata.mask else None
                except RasterioError as error:  # caught here, where it cannot be one of the output's
                    raise unreadable(image, error) from error
                target.write(values, window=window)
                if mask is not None:
                    target.write_mask(mask, window=window)


def ground_control_points(points: Points, places: Points) -> list[GroundControlPoint]:
    """Convert pixels and their map coordinates into GDAL's ground control points.

    Args:
        points: (N, 2) px (x, y), (0, 0) is the centre of the top-left pixel; GDAL counts from that pixel's corner.
        places: (N, 2) map coordinates.
    """
    return [
        GroundControlPoint(row=y + 0.5, col=x + 0.5, x=east, y=north, z=0.0, id=str(number))
        for number, ((x, y), (east, north)) in enumerate(zip(points.tolist(), places.tolist(), strict=True), 1)
    ]


def _require_plain_copy(config: WarpConfig) -> None:
    resampled = {
        "--grid": config.grid is not OutputGrid.FIXED,
        "--crop": config.crop is not Crop.FIXED,
        "--nodata": config.nodata is not None,
    }
    for flag, given in resampled.items():
        if given:
            raise UsageError(
                f"{flag} has no effect with --gcps-only, which copies pixels as they are; drop one of them"
            )


@dataclass(frozen=True)
class GridTransform:
    """A transform together with the two pixel grids that it connects.

    Attributes:
        transform: Moving px -> fixed px.
        fixed_grid: Grid of the fixed image.
        moving_grid: Grid of the moving image.
    """

    transform: Transform
    fixed_grid: Grid
    moving_grid: Grid

    def matrix_for(self, image: Grid) -> Matrix:
        """Return the ``(3, 3)`` matrix from pixels of an image of the moving image's ground to fixed pixels.

        Raises:
            InputError: The image does not belong to the moving one; see ``to_registered_pixels``.
        """
        return self.transform.matrix @ to_registered_pixels(image, self.moving_grid)

    def warp_file(self, image: Path, output: Path, config: WarpConfig, overwrite: bool) -> None:
        """Warp a file onto the fixed grid, or onto the one that is configured; raises as ``warp_to_file``."""
        matrix = self.matrix_for(open_info(image).grid)
        displacement = self.transform.displacement
        warp_to_file(image, matrix, self.fixed_grid, output, config, overwrite, displacement=displacement)

    def write_gcps(
        self, image: Path, moving: Points, fixed: Points, output: Path, config: WarpConfig, overwrite: bool
    ) -> None:
        """Copy a file with tie points ``(N, 2)`` as ground control points; raises as ``copy_with_gcps``."""
        points = project(invert(to_registered_pixels(open_info(image).grid, self.moving_grid)), moving)
        copy_with_gcps(image, points, fixed, self.fixed_grid, output, config, overwrite)


@contextmanager
def open_view(image: ImageLike, placed: GridTransform | None, resampling: Resampling) -> Iterator[View]:
    """Open an image as it lies on the fixed grid; only the parts that are requested are read and warped.

    Args:
        image: A file or an array. Alpha bands are not bands of the view, but count for its mask; images with a colour
            table are resampled by nearest neighbour.
        placed: The transform; None: the image is on the fixed grid already.
        resampling: Interpolation.

    Raises:
        InputError: The image cannot be read or does not belong to the moving one; also within the block.
        UsageError: It is not an image.
    """
    found = as_image(image)
    if isinstance(found, ImageArray):
        yield _view(ArraySource(found.bands, found.mask), found.known_grid, placed, resampling)
        return
    with FileSource(found) as source:
        fitting = Resampling.NEAREST if source.has_palette else resampling
        view = _view(source, grid_of(source.dataset), placed, fitting)
        alpha = tuple(filter(source.is_alpha, view.bands))
        yield replace(view, bands=tuple(band for band in view.bands if band not in alpha), masks=alpha)


def _view(source: Source, grid: Grid, placed: GridTransform | None, resampling: Resampling) -> View:
    if placed is None:
        return View.of(source, np.eye(3), grid.shape, Resampling.NEAREST)
    shape, displacement = placed.fixed_grid.shape, placed.transform.displacement
    return View.of(source, placed.matrix_for(grid), shape, resampling, displacement)


def require_writable_grid(fixed: Path, config: WarpConfig) -> None:
    """Refuse, before any work, settings that need georeferences if there are none.

    Raises:
        InputError: A georeference is missing, or the raster of ``config.grid`` cannot be read.
    """
    if isinstance(config.grid, Path) or config.gcps_only:
        like = open_info(config.grid).grid if isinstance(config.grid, Path) else None
        require_georeferences(open_info(fixed).grid, config, like)


def to_registered_pixels(image: Grid, moving: Grid) -> Matrix:
    """Relate the pixels of an image to those of the moving image that was registered.

    Args:
        image: Grid of the image that the transform is to be applied to.
        moving: Grid of the moving image that was registered.

    Returns:
        (3, 3) float64, image pixel -> moving pixel.

    Raises:
        InputError: Their georeferences do not overlap, or without georeferences their aspects differ.
    """
    if image == moving:
        return np.eye(3)
    if image.georeferenced and moving.georeferenced:
        return prior_matrix(fixed=moving, moving=image)
    x, y = moving.width / image.width, moving.height / image.height
    # A reduced copy's sides are rounded to whole pixels, so its aspect may differ by a pixel of its own.
    if abs(x / y - 1) > 1.5 / min(image.width, image.height, moving.width, moving.height):
        raise InputError(
            f"The image is {image.width} x {image.height} px, the one registered {moving.width} x {moving.height} px; "
            "without georeferences both need the same aspect; try an image of the same ground"
        )
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])

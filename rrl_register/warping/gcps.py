"""Copy an image as it is, with tie points as ground control points, so that it is resampled only once, later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rasterio.control import GroundControlPoint
from rasterio.errors import RasterioError

from rrl_register.config import Crop, OutputGrid, WarpConfig
from rrl_register.errors import UsageError
from rrl_register.geometry.arrays import Points
from rrl_register.geometry.window import Box
from rrl_register.raster.geotiff import inherited_nodata, stored_raster
from rrl_register.raster.grid import Grid
from rrl_register.raster.reader import open_dataset, unreadable
from rrl_register.raster.writer import check_not_input, check_output
from rrl_register.warping.output_grid import require_georeferences


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

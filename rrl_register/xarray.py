"""The xarray accessor ``.rrl``: registration of labelled arrays, lazy for those backed by dask. Extra: ``xarray``.

Importing this module registers the accessor.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rrl_register.config import RegisterConfig, Resampling
from rrl_register.errors import NotRegisteredError, UsageError
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.displacement import Transform
from rrl_register.geometry.window import Box
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.pipeline.register import register
from rrl_register.raster.grid import Grid
from rrl_register.raster.sources import ArraySource, ImageArray
from rrl_register.warping.inverse_map import InverseMap
from rrl_register.warping.output_grid import sample_displacement
from rrl_register.warping.warp import View, avoid_nodata

try:
    import rioxarray
    import xarray as xr
except ImportError as error:
    raise ImportError(f"{error.name} not installed; needed here; try: pip install 'rrl-register[xarray]'") from error

_CHUNK = 1024
"""Side of the chunks of a lazy result, px, if the reference has none."""


@xr.register_dataarray_accessor("rrl")
class RRLAccessor:
    """Registration of a ``DataArray`` with two spatial dimensions and at most one more, such as ``band``.

    Dimensions, CRS, geotransform and nodata value are those that rioxarray reports. NaN and the nodata value mark
    missing data.
    """

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    def registration_to(
        self, reference: xr.DataArray, config: RegisterConfig | None = None, *, scorer: Scorer | None = None
    ) -> Registration:
        """Register this array, the moving image, onto a reference; computed at once, even for arrays backed by dask.

        Arrays backed by dask are averaged down, chunk by chunk, to no less than ``config.read.max_side`` px before they
        are loaded. Averaging removes speckle: set the kind of SAR images.

        Args:
            reference: The fixed image.
            config: Settings; None: the defaults.
            scorer: A loaded network to use.

        Returns:
            The result, in pixels of both arrays; its ``status`` is ``failed`` if they could not be registered.

        Raises:
            InputError: An array cannot be used, or the georeferences share no ground.
            UsageError: An array has other dimensions than two in space and at most one more.
        """
        config = config or RegisterConfig()
        (fixed, fixed_factor), (moving, moving_factor) = (
            _loaded(array, config.read.max_side) for array in (reference, self._array)
        )
        found = register(fixed, moving, config, scorer=scorer)
        return found.enlarged(fixed_factor, moving_factor, _grid(reference), _grid(self._array))

    def register_to(
        self,
        reference: xr.DataArray,
        config: RegisterConfig | None = None,
        *,
        registration: Registration | None = None,
        scorer: Scorer | None = None,
    ) -> xr.DataArray:
        """Register this array, the moving image, and resample it on the grid of a reference.

        Args:
            reference: The fixed image.
            config: Settings; None: the defaults.
            registration: Result of ``registration_to`` for this pair; None: register.
            scorer: A loaded network to use.

        Returns:
            This array with the coordinates, CRS and geotransform of the reference. Its type and nodata value are kept;
            without a nodata value, NaN marks missing data and integers become floats. The result is lazy if this array
            is backed by dask: each chunk is warped when it is computed, and reads only what it needs.

        Raises:
            NotRegisteredError: The images could not be registered.
            InputError, UsageError: See ``registration_to``.
        """
        config = config or RegisterConfig()
        found = registration or self.registration_to(reference, config, scorer=scorer)
        if found.transform is None:
            raise NotRegisteredError(found.reason)
        shape = reference.rio.height, reference.rio.width
        bands, work = _bands(self._array), _Work.of(self._array, found.transform, shape, config.warp.resampling)
        if bands.chunks is not None:
            own = [tuple(min(_CHUNK, side - start) for start in range(0, side, _CHUNK)) for side in shape]
            chunks = _bands(reference).chunks
            values = _lazily_warped(bands.data, work, chunks[1:] if chunks else own)
        else:
            rows, columns = work.warp.shape
            values = _warped(bands.data, work, Box(0, shape[0], 0, shape[1]), Box(0, rows, 0, columns))
        return _like(reference, self._array, values, work.fill)


class _Work(NamedTuple):
    """Inverse map, nodata values of the source and of the result, and the result's type."""

    warp: InverseMap
    nodata: float | None
    fill: float
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, array: xr.DataArray, transform: Transform, shape: tuple[int, int], resampling: Resampling) -> _Work:
        """Prepare the warp of an array onto a fixed grid of a shape (rows, columns)."""
        moving_shape, nodata, dtype = (array.rio.height, array.rio.width), array.rio.nodata, array.dtype
        displacements = sample_displacement(transform.displacement, transform.matrix, moving_shape, Box.of_shape(shape))
        warp = InverseMap.onto(transform.matrix, moving_shape, resampling, displacements)
        if nodata is not None and not (np.isnan(nodata) and dtype.kind in "iu"):
            return cls(warp, nodata, nodata, dtype)
        return cls(warp, nodata, np.nan, dtype if dtype.kind in "fc" else np.result_type(dtype, np.float32))


def _loaded(array: xr.DataArray, max_side: int) -> tuple[ImageArray, int]:
    """Load an array, averaged down if dask backs it; return it and the factor."""
    bands = _bands(array)
    factor = 1 if bands.chunks is None else max(1, max(bands.shape[1:]) // max_side)
    grid, nodata = _grid(array), array.rio.nodata
    if factor > 1:
        known = bands.astype(np.result_type(bands.dtype, np.float32)).where(_known(bands, nodata))
        steps = {array.rio.y_dim: factor, array.rio.x_dim: factor}
        bands, nodata = known.coarsen(steps, boundary="trim").mean(), None
    values = np.asarray(bands.data)
    valid = np.asarray(_known(values, nodata).all(axis=0))
    names = array.attrs.get("long_name", ())  # as GDAL's readers store them
    names = (names,) if isinstance(names, str) else tuple(map(str, names))
    return ImageArray(values, grid.reduced(factor), valid, names if len(names) == len(values) else ()), factor


def _bands(array: xr.DataArray) -> xr.DataArray:
    """Return the array as (B, H, W)."""
    try:
        y, x = array.rio.y_dim, array.rio.x_dim
    except rioxarray.exceptions.MissingSpatialDimensionError as error:
        raise UsageError(f"dimensions {array.dims}; needed y and x; try .rio.set_spatial_dims") from error
    others = [name for name in array.dims if name not in (y, x)]
    if len(others) > 1:
        raise UsageError(f"dimensions {array.dims}; needed two in space and at most one more; try .isel")
    return array.transpose(*others, y, x) if others else array.expand_dims("band")


def _grid(array: xr.DataArray) -> Grid:
    """Return size and georeference; coordinates take precedence over a geotransform, which slicing does not update."""
    y, x = array.rio.y_dim, array.rio.x_dim
    with_coordinates = x in array.coords and y in array.coords and min(array.sizes[x], array.sizes[y]) > 1
    transform = array.rio.transform(recalc=with_coordinates)
    return Grid(array.sizes[x], array.sizes[y], array.rio.crs, None if transform.is_identity else transform)


def _known(values: Any, nodata: float | None) -> Any:
    """Return true for values that are data."""
    finite = np.isfinite(values)
    return finite if nodata is None or np.isnan(nodata) else finite & (values != nodata)


def _warped(bands: npt.NDArray[Any], work: _Work, box: Box, part: Box) -> npt.NDArray[Any]:
    """Warp a part (B, rows, columns) of the moving image to a block (B, h, w) of the fixed grid."""
    source = ArraySource(bands, np.asarray(_known(bands, work.nodata).all(axis=0)), part, work.warp.shape)
    view = View(source, work.warp, box.shape, tuple(range(len(bands))))
    values, valid = view.whole(box)
    values = values if work.nodata is None else avoid_nodata(values, work.fill)
    return np.where(valid, values, np.array(work.fill, work.dtype)).astype(work.dtype, copy=False)


def _lazily_warped(bands: Any, work: _Work, chunks: Sequence[tuple[int, ...]]) -> Any:
    """Warp each chunk of the result lazily, as a dask array."""
    import dask
    import dask.array as da

    shared, warp_block = dask.delayed(work), dask.delayed(_warped, pure=True)

    def block(box: Box) -> Any:
        """Return one chunk of the result, from the part of the moving image that it needs."""
        shape = (len(bands), *box.shape)
        part = work.warp.window(box)
        if 0 in part.shape:
            return da.full(shape, work.fill, work.dtype, chunks=shape)
        needed = bands[:, part.top : part.bottom, part.left : part.right]
        return da.from_delayed(warp_block(needed, shared, box, part), shape, work.dtype)

    rows, columns = (list(pairwise(np.cumsum([0, *sizes]).tolist())) for sizes in chunks)
    return da.block([[block(Box(*row, *column)) for column in columns] for row in rows])


def _like(reference: xr.DataArray, moving: xr.DataArray, values: Any, fill: float) -> xr.DataArray:
    """Label values (B, h, w) with the moving array's name, bands and attributes, and the reference's coordinates."""
    y, x = reference.rio.y_dim, reference.rio.x_dim
    others = [name for name in moving.dims if name not in (moving.rio.y_dim, moving.rio.x_dim)]
    coords = {name: coord for name, coord in moving.coords.items() if coord.dims == tuple(others) and others}
    coords |= {name: reference.coords[name] for name in (y, x) if name in reference.coords}
    result = xr.DataArray(
        values if others else values[0], coords, (*others, y, x), name=moving.name, attrs=moving.attrs
    )
    grid = _grid(reference)
    if grid.crs is not None:
        result = result.rio.write_crs(grid.crs)
    if grid.transform is not None:
        result = result.rio.write_transform(grid.transform)
    return result.rio.write_nodata(fill)

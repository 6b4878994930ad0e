"""Result of a registration, its use on other images, and its RESULT.json.

Schema 2 of RESULT.json has the fields of schema 1. It came with the reason "failed forward-backward check" in tables of
tie points, which schema 1 called "not found back".
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import WarpConfig, __version__
from rrl_register.config.files import parse_json, read_text
from rrl_register.errors import InputError
from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.displacement import Displacement, Transform
from rrl_register.geometry.tie_points import TiePoints, no_tie_points
from rrl_register.geometry.transforms import rescale_matrix
from rrl_register.geometry.window import Frame, Frames
from rrl_register.raster.grid import Grid
from rrl_register.raster.sources import ImageArray, ImageLike, as_path
from rrl_register.warping.apply import GridTransform, open_view

SCHEMA = 2
READABLE_SCHEMAS = (1, 2)
_DIGITS = 3
_OPTIONAL = ("displacement", "uncertainty_px", "covariance", "rejected", "similarity")
"""Absent from files of early versions."""


class Aligned(NamedTuple):
    """An image on the fixed grid.

    Attributes:
        values: (B, H, W), or (H, W) for an image without a band axis, of the image's type; 0 where not valid.
        valid: (H, W) bool, where all bands have data.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Registration:
    """Result of ``register`` or ``refit``, successful or not.

    Distances are in fixed pixels of the files unless another unit is named.

    Attributes:
        status: ``ok`` or ``failed``.
        reason: Reason of a failure and a remedy, in one line; else empty.
        model: Name of the transform; None if no transform could be fitted.
        matrix: ``(3, 3)`` moving px -> fixed px of the files, (0, 0) = centre of the top-left pixel; None if failed.
        n_keypoints_fixed, n_keypoints_moving, n_candidates: Keypoints detected and pairs scored by the network, in all
            rounds of matching together.
        n_tie_points, n_inliers: Counts of the last round.
        rmse_px: RMSE of the inliers.
        check_rmse_px: RMSE of the cross-validation, which leaves out blocks of the scene.
        confidence: Probability that the transform is correct, 0-1; None if no search tested it (``refit``).
        evidence: Figures behind the confidence, by name (see ``estimation.evidence.Evidence``).
        seconds: Time of each stage.
        device, weights: Device and weights of the network; None if it was not used.
        fixed_kind, moving_kind: Kinds of the images, as configured or recognised.
        support_px: Side of the ground that a patch covers, px at matching resolution; None without the network.
        fixed_grid, moving_grid: Pixel grids of the files.
        tie_points: ``N`` tie points of the last round, px of the files; unscored ones have the score NaN.
        inlier: ``(N,)`` bool, True for tie points that agree with the transform.
        version: Version of this package.
        displacement: Displacement that the matrix lacks; None for the models that are a matrix.
        uncertainty_px: Standard error of the transform, ``mean`` and ``max`` over the overlap; None if unknown.
        covariance: ``(8, 8)`` of the matrix's elements, row by row without the last, which is 1; None if unknown, or
            if a displacement belongs to the transform.
        rejected: Best candidates of the keypoints without a tie point in the last round, px of the files.
        similarity: Similarity of both images ``before`` (as the prior places them) and ``after``, each with ``nmi``
            (normalised mutual information) and ``gradient_ssim``; None if it was not measured.
    """

    status: str
    reason: str
    model: str | None
    matrix: Matrix | None
    n_keypoints_fixed: int
    n_keypoints_moving: int
    n_candidates: int
    n_tie_points: int
    n_inliers: int
    rmse_px: float | None
    check_rmse_px: float | None
    confidence: float | None
    evidence: dict[str, float | None]
    seconds: dict[str, float]
    device: str | None
    weights: str | None
    fixed_kind: str
    moving_kind: str
    support_px: int | None
    fixed_grid: Grid
    moving_grid: Grid
    tie_points: TiePoints
    inlier: NDArray[np.bool_]
    version: str = field(default=__version__)
    displacement: Displacement | None = None
    uncertainty_px: dict[str, float] | None = None
    covariance: NDArray[np.float64] | None = None
    rejected: TiePoints = field(default_factory=no_tie_points)
    similarity: dict[str, dict[str, float]] | None = None

    @property
    def transform(self) -> Transform | None:
        """Map of points forward (moving -> fixed) and backward: matrix and displacement; None if failed."""
        return None if self.matrix is None else Transform(self.matrix, self.displacement)

    @property
    def grid_transform(self) -> GridTransform:
        """Transform with both grids.

        Raises:
            InputError: The registration failed.
        """
        if self.transform is None:
            raise InputError(
                f"The registration failed and has no transform ({self.reason}); register again until status is 'ok'"
            )
        return GridTransform(self.transform, self.fixed_grid, self.moving_grid)

    @overload
    def apply(self, image: ImageLike, output: None = None, config: WarpConfig | None = None) -> Aligned: ...

    @overload
    def apply(
        self,
        image: ImageLike,
        output: str | os.PathLike[str],
        config: WarpConfig | None = None,
        *,
        overwrite: bool = False,
    ) -> Path: ...

    def apply(
        self,
        image: ImageLike,
        output: str | os.PathLike[str] | None = None,
        config: WarpConfig | None = None,
        *,
        overwrite: bool = False,
    ) -> Aligned | Path:
        """Warp the moving image, or another image of the same ground, onto the fixed grid.

        Args:
            image: A file or an array. If it and the moving image have georeferences, it may have any extent and
                resolution; else it has to cover the ground of the moving image, at any resolution.
            output: The GeoTIFF to write; None: return arrays.
            config: Resampling and format; None: the defaults.
            overwrite: Replace an existing output.

        Returns:
            The path of the output, or the arrays.

        Raises:
            InputError: The registration failed, or the image cannot be read or does not fit it.
            OutputExistsError, UsageError, WriteError: The output cannot be written.
        """
        config = config or WarpConfig()
        if output is not None:
            with as_path(image, "the array") as path:
                apply_transform(self, path, Path(output), config, overwrite=overwrite)
            return Path(output)
        with open_view(image, self.grid_transform, config.resampling) as view:
            values, valid = view.whole()
        array = image.values if isinstance(image, ImageArray) else image
        return Aligned(values[0] if isinstance(array, np.ndarray) and array.ndim == 2 else values, valid)

    def enlarged(self, fixed_factor: float, moving_factor: float, fixed_grid: Grid, moving_grid: Grid) -> Registration:
        """Convert a result of images that were reduced before registration to pixels of the whole images.

        Args:
            fixed_factor: Pixels of the whole fixed image per pixel of the one that was registered.
            moving_factor: The same for the moving image.
            fixed_grid: Grid of the whole fixed image.
            moving_grid: Grid of the whole moving image.
        """
        if fixed_factor == moving_factor == 1:
            return replace(self, fixed_grid=fixed_grid, moving_grid=moving_grid)
        frames, spread = Frames(Frame(fixed_factor), Frame(moving_factor)), self.uncertainty_px
        return replace(
            self,
            matrix=None if self.matrix is None else rescale_matrix(self.matrix, 1 / fixed_factor, 1 / moving_factor),
            displacement=self.displacement and self.displacement.reduced(1 / fixed_factor),
            covariance=None,
            fixed_grid=fixed_grid,
            moving_grid=moving_grid,
            tie_points=frames.tie_points_to_files(self.tie_points),
            rejected=frames.tie_points_to_files(self.rejected),
            rmse_px=self.rmse_px and self.rmse_px * fixed_factor,
            check_rmse_px=self.check_rmse_px and self.check_rmse_px * fixed_factor,
            uncertainty_px=spread and {name: length * fixed_factor for name, length in spread.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of RESULT.json; ``from_json`` reads it back."""
        tie_points = _encode_points(self.tie_points)
        return {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in FIELDS},
            "matrix": None if self.matrix is None else self.matrix.tolist(),
            "displacement": self.displacement and self.displacement.to_json(),
            "covariance": None if self.covariance is None else self.covariance.tolist(),
            "seconds": {stage: round(seconds, _DIGITS) for stage, seconds in self.seconds.items()},
            "fixed_grid": self.fixed_grid.to_dict(),
            "moving_grid": self.moving_grid.to_dict(),
            "tie_points": [
                {**point, "inlier": inlier} for point, inlier in zip(tie_points, self.inlier.tolist(), strict=True)
            ],
            "rejected": _encode_points(self.rejected),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Registration:
        """Build a result from the content of RESULT.json.

        Raises:
            InputError: The schema is unknown, or the registration could not begin and has no images.
            ValueError: A field is missing, or has the wrong type or an impossible value.
        """
        from rrl_register.exchange.result_schema import check_result

        if not isinstance(data, dict):
            raise ValueError("no JSON object")
        if data.get("schema") not in READABLE_SCHEMAS:
            raise InputError(
                f"The result has schema {data.get('schema')!r}; this version reads schema 1 and 2; register again"
            )
        if "fixed_grid" in data and data["fixed_grid"] is None:
            raise InputError(f"The registration could not begin ({data.get('reason')}); register again")
        check_result(data, cls, FIELDS, _OPTIONAL)
        matrix, displacement, covariance = data["matrix"], data.get("displacement"), data.get("covariance")
        points = data["tie_points"] or []
        fields_read = {
            **{name: data[name] for name in FIELDS if name in data or name not in _OPTIONAL},
            "matrix": None if matrix is None else np.array(matrix, float).reshape(3, 3),
            "displacement": displacement and Displacement.from_json(displacement),
            "covariance": None if covariance is None else np.array(covariance, float).reshape(8, 8),
            "fixed_grid": Grid.from_dict(data["fixed_grid"]),
            "moving_grid": Grid.from_dict(data["moving_grid"]),
            "inlier": np.array([point["inlier"] for point in points], bool),
            "tie_points": _decode_points(points),
            "rejected": _decode_points(data.get("rejected") or []),
        }
        return cls(**fields_read)


FIELDS = tuple(item.name for item in fields(Registration) if item.name != "inlier")
"""Fields of RESULT.json after ``schema``, in their order; ``inlier`` is a flag of each tie point."""


def apply_transform(
    registration: Registration, image: Path, output: Path, config: WarpConfig | None = None, *, overwrite: bool = False
) -> None:
    """Warp a file with a known transform, onto the fixed grid or the grid of ``config``.

    Args:
        registration: Result of ``register`` or ``read_registration``.
        image: Shows the ground of the moving image. If both have georeferences, it may have any extent and resolution;
            else it has to cover the ground of the moving image, at any resolution.
        output: The GeoTIFF to write.
        config: Grid, resampling and format; with ``gcps_only`` the image is copied, not warped.
        overwrite: Replace an existing output.

    Raises:
        InputError: The registration failed, the image cannot be read or does not fit it, or a georeference is missing.
        WriteError: The output cannot be written completely.
        OutputExistsError, UsageError: The output exists, or its folder cannot be written to.
    """
    settings, placed = config or WarpConfig(), registration.grid_transform
    if settings.gcps_only:
        tied, inlier = registration.tie_points, registration.inlier
        placed.write_gcps(image, tied.moving[inlier], tied.fixed[inlier], output, settings, overwrite)
    else:
        placed.warp_file(image, output, settings, overwrite)


def read_registration(path: Path) -> Registration:
    """Read the RESULT.json that ``rrl-register register --json`` wrote.

    Raises:
        InputError: The file cannot be read, or is no RESULT.json.
    """
    try:
        return Registration.from_json(parse_json(read_text(path)))
    except OSError as error:
        raise InputError(f"Cannot read {path} ({error.strerror}); check the path") from error
    except InputError as error:
        raise InputError(f"Cannot use {path}: {error}") from error
    except ValueError as error:
        raise InputError(
            f"{path} is no RESULT.json of a registration ({error}); name the file that `rrl-register --json` wrote, "
            "before the images"
        ) from error


def failure_record(reason: str) -> dict[str, Any]:
    """Return the content of RESULT.json for a registration that could not begin: all other figures are None.

    Args:
        reason: One line.
    """
    return {"schema": SCHEMA, **dict.fromkeys(FIELDS), "status": "failed", "reason": reason, "version": __version__}


def _encode_points(points: TiePoints) -> list[dict[str, Any]]:
    """Convert points to one record each, with ``agreement_px`` if the forward-backward check measured them."""
    columns = {"fixed": points.fixed, "moving": points.moving, "score": points.score}
    if points.agreement_px is not None:
        columns["agreement_px"] = points.agreement_px
    rows = zip(*(column.round(_DIGITS).tolist() for column in columns.values()), strict=True)
    return [{name: _none_for_nan(value) for name, value in zip(columns, row, strict=True)} for row in rows]


def _decode_points(records: list[dict[str, Any]]) -> TiePoints:
    has_agreement = any("agreement_px" in record for record in records)
    return TiePoints(
        np.array([record["fixed"] for record in records], float).reshape(-1, 2),
        np.array([record["moving"] for record in records], float).reshape(-1, 2),
        np.array([record["score"] for record in records], float),
        np.array([record.get("agreement_px") for record in records], float) if has_agreement else None,
    )


def _none_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value  # JSON has no NaN

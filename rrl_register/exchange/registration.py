"""The result of a registration."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import WarpConfig
from rrl_register.config.version import __version__
from rrl_register.errors import InputError
from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.displacement import Displacement, Transform
from rrl_register.geometry.tie_points import TiePoints, no_tie_points
from rrl_register.geometry.transforms import rescale_matrix
from rrl_register.raster.grid import Grid
from rrl_register.raster.image_array import ImageArray, ImageLike, as_path
from rrl_register.warping.apply import GridTransform, open_view

SCHEMA = 1
_DIGITS = 3


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
    """What ``register`` found, whether it succeeded or not.

    Attributes:
        status: ``ok`` or ``failed``.
        reason: Why it failed, in one line with what to try; empty if it did not.
        model: Of the transform; None if nothing could be fitted.
        matrix: ``(3, 3)`` moving px -> fixed px of the files, (0, 0) = centre of the top-left pixel; None if failed.
        n_keypoints_fixed, n_keypoints_moving, n_candidates: Points looked at and pairs scored by the network, in all
            passes together.
        n_tie_points, n_inliers: Of the last pass.
        rmse_px: Of the inliers under the fit, fixed px.
        check_rmse_px: Of points kept out of the fit by blocks of the scene, fixed px.
        confidence: Probability that the transform is right, 0-1; None where no search tested it (``refit``).
        evidence: What the confidence is made of, by name (see ``estimation.verdict.Evidence``).
        seconds: By stage.
        device, weights, version: What made it; the first two are None where no network was asked.
        fixed_kind, moving_kind: What the images were taken for.
        support_px: Ground under a patch, working px; None where no network was asked.
        fixed_grid, moving_grid: Of the files.
        tie_points: Of the last pass, px of the files; those that the network was not asked about have no score (NaN).
        inlier: ``(N,)`` bool, which tie points agree with the transform.
        version: Of the package.
        displacement: What is to be added to the matrix, px of the fixed file; None for the models that are a matrix.
        uncertainty_px: Standard error of where the transform puts a point, ``mean`` and ``max`` of the overlap, fixed
            px; None where it is not known.
        covariance: ``(8, 8)`` of the matrix's elements, row by row without the last, which is 1; None where it is not
            known, or where the matrix is not all of the transform.
        rejected: Of the last pass, the best candidates of the keypoints for which the network accepted none, px of the
            files.
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
        """Matrix and displacement together: maps points forward (moving -> fixed) and backward; None if failed."""
        return None if self.matrix is None else Transform(self.matrix, self.displacement)

    @property
    def grid_transform(self) -> GridTransform:
        """The transform with both grids.

        Raises:
            InputError: The registration failed.
        """
        if self.transform is None:
            raise InputError(
                f"the transform is of a failed registration ({self.reason}); needed status 'ok'; register again"
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
        """Brings the moving image, or another one of the same ground, onto the fixed grid.

        Args:
            image: A file or an array. With georeferences on both sides it may be of any extent and resolution; without
                them it has to cover the moving image's ground, at any resolution.
            output: The GeoTIFF to write; None: give arrays.
            config: How to resample and write; None: the defaults.
            overwrite: Whether an existing output may be replaced.

        Returns:
            The path of the output, or the arrays.

        Raises:
            InputError: The registration failed, or the image cannot be read or does not belong to it.
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
        """The result in pixels of the images that were averaged down before they were registered.

        Args:
            fixed_factor: Pixels of the whole fixed image per pixel of the one that was registered.
            moving_factor: The same for the moving image.
            fixed_grid: Of the whole fixed image.
            moving_grid: Of the whole moving image.
        """
        if fixed_factor == moving_factor == 1:
            return replace(self, fixed_grid=fixed_grid, moving_grid=moving_grid)
        spread = self.uncertainty_px
        return replace(
            self,
            matrix=None if self.matrix is None else rescale_matrix(self.matrix, 1 / fixed_factor, 1 / moving_factor),
            displacement=self.displacement and self.displacement.reduced(1 / fixed_factor),
            covariance=None,
            fixed_grid=fixed_grid,
            moving_grid=moving_grid,
            tie_points=self.tie_points.enlarged(fixed_factor, moving_factor),
            rejected=self.rejected.enlarged(fixed_factor, moving_factor),
            rmse_px=self.rmse_px and self.rmse_px * fixed_factor,
            check_rmse_px=self.check_rmse_px and self.check_rmse_px * fixed_factor,
            uncertainty_px=spread and {name: length * fixed_factor for name, length in spread.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """The result in JSON's types, schema 1; ``from_json`` reads it back."""
        plain = {k: v for k, v in self.__dict__.items() if k != "inlier"}
        return {
            "schema": SCHEMA,
            **plain,
            "matrix": None if self.matrix is None else self.matrix.tolist(),
            "displacement": self.displacement and self.displacement.to_json(),
            "covariance": None if self.covariance is None else self.covariance.tolist(),
            "seconds": {k: round(v, _DIGITS) for k, v in self.seconds.items()},
            "fixed_grid": self.fixed_grid.to_dict(),
            "moving_grid": self.moving_grid.to_dict(),
            "tie_points": [
                {**point, "inlier": inlier}
                for point, inlier in zip(_points_to_json(self.tie_points), self.inlier.tolist(), strict=True)
            ],
            "rejected": _points_to_json(self.rejected),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Registration:
        """Reads what ``to_json`` wrote.

        Raises:
            InputError: If it is of another schema.
            KeyError, TypeError, ValueError: If a field is missing or of the wrong type.
        """
        if data.get("schema") != SCHEMA:
            raise InputError(f"a result of schema {data.get('schema')!r}, schema {SCHEMA} is needed: register again")
        points = data["tie_points"] or []
        known = {k: v for k, v in data.items() if k in cls.__dataclass_fields__}
        if known["fixed_grid"] is None:
            raise InputError(f"the result of a registration that did not begin ({data['reason']}): register again")
        displacement, covariance = data.get("displacement"), data.get("covariance")
        known |= {
            "matrix": None if data["matrix"] is None else np.array(data["matrix"], float).reshape(3, 3),
            "displacement": displacement and Displacement.from_json(displacement),
            "covariance": None if covariance is None else np.array(covariance, float).reshape(8, 8),
            "fixed_grid": Grid.from_dict(data["fixed_grid"]),
            "moving_grid": Grid.from_dict(data["moving_grid"]),
            "inlier": np.array([p["inlier"] for p in points], bool),
            "tie_points": _points_from_json(points),
            "rejected": _points_from_json(data.get("rejected") or []),
        }
        return cls(**known)


def _points_to_json(points: TiePoints) -> list[dict[str, Any]]:
    """A record of each point; with ``agreement_px`` where they were searched back."""
    columns = {"fixed": points.fixed, "moving": points.moving, "score": points.score}
    if points.agreement_px is not None:
        columns["agreement_px"] = points.agreement_px
    rows = zip(*(column.round(_DIGITS).tolist() for column in columns.values()), strict=True)
    return [{name: _known(value) for name, value in zip(columns, row, strict=True)} for row in rows]


def _points_from_json(records: list[dict[str, Any]]) -> TiePoints:
    searched_back = any("agreement_px" in record for record in records)
    return TiePoints(
        np.array([record["fixed"] for record in records], float).reshape(-1, 2),
        np.array([record["moving"] for record in records], float).reshape(-1, 2),
        np.array([record["score"] for record in records], float),
        np.array([record.get("agreement_px") for record in records], float) if searched_back else None,
    )


def _known(value: Any) -> Any:
    """The value, or None for a NaN, which JSON cannot hold."""
    return None if isinstance(value, float) and math.isnan(value) else value


def failure_record(reason: str) -> dict[str, Any]:
    """What ``to_json`` would give for a registration that could not even begin: every figure is None.

    Args:
        reason: Why, in one line.
    """
    known = {"status": "failed", "reason": reason, "version": __version__}
    unknown = (f.name for f in fields(Registration) if f.name != "inlier")
    return {"schema": SCHEMA, **dict.fromkeys(unknown), **known}


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
    settings, placed = config or WarpConfig(), registration.grid_transform
    if settings.gcps_only:
        tied, inlier = registration.tie_points, registration.inlier
        placed.write_gcps(image, tied.moving[inlier], tied.fixed[inlier], output, settings, overwrite)
    else:
        placed.warp_file(image, output, settings, overwrite)


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

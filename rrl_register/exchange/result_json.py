"""Content of RESULT.json: the fields of a ``Registration`` in JSON's types.

Schema 2 has the fields of schema 1. It came with the reason "failed forward-backward check" in tables of tie points,
which schema 1 called "not found back".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rrl_register.config import __version__
from rrl_register.errors import InputError
from rrl_register.geometry.displacement import Displacement
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.raster.grid import Grid

SCHEMA = 2
READABLE_SCHEMAS = (1, 2)
FIELDS = (
    "status", "reason", "model", "matrix", "n_keypoints_fixed", "n_keypoints_moving", "n_candidates",
    "n_tie_points", "n_inliers", "rmse_px", "check_rmse_px", "confidence", "evidence", "seconds", "device",
    "weights", "fixed_kind", "moving_kind", "support_px", "fixed_grid", "moving_grid", "tie_points", "version",
    "displacement", "uncertainty_px", "covariance", "rejected", "similarity",
)  # fmt: skip
"""Fields after ``schema``, in their order; ``inlier`` is a flag of each tie point."""
_DIGITS = 3
_OPTIONAL = ("displacement", "uncertainty_px", "covariance", "rejected", "similarity")
"""Absent from files of early versions."""


def encode(registration: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the fields of a ``Registration`` to the content of RESULT.json."""
    matrix, displacement, covariance = (registration[name] for name in ("matrix", "displacement", "covariance"))
    tie_points = _encode_points(registration["tie_points"])
    return {
        "schema": SCHEMA,
        **{name: registration[name] for name in FIELDS},
        "matrix": None if matrix is None else matrix.tolist(),
        "displacement": displacement and displacement.to_json(),
        "covariance": None if covariance is None else covariance.tolist(),
        "seconds": {stage: round(seconds, _DIGITS) for stage, seconds in registration["seconds"].items()},
        "fixed_grid": registration["fixed_grid"].to_dict(),
        "moving_grid": registration["moving_grid"].to_dict(),
        "tie_points": [
            {**point, "inlier": inlier}
            for point, inlier in zip(tie_points, registration["inlier"].tolist(), strict=True)
        ],
        "rejected": _encode_points(registration["rejected"]),
    }


def decode(data: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the content of RESULT.json, of any readable schema, to the fields of a ``Registration``.

    Raises:
        InputError: The schema is unknown, or the registration could not begin and has no images.
        KeyError, TypeError, ValueError: A field is missing or has the wrong type.
    """
    if data.get("schema") not in READABLE_SCHEMAS:
        raise InputError(
            f"The result has schema {data.get('schema')!r}; this version reads schema 1 and 2; register again"
        )
    if data["fixed_grid"] is None:
        raise InputError(f"The registration could not begin ({data['reason']}); register again")
    matrix, displacement, covariance = data["matrix"], data.get("displacement"), data.get("covariance")
    points = data["tie_points"] or []
    return {
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


def failure_record(reason: str) -> dict[str, Any]:
    """Return the content of RESULT.json for a registration that could not begin: all other figures are None.

    Args:
        reason: One line.
    """
    known = {"status": "failed", "reason": reason, "version": __version__}
    return {"schema": SCHEMA, **dict.fromkeys(FIELDS), **known}


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

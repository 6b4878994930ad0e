"""Types and bounds of the fields of RESULT.json. Importing this loads pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from rrl_register.config.files import MOST_POINTS

_LARGEST, _SINGULAR = 1e12, 1e-12
"""Largest coordinate, and smallest singular value of a matrix, which no real pair comes near."""
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, str_max_length=10_000)

Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
Side = Annotated[int, Field(ge=1, le=10_000_000)]
Pair = Annotated[list[Number], Field(min_length=2, max_length=2)]
Row = Annotated[list[Number], Field(min_length=3, max_length=3)]
Eight = Annotated[list[Number], Field(min_length=8, max_length=8)]
Pairs = Annotated[list[Pair], Field(max_length=10_000)]
Kind = Literal["auto", "optical", "ir", "sar"]


class _Grid(BaseModel, **_STRICT):
    width: Side
    height: Side
    crs: Annotated[str, Field(max_length=100_000)] | None
    transform: Annotated[list[Number], Field(min_length=6, max_length=6)] | None


class _Candidate(BaseModel, **_STRICT):
    fixed: Pair
    moving: Pair
    score: Number | None
    agreement_px: Number | None = None


class _TiePoint(_Candidate):
    inlier: bool


class _Displacement(BaseModel, **_STRICT):
    degree: Annotated[int, Field(ge=0, le=5)]
    coefficients: Pairs
    knots: Pairs
    weights: Pairs
    centre: Pair
    scale: Annotated[Number, Field(gt=0)]
    hull: Annotated[Pairs, Field(min_length=3)]

    @model_validator(mode="after")
    def _fits(self) -> _Displacement:
        if len(self.coefficients) != (self.degree + 1) * (self.degree + 2) // 2:
            raise ValueError(f"{len(self.coefficients)} coefficients do not belong to degree {self.degree}")
        if len(self.knots) != len(self.weights):
            raise ValueError("knots and weights differ in number")
        if any(one == other for one, other in zip(self.hull, self.hull[1:] + self.hull[:1], strict=True)):
            raise ValueError("a corner of the hull is repeated")
        return self


def _regular(matrix: list[list[float]]) -> list[list[float]]:
    if np.linalg.matrix_rank(matrix, _SINGULAR) < 3:
        raise ValueError("the matrix is singular")
    return matrix


_TYPES: dict[str, Any] = {
    "status": Literal["ok", "failed"],
    "confidence": Annotated[float, Field(ge=0, le=1)] | None,
    "matrix": Annotated[list[Row], Field(min_length=3, max_length=3), AfterValidator(_regular)] | None,
    "fixed_kind": Kind,
    "moving_kind": Kind,
    "fixed_grid": _Grid,
    "moving_grid": _Grid,
    "tie_points": Annotated[list[_TiePoint], Field(max_length=MOST_POINTS)] | None,
    "displacement": _Displacement | None,
    "uncertainty_px": dict[str, float | None] | None,
    "covariance": Annotated[list[Eight], Field(min_length=8, max_length=8)] | None,
    "rejected": Annotated[list[_Candidate], Field(max_length=MOST_POINTS)] | None,
    "similarity": dict[str, dict[str, float | None]] | None,
}
"""Types that differ from those of ``Registration``, whose arrays are lists in JSON."""


@cache
def _model(result: type, names: tuple[str, ...], optional: tuple[str, ...]) -> type[BaseModel]:
    types = get_type_hints(result) | _TYPES
    fields: dict[str, Any] = {name: (types[name], None if name in optional else ...) for name in names}
    return create_model("_Result", __config__=_STRICT, **fields)


def check_result(data: Mapping[str, Any], result: type, names: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """Check the content of RESULT.json, of any readable schema.

    Args:
        data: The content.
        result: Class of the result, ``Registration``.
        names: Its fields in the file.
        optional: Those that may be absent.

    Raises:
        ValueError: A field is missing, or has another type or an impossible value; names the first.
    """
    try:
        _model(result, names, optional).model_validate(dict(data))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None

"""Types and bounds of the fields of RESULT.json. Importing this loads pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from rrl_register.config.files import MOST_POINTS

_MOST_KNOTS = 10_000
_LARGEST = 1e12
"""Largest number of pixels, seconds or map units from zero."""
_SINGULAR = 1e-12
"""Smallest singular value of a matrix, which no scale and no perspective of a real pair comes near."""


def _of_length(*lengths: int) -> AfterValidator:
    def check(values: list[Any]) -> list[Any]:
        if len(values) not in lengths:
            raise ValueError(f"{lengths[0]} values are needed, {len(values)} seen")
        return values

    return AfterValidator(check)


Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Side = Annotated[int, Field(ge=1, le=10_000_000)]
Text = Annotated[str, Field(max_length=10_000)]
Pair = Annotated[list[Number], _of_length(2)]
Pairs = Annotated[list[Pair], Field(max_length=_MOST_KNOTS)]
Row = Annotated[list[Number], _of_length(3)]
Figures = Annotated[dict[Text, Number | None], Field(max_length=100)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Grid(_Part):
    width: Side
    height: Side
    crs: str | None
    transform: Annotated[list[Number], _of_length(6)] | None


class _Candidate(_Part):
    fixed: Pair
    moving: Pair
    score: Number | None
    agreement_px: Number | None = None


class _TiePoint(_Candidate):
    inlier: bool


class _Displacement(_Part):
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


class _Result(_Part):
    status: Literal["ok", "failed"]
    reason: Text
    model: Text | None
    matrix: Annotated[list[Row], _of_length(3)] | None
    n_keypoints_fixed: Count
    n_keypoints_moving: Count
    n_candidates: Count
    n_tie_points: Count
    n_inliers: Count
    rmse_px: Number | None
    check_rmse_px: Number | None
    confidence: Annotated[Number, Field(ge=0, le=1)] | None
    evidence: Figures
    seconds: Annotated[dict[Text, Number], Field(max_length=100)]
    device: Text | None
    weights: Text | None
    fixed_kind: Literal["auto", "optical", "ir", "sar"]
    moving_kind: Literal["auto", "optical", "ir", "sar"]
    support_px: Count | None
    fixed_grid: _Grid
    moving_grid: _Grid
    tie_points: Annotated[list[_TiePoint], Field(max_length=MOST_POINTS)] | None
    version: Text
    displacement: _Displacement | None = None
    uncertainty_px: Figures | None = None
    covariance: Annotated[list[Annotated[list[Number], _of_length(8)]], _of_length(8)] | None = None
    rejected: Annotated[list[_Candidate], Field(max_length=MOST_POINTS)] | None = None
    similarity: Annotated[dict[Text, Figures], Field(max_length=10)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> _Result:
        if self.matrix is not None and np.linalg.matrix_rank(self.matrix, _SINGULAR) < 3:
            raise ValueError("the matrix is singular")
        return self


def check_result(data: Mapping[str, Any]) -> None:
    """Check the content of RESULT.json, of any readable schema.

    Raises:
        ValueError: A field is missing, or has another type or an impossible value; names the first.
    """
    try:
        _Result.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None

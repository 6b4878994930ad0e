"""RESULT.json as a source of tie points, and initial transforms from points."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrl_register.errors import InputError
from rrl_register.exchange.formats import read_points
from rrl_register.exchange.registration import Registration, failure_record
from rrl_register.exchange.table import Grids, PointTable, Reason, read_result
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.raster.grid import Grid

Build = Callable[..., Registration]


@pytest.fixture
def result(make_registration: Build) -> Registration:
    moving = np.array([(10.0, 20.0), (30.0, 40.0), (50.0, 60.0)])
    tied = TiePoints(moving + 2, moving, np.array([0.9, np.nan, 0.7]), np.array([0.1, 0.2, 9.0]))
    rejected = TiePoints(moving[:1], moving[:1], np.array([0.2]))
    shift = np.array([[1.0, 0, 2], [0, 1, 2], [0, 0, 1]])
    return make_registration(tie_points=tied, inlier=np.array([True] * 3), rejected=rejected, matrix=shift)


def write(folder: Path, content: Any) -> Path:
    path = folder / "RESULT.json"
    path.write_text(json.dumps(content))
    return path


def grids(result: Registration) -> Grids:
    return Grids(result.fixed_grid, result.moving_grid)


def test_the_points_of_a_file_are_those_of_its_registration(tmp_path: Path, result: Registration) -> None:
    table, expected = read_result(write(tmp_path, result.to_json()), grids(result)), PointTable.of(result)
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(table, name), value)
    assert table.reason == ("", "", Reason.FAILED_FORWARD_BACKWARD, Reason.REFUSED)


def test_the_suffix_may_be_written_in_capitals(tmp_path: Path, result: Registration) -> None:
    path = write(tmp_path, result.to_json()).rename(tmp_path / "RESULT.JSON")
    assert len(read_points(path, grids(result))) == 4


@pytest.mark.parametrize("schema", [1, 2])
def test_both_schemas_have_the_same_points(tmp_path: Path, result: Registration, schema: int) -> None:
    table = read_result(write(tmp_path, result.to_json() | {"schema": schema}), grids(result))
    assert table.enable.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("fixed", "moving", "message"),
    [
        (Grid(100, 200), Grid(200, 200), "its fixed image has 200 x 200 px, this one 100 x 200 px"),
        (Grid(200, 200), Grid(200, 199), "its moving image has 200 x 200 px, this one 200 x 199 px"),
    ],
)
def test_points_of_images_of_another_size_are_refused(
    tmp_path: Path, result: Registration, fixed: Grid, moving: Grid, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_points(write(tmp_path, result.to_json()), Grids(fixed, moving))


def test_a_registration_that_could_not_begin_has_no_points(tmp_path: Path, result: Registration) -> None:
    path = write(tmp_path, failure_record("too dark; try other bands"))
    with pytest.raises(InputError, match=r"Cannot use the points of .*too dark; try other bands") as caught:
        read_points(path, grids(result))
    assert "\n" not in str(caught.value)


def test_a_failed_registration_keeps_its_points_without_residuals(tmp_path: Path, make_registration: Build) -> None:
    failed = make_registration(status="failed", reason="too weak", matrix=None)
    table = read_result(write(tmp_path, failed.to_json()), grids(failed))
    assert len(table) == 5
    assert np.isnan(table.residual_px).all()

"""Results as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from rrl_register.config import __version__
from rrl_register.errors import InputError
from rrl_register.exchange.registration import FIELDS, SCHEMA, Registration, failure_record, read_registration
from rrl_register.exchange.table import PointTable
from rrl_register.geometry.displacement import Displacement
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.raster.grid import Grid

Make = Callable[..., Registration]


def through_text(data: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(data, allow_nan=False))
    return read


def test_a_result_comes_back_from_json(make_registration: Make) -> None:
    grid = Grid(200, 100, CRS.from_epsg(32631), Affine(10, 0, 500_000, 0, -10, 5_000_000))
    matrix = np.array([[1.01, 0.02, -7.25], [-0.03, 0.99, 1 / 3], [1e-7, -2e-7, 1]])
    result = make_registration(matrix=matrix, fixed_grid=grid)
    data = through_text(result.to_json())
    back = Registration.from_json(data)
    assert data["schema"] == SCHEMA
    assert np.array_equal(back.matrix, matrix)
    assert back.fixed_grid == grid
    assert back.moving_grid == result.moving_grid
    assert np.array_equal(back.inlier, result.inlier)
    for name in ("fixed", "moving", "score"):
        assert np.array_equal(getattr(back.tie_points, name), getattr(result.tie_points, name))
    assert through_text(back.to_json()) == data


@pytest.fixture
def bent() -> Displacement:
    hull = np.array([(0.0, 0.0), (190.0, 5.0), (180.0, 190.0)])
    coefficients, knots = np.array([(1.5, 0), (0.1, 1), (0, -1 / 3)]), np.array([(0.2, -0.5), (-1.0, 0.1)])
    return Displacement(1, coefficients, knots, np.array([(0.3, 0.2), (-0.3, 0.7)]), np.array([90.0, 95]), 95.0, hull)


def test_displacement_and_uncertainty_come_back_from_json(make_registration: Make, bent: Displacement) -> None:
    covariance = np.random.default_rng(0).normal(size=(8, 8))
    result = make_registration(
        displacement=bent, covariance=covariance, uncertainty_px={"mean": 0.2, "max": 0.7}, model="thin-plate"
    )
    data = through_text(result.to_json())
    back = Registration.from_json(data)
    assert back.transform is not None and result.transform is not None
    places = np.array([(10.0, 20.0), (150.0, 170.0), (300.0, -20.0)])
    np.testing.assert_array_equal(back.transform.backward(places), result.transform.backward(places))
    np.testing.assert_array_equal(back.covariance, covariance)
    assert back.uncertainty_px == {"mean": 0.2, "max": 0.7}
    assert through_text(back.to_json()) == data


def test_a_result_from_before_displacements_is_a_matrix(make_registration: Make) -> None:
    data = through_text(make_registration().to_json())
    for name in ("displacement", "uncertainty_px", "covariance"):
        assert data.pop(name) is None
    back = Registration.from_json(data)
    assert (back.displacement, back.uncertainty_px, back.covariance) == (None, None, None)
    assert back.transform is not None
    np.testing.assert_array_equal(back.transform.forward([(3, 4)]), [(3, 4)])


def test_similarity_comes_back_from_json_and_may_be_missing(make_registration: Make) -> None:
    figures = {"before": {"nmi": 1.02, "gradient_ssim": 0.11}, "after": {"nmi": 1.08, "gradient_ssim": 0.35}}
    data = through_text(make_registration(similarity=figures).to_json())
    assert data["similarity"] == figures
    assert Registration.from_json(data).similarity == figures
    del data["similarity"]
    assert Registration.from_json(data).similarity is None


def test_tie_points_keep_a_thousandth_of_a_pixel(make_registration: Make) -> None:
    points = TiePoints(np.array([(1.23456, 2)]), np.array([(3, 4.00049)]), np.array([0.98765]))
    data = make_registration(tie_points=points, inlier=np.array([True])).to_json()
    assert data["tie_points"] == [{"fixed": [1.235, 2], "moving": [3, 4], "score": 0.988, "inlier": True}]


def test_a_failure_comes_back_with_its_reason(make_registration: Make) -> None:
    nothing = TiePoints(np.empty((0, 2)), np.empty((0, 2)), np.empty(0))
    failed = {
        "status": "failed",
        "reason": "too dark",
        "model": None,
        "matrix": None,
        "rmse_px": None,
        "check_rmse_px": None,
    }
    result = make_registration(**failed, tie_points=nothing, inlier=np.empty(0, bool))
    back = Registration.from_json(through_text(result.to_json()))
    assert (back.status, back.reason, back.model, back.matrix, back.rmse_px) == ("failed", "too dark", None, None, None)
    assert back.transform is None
    assert back.tie_points.fixed.shape == (0, 2)
    assert len(back.tie_points) == 0


def schema_1(make_registration: Make) -> dict[str, Any]:
    """RESULT.json as version 0.1.0 wrote it."""
    points = [
        {"fixed": [12.0, 20.0], "moving": [10.0, 20.0], "score": 0.9, "agreement_px": 0.2, "inlier": True},
        {"fixed": [72.0, 80.0], "moving": [70.0, 80.0], "score": None, "agreement_px": None, "inlier": True},
    ]
    return through_text(make_registration().to_json()) | {"schema": 1, "tie_points": points}


def test_a_result_of_schema_1_is_read(make_registration: Make, tmp_path: Path) -> None:
    old = schema_1(make_registration)
    (tmp_path / "result.json").write_text(json.dumps(old))
    back = read_registration(tmp_path / "result.json")
    assert back.tie_points.agreement_px is not None
    assert back.tie_points.agreement_px[0] == 0.2
    assert np.isnan(back.tie_points.score[1])
    assert PointTable.of(back).reason == ("", "failed forward-backward check")
    assert through_text(back.to_json()) == old | {"schema": SCHEMA}


def test_the_fields_of_the_file_and_their_order_stay(make_registration: Make) -> None:
    assert list(make_registration().to_json()) == ["schema", *FIELDS]
    assert FIELDS == (
        "status", "reason", "model", "matrix", "n_keypoints_fixed", "n_keypoints_moving", "n_candidates",
        "n_tie_points", "n_inliers", "rmse_px", "check_rmse_px", "confidence", "evidence", "seconds", "device",
        "weights", "fixed_kind", "moving_kind", "support_px", "fixed_grid", "moving_grid", "tie_points", "version",
        "displacement", "uncertainty_px", "covariance", "rejected", "similarity",
    )  # fmt: skip


def test_a_registration_that_could_not_begin_has_all_fields_and_no_figures() -> None:
    record = through_text(failure_record("too dark; try other bands"))
    assert list(record) == ["schema", *FIELDS]
    known = {name: value for name, value in record.items() if value is not None}
    expected = {"schema": SCHEMA, "status": "failed", "reason": "too dark; try other bands", "version": __version__}
    assert known == expected
    with pytest.raises(InputError, match=r"could not begin .too dark; try other bands."):
        Registration.from_json(record)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no RESULT.json"),
        ("[1, 2]", "is no RESULT.json"),
        ("null", "is no RESULT.json"),
        ('{"schema": 2}', "is no RESULT.json"),
        ('{"schema": 3}', "Cannot use .*: The result has schema 3"),
        ("\xff", "is no RESULT.json"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message) as caught:
        read_registration(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(InputError, match=f"Cannot read {path}"):
            read_registration(path)


def test_a_failed_registration_has_no_transform_to_apply(make_registration: Make) -> None:
    failed = make_registration(status="failed", reason="too dark; try other bands", matrix=None)
    with pytest.raises(InputError, match=r"has no transform .too dark; try other bands."):
        _ = failed.grid_transform


@pytest.mark.parametrize("schema", [None, 0, SCHEMA + 1, str(SCHEMA)])
def test_another_schema_is_refused(make_registration: Make, schema: object) -> None:
    data = make_registration().to_json() | {"schema": schema}
    with pytest.raises(InputError, match="this version reads schema 1 and 2") as caught:
        Registration.from_json(data)
    assert repr(schema) in str(caught.value)


def test_a_result_without_images_has_nothing_to_apply(make_registration: Make) -> None:
    data = make_registration().to_json() | {"fixed_grid": None, "reason": "no such file"}
    with pytest.raises(InputError, match="no such file"):
        Registration.from_json(data)


@pytest.mark.parametrize("missing", ["matrix", "tie_points", "status", "moving_grid"])
def test_a_missing_field_is_an_error(make_registration: Make, missing: str) -> None:
    data = make_registration().to_json()
    del data[missing]
    with pytest.raises(ValueError, match=missing):
        Registration.from_json(data)


def test_forward_backward_distances_and_rejected_candidates_come_back(make_registration: Make) -> None:
    places = np.array([(10.0, 20.0), (30.0, 40.0)])
    tied = TiePoints(places, places + 1, np.array([0.9, 0.8]), np.array([0.25, np.nan]))
    rejected = TiePoints(places[:1] + 50, places[:1] + 60, np.array([0.125]))
    result = make_registration(tie_points=tied, inlier=np.array([True, False]), rejected=rejected)
    data = through_text(result.to_json())
    assert [point["agreement_px"] for point in data["tie_points"]] == [0.25, None]
    assert data["rejected"] == [{"fixed": [60, 70], "moving": [70, 80], "score": 0.125}]
    back = Registration.from_json(data)
    np.testing.assert_array_equal(back.tie_points.agreement_px, tied.agreement_px)
    np.testing.assert_array_equal(back.rejected.moving, rejected.moving)
    assert back.rejected.agreement_px is None
    del data["rejected"]
    assert len(Registration.from_json(data).rejected) == 0

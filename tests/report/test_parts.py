"""The parts of a report: tie-point marks, charts, texts, commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from rrl_register.config import Kind, MatchConfig, ReadConfig, RegisterConfig, WarpConfig
from rrl_register.config.options import CONFIG_OPTIONS, build_config
from rrl_register.errors import InputError
from rrl_register.estimation.acceptance import ASPECTS, typical_figures
from rrl_register.exchange.registration import Registration, failure_record
from rrl_register.geometry.displacement import Displacement
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.raster.grid import Grid
from rrl_register.report import text as texts
from rrl_register.report.charts import (
    FAILED_FORWARD_BACKWARD,
    LEVELS,
    OUTLIER,
    REJECTED,
    confidence_histogram,
    inlier_map,
    residual_histogram,
    round_down,
    round_up,
    score_histogram,
    tie_point_marks,
)
from rrl_register.report.inputs import ReportInput, apply_command, read_report_input, register_command, settings

Build = Callable[..., Registration]
Write = Callable[..., Path]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(20, 250, shape, np.uint8)


@pytest.fixture
def case(make_raster: Write, make_registration: Build) -> ReportInput:
    fixed, moving = make_raster(noise(200, 200), "fixed.tif"), make_raster(noise(200, 200), "moving.tif")
    return ReportInput(fixed, moving, make_registration())


def test_a_residual_vector_points_to_where_the_transform_puts_the_moving_point(make_registration: Build) -> None:
    fixed, moving = np.array([(10.0, 10.0), (50.0, 50.0), (90.0, 20.0)]), np.array([(8.0, 10.0), (50, 49), (30, 80)])
    points = TiePoints(fixed, moving, np.array([0.9, 0.8, 0.6]))
    marks = tie_point_marks(make_registration(tie_points=points, inlier=np.array([True, True, False])))
    np.testing.assert_allclose(marks.offset, moving - fixed)
    np.testing.assert_array_equal(marks.state, [4, 2, -1])
    assert marks.legend()[-1] == "1.6–2"
    assert marks.rows(2.0)[0] == [5.25, 5.25, -2, 0, 4, 0.9]


def test_a_displacement_counts_as_the_fit_counts_it(make_registration: Build) -> None:
    nothing, hull = np.empty((0, 2)), np.array([(0.0, 0.0), (199.0, 0.0), (199.0, 199.0), (0.0, 199.0)])
    steady = Displacement(0, np.array([(2.0, -1.0)]), nothing, nothing, np.zeros(2), 100.0, hull)
    found = make_registration(displacement=steady)
    assert found.transform is not None
    marks = tie_point_marks(found)
    np.testing.assert_allclose(marks.offset, [(2, -1)] * 5)
    np.testing.assert_allclose(
        marks.residual, found.transform.residuals(found.tie_points.moving, found.tie_points.fixed)
    )


def test_unscored_points_are_shown_without_a_score(make_registration: Build) -> None:
    points = make_registration().tie_points
    score = np.r_[np.nan, points.score[1:]]
    marks = tie_point_marks(make_registration(tie_points=TiePoints(points.fixed, points.moving, score)))
    assert marks.rows(1.0)[0][5] is None
    assert marks.rows(1.0)[1][5] == round(points.score[1], 3)
    chart = score_histogram(marks)
    assert sum(bar.inliers + bar.others for bar in chart.bins) == len(points) - 1


def test_marks_of_a_failure_have_no_residual(make_registration: Build) -> None:
    marks = tie_point_marks(make_registration(matrix=None, status="failed", reason="dark"))
    assert np.isnan(marks.residual).all()
    assert set(marks.state) == {0, -1}
    assert [row[2:4] for row in marks.rows(1.0)] == [[None, None]] * 5


def test_each_state_of_a_point_is_told_apart(make_registration: Build) -> None:
    places = np.arange(8.0).reshape(4, 2)
    tied = TiePoints(places, places, np.array([0.9, np.nan, 0.8, 0.7]), np.array([0.2, 0.5, np.nan, 3.0]))
    refused = TiePoints(places + 50, places + 50, np.full(4, 0.1))
    inlier = np.array([True, True, True, False])
    marks = tie_point_marks(make_registration(tie_points=tied, inlier=inlier, rejected=refused))
    assert marks.state.tolist() == [0, 0, FAILED_FORWARD_BACKWARD, OUTLIER]
    assert (marks.n_inconsistent, marks.n_unscored) == (1, 1)
    assert [row[4] for row in marks.rows(1.0)] == [0, 0, FAILED_FORWARD_BACKWARD, OUTLIER, *[REJECTED] * 4]
    assert marks.rows(2.0)[4] == [25.25, 25.75, None, None, REJECTED, 0.1]


def test_a_page_draws_a_bounded_number_of_rejected_candidates(make_registration: Build) -> None:
    places = np.random.default_rng(0).uniform(0, 200, (4321, 2))
    marks = tie_point_marks(make_registration(rejected=TiePoints(places, places, np.zeros(4321))))
    assert 800 < sum(row[4] == REJECTED for row in marks.rows(1.0)) <= 1000


@given(st.floats(1e-3, 1e6))
def test_round_numbers_bound_a_value(value: float) -> None:
    assert round_down(value) <= value * (1 + 1e-6)
    assert round_up(value) >= value * (1 - 1e-6)
    assert round_up(value) <= max(2 * value, 0.011)
    assert round_down(value) >= value / 2.6


# Charts


def test_residuals_beyond_the_axis_are_counted(make_registration: Build) -> None:
    fixed = np.zeros((6, 2))
    moving = np.array([(0.1, 0), (0.2, 0), (0.9, 0), (1.0, 0), (30, 0), (0.5, 0)])
    inlier = np.array([True, True, True, True, False, False])
    found = make_registration(
        tie_points=TiePoints(fixed, moving, np.ones(6)), inlier=inlier, rmse_px=0.7, check_rmse_px=99.0
    )
    chart = residual_histogram(tie_point_marks(found), found)
    assert (sum(bar.inliers for bar in chart.bins), sum(bar.others for bar in chart.bins)) == (4, 1)
    assert chart.beyond == 1
    assert chart.lines == ((0.7, "RMSE"),)
    assert {bar.level for bar in chart.bins} == set(range(LEVELS))
    assert (chart.low, chart.ticks[-1]) == (0, chart.high)


def test_every_score_is_in_a_bar(make_registration: Build) -> None:
    scores = np.array([0.5, 0.55, 0.999, 1.0, 0.7])
    points = make_registration().tie_points
    for low, first in ((0.5, 0.5), (0.2, 0.0)):
        scored = TiePoints(points.fixed, points.moving, np.r_[scores[:4], low])
        chart = score_histogram(tie_point_marks(make_registration(tie_points=scored)))
        assert sum(bar.inliers + bar.others for bar in chart.bins) == 5
        assert chart.low == first
    assert confidence_histogram([0.0, 0.49, 0.5, 1.0]).top == 1


def test_the_spread_counts_inliers_where_the_images_overlap(make_registration: Build) -> None:
    found = make_registration()
    overlap = np.zeros((200, 200), bool)
    overlap[:, :100] = True
    spread = inlier_map(tie_point_marks(found), overlap, 1.0, found)
    assert sum(block.inliers or 0 for block in spread.blocks) == 2  # the third lies beyond the overlap
    assert max(block.x + block.width for block in spread.blocks) == 100
    assert (spread.most, spread.empty) == (1, 23)
    assert spread.outline[0] == (0.5, 0.5)


def test_blocks_with_little_overlap_do_not_count(make_registration: Build) -> None:
    found = make_registration()
    overlap = np.tri(200, 200, dtype=bool)
    blocks = inlier_map(tie_point_marks(found), overlap, 1.0, found).blocks
    assert blocks[4].inliers is None and blocks[20].inliers is not None
    nowhere = inlier_map(tie_point_marks(found), np.zeros((200, 200), bool), 1.0, found)
    assert {block.inliers for block in nowhere.blocks} == {None}


# Words


@pytest.mark.parametrize(
    ("reason", "seen", "advice"),
    [
        (
            "5 points agree, 12 are needed: check that both show one place; try --keypoints 1500, or other bands",
            "5 points agree, 12 are needed.",
            ("Check that both show one place.", "Try --keypoints 1500, or other bands."),
        ),
        ("a.tif is no image; needed a raster; try b", "A.tif is no image.", ("Needed a raster.", "Try b.")),
        ("weak evidence (confidence 0.30, 0.5 is needed)", "Weak evidence (confidence 0.30, 0.5 is needed).", ()),
        ("", "", ()),
    ],
)
def test_a_reason_is_split_into_observation_and_advice(reason: str, seen: str, advice: tuple[str, ...]) -> None:
    assert texts.split_reason(reason) == (seen, advice)


def test_the_verdict_of_a_success_has_its_figures_and_no_false_certainty(
    case: ReportInput, make_registration: Build
) -> None:
    said = texts.verdict(case)
    assert said.tone == "good"
    assert "3 of 5 tie points are inliers of a homography" in said.sentence
    assert "cross-validation RMSE 1.10 px" in said.sentence
    certain = texts.verdict(ReportInput(case.fixed, case.moving, make_registration(confidence=0.9999)))
    assert "over 99%" in certain.sentence
    doubtful = texts.verdict(
        ReportInput(case.fixed, case.moving, make_registration(confidence=0.6, check_rmse_px=None))
    )
    assert doubtful.tone == "doubtful" and "60%" in doubtful.sentence and doubtful.advice


def test_points_that_a_person_gave_have_no_probability(case: ReportInput, make_registration: Build) -> None:
    fitted = ReportInput(case.fixed, case.moving, make_registration(confidence=None))
    said = texts.verdict(fitted)
    assert said.tone == "doubtful"
    assert "robability" not in said.sentence
    assert texts.figures(fitted)[0].value == "unknown"


def test_the_verdict_of_a_failure_says_what_to_do(case: ReportInput, make_registration: Build) -> None:
    refused = make_registration(status="failed", reason="too dark: try other bands", matrix=None)
    said = texts.verdict(ReportInput(case.fixed, case.moving, refused))
    assert (said.tone, said.title, said.sentence) == ("failed", "Not registered", "Too dark.")
    assert said.advice[0] == "Try other bands."
    assert texts.figures(ReportInput(case.fixed, case.moving, refused)) == []
    begun = texts.verdict(ReportInput(case.fixed, case.moving, None, failure="no overlap; try others"))
    assert begun.title == "Registration did not start"


def test_lengths_are_told_on_the_ground_where_it_is_known(case: ReportInput, make_registration: Build) -> None:
    grid = Grid(200, 200, CRS.from_epsg(32631), Affine(10, 0, 500_000, 0, -10, 5_000_000))
    found = make_registration(fixed_grid=grid, moving_grid=grid)
    assert "1.10 px (11.0 m)" in texts.verdict(ReportInput(case.fixed, case.moving, found)).sentence
    assert "11.0 m on the ground" in texts.figures(ReportInput(case.fixed, case.moving, found))[1].note


def test_every_piece_of_evidence_is_shown_beside_what_is_typical(make_registration: Build) -> None:
    typical = texts.evidence(make_registration(evidence=dict(typical_figures()), check_rmse_px=None), 3.0)
    assert len(typical) == len(ASPECTS)
    assert all(piece.strength == pytest.approx(piece.typical) and not piece.weak for piece in typical)
    unknown = texts.evidence(make_registration(evidence={"n_inliers": None}), 3.0)
    assert all(piece.weak for piece in unknown) and "unknown" in unknown[0].observed
    assert texts.evidence(make_registration(evidence={}), 3.0) == []


def test_lengths_of_reduced_scenes_are_judged_at_the_resolution_that_was_matched(make_registration: Build) -> None:
    """Half a px of a scene reduced five times is 2.5 px of the file; check error and its ratio tell of the factor."""
    figures = dict(typical_figures()) | {"agreement_px": 0.5, "check_ratio": 0.2}
    reduced = figures | {"agreement_px": 2.5}
    at_full = texts.evidence(make_registration(evidence=figures, check_rmse_px=0.6), 3.0)
    at_fifth = texts.evidence(make_registration(evidence=reduced, check_rmse_px=3.0), 3.0)
    assert [piece.strength for piece in at_full] == pytest.approx([piece.strength for piece in at_fifth])


def test_movement_is_told_on_top_of_the_prior(make_registration: Build) -> None:
    half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])  # 400 px on 200 px, as their sizes say
    turn = cv2.getRotationMatrix2D((99.5, 99.5), -2.0, 1.0)
    moved = np.vstack([turn, (0, 0, 1)]) @ half + np.array([[0, 0, 3], [0, 0, -4], [0, 0, 0]])
    shift, rotation, scale, perspective = texts.movement(make_registration(matrix=moved, moving_grid=Grid(400, 400)))
    assert shift.value == "+3.00, -4.00 px"
    assert (rotation.value, scale.value, perspective.value) == ("+2.000°", "1.00000", "0.0000")
    assert texts.movement(make_registration(matrix=None)) == []


# Commands


def test_the_command_gives_back_the_settings_it_was_made_with(case: ReportInput) -> None:
    config = RegisterConfig(
        ReadConfig(moving_bands=(3, 2), moving_kind=Kind.SAR),
        MatchConfig(support=96, min_score=0.25, weights=Path("my weights.safetensors")),
        warp=WarpConfig(nodata=-9999.5, creation_options=(("COMPRESS", "ZSTD"), ("A", "B"))),
    )
    words = shlex.split(register_command(ReportInput(case.fixed, case.moving, case.registration, config)))
    assert words[:3] == ["rrl-register", str(case.fixed), str(case.moving)]
    flags = {option.flag: option for option in CONFIG_OPTIONS}
    given: dict[str, object] = {}
    for flag, word in zip(words[7::2], words[8::2], strict=True):
        option = flags[flag]
        value = option.parse(word)
        given[option.parameter] = (*given.get(option.parameter, ()), *value) if option.multiple else value  # type: ignore[misc]
    assert build_config(given) == config


def test_defaults_are_not_repeated_and_strange_names_are_quoted(case: ReportInput) -> None:
    odd = ReportInput(Path("a b.tif"), Path("$(x).tif"), case.registration, result=Path("r;s.json"))
    assert register_command(odd) == "rrl-register 'a b.tif' '$(x).tif' -o aligned.tif --json 'r;s.json'"
    assert apply_command(odd) == "rrl-register apply 'r;s.json' OTHER_BAND.tif -o OTHER_ALIGNED.tif"


def test_settings_list_every_option_the_given_ones_first() -> None:
    listed = settings(RegisterConfig(match=MatchConfig(support=96)))
    assert {setting.flag for setting in listed} == {option.flag for option in CONFIG_OPTIONS}
    assert [(setting.flag, setting.value) for setting in listed if setting.given] == [("--support", "96")]
    assert listed[0].given and all(setting.value for setting in listed)


# The case


def test_a_case_is_read_from_a_result_file(case: ReportInput, tmp_path: Path) -> None:
    from rrl_register.raster.writer import write_json

    assert case.registration is not None
    good, begun, wrong = (tmp_path / f"{name}.json" for name in ("good", "begun", "wrong"))
    write_json(good, case.registration.to_json())
    write_json(begun, failure_record("no overlap; try others"))
    wrong.write_text("[]")
    assert read_report_input(good, case.fixed, case.moving).ok
    failed = read_report_input(begun, case.fixed, case.moving)
    assert (failed.ok, failed.registration, failed.reason) == (False, None, "no overlap; try others")
    assert failed.kinds == (Kind.AUTO, Kind.AUTO)
    with pytest.raises(InputError, match=r"no RESULT\.json"):
        read_report_input(wrong, case.fixed, case.moving)

"""Properties of a report's texts, charts and marks that hold for every registration."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from rrl_register.batch.journal import FAILED, OK, Outcome
from rrl_register.batch.manifest import BatchItem
from rrl_register.config import Kind, ReadConfig, RegisterConfig
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.tie_points import TiePoints, no_tie_points
from rrl_register.raster.grid import Grid
from rrl_register.report import Case, read_case
from rrl_register.report import text as texts
from rrl_register.report.batch_page import Row
from rrl_register.report.charts import (
    LEVELS,
    OUTLIER,
    REJECTED,
    TiePointMarks,
    confidence_histogram,
    inlier_map,
    residual_histogram,
    score_histogram,
    tie_point_marks,
)
from rrl_register.report.inputs import ReportInput, read_report_input
from rrl_register.report.pictures import Picture, read_pictures

Build = Callable[..., Registration]
FILES = Path("fixed.tif"), Path("moving.tif")
GROUND = Grid(200, 200, CRS.from_epsg(32631), Affine(10, 0, 500_000, 0, -10, 5_000_000))


def marks(n: int, seed: int, spread: float = 1.0, n_rejected: int = 0) -> TiePointMarks:
    """Marks of random points, a third of them outliers, a third unscored."""
    rng = np.random.default_rng(seed)
    offset = rng.normal(0, spread, (n, 2))
    score = np.where(np.arange(n) % 3 == 1, np.nan, rng.random(n))
    rejected = TiePoints(rng.random((n_rejected, 2)), rng.random((n_rejected, 2)), rng.random(n_rejected))
    inlier, consistent = np.arange(n) % 3 != 0, rng.random(n) < 0.8
    places = rng.uniform(0, 199, (n, 2))
    return TiePointMarks(places, places, offset, score, inlier, consistent, 0.25, 10.0, rejected)


# Texts


@given(st.lists(st.sampled_from(["too dark", "3 of 9 agree", "a.tif", "x (y)"]), min_size=1, max_size=3))
def test_a_reason_without_advice_is_one_sentence(parts: list[str]) -> None:
    observed, advice = texts.split_reason(", ".join(parts))
    assert advice == ()
    assert observed.lower() == ", ".join(parts).lower() + "."


@given(
    observed=st.sampled_from(["too dark", "3 inliers, 6 needed", "no overlap (0 px)"]),
    advice=st.lists(st.sampled_from(["try A", "check B", "choose C", "pass --overwrite", "use D"]), max_size=4),
    mark=st.sampled_from(["; ", ": ", ", "]),
)
def test_every_piece_of_advice_is_a_sentence_of_its_own(observed: str, advice: list[str], mark: str) -> None:
    seen, steps = texts.split_reason(mark.join([observed, *advice]))
    assert seen.lower() == observed.lower() + "."
    assert [step.lower() for step in steps] == [step.lower() + "." for step in advice]


@given(st.floats(0, 1), st.floats(0, 1))
def test_percentages_rise_and_never_claim_certainty(one: float, other: float) -> None:
    low, high = (int(re.findall(r"\d+", texts.percent(share))[0]) for share in sorted((one, other)))
    assert 0 <= low <= high <= 99


@pytest.mark.parametrize("model", texts.MODELS)
def test_every_model_has_a_name_in_the_verdict(make_registration: Build, model: str) -> None:
    sentence = texts.verdict(ReportInput(*FILES, make_registration(model=model))).sentence
    assert f"inliers of {texts.MODELS[model]}; cross-validation RMSE 1.10 px." in sentence


def test_every_kind_has_a_name() -> None:
    assert set(texts.KINDS) == {kind.value for kind in Kind}


def test_unknown_figures_are_named_as_such(make_registration: Build) -> None:
    unknown = make_registration(check_rmse_px=None, rmse_px=None, uncertainty_px=None, confidence=None)
    values = {figure.name: figure.value for figure in texts.figures(ReportInput(*FILES, unknown))}
    assert [values[name] for name in ("Confidence", "Cross-validation RMSE", "RMSE", "Standard error")] == [
        "unknown"
    ] * 4
    known = make_registration(uncertainty_px={"mean": 0.123, "max": 0.5})
    error = next(f for f in texts.figures(ReportInput(*FILES, known)) if f.name == "Standard error")
    assert (error.value, error.note) == ("0.12 px", "mean over the overlap; largest 0.50 px")


def test_the_same_numbers_stand_in_verdict_and_figures(make_registration: Build) -> None:
    inputs = ReportInput(*FILES, make_registration(n_inliers=41, n_tie_points=57, check_rmse_px=0.894))
    figures = {figure.name: figure for figure in texts.figures(inputs)}
    sentence = texts.verdict(inputs).sentence
    assert f"{figures['Inliers'].value} {figures['Inliers'].note}" == "41 of 57 tie points"
    assert sentence.startswith("41 of 57 tie points")
    assert figures["Cross-validation RMSE"].value in sentence


def test_similarity_rows_keep_their_order_and_may_lack_a_figure(make_registration: Build) -> None:
    assert texts.similarity_rows(make_registration()) == []
    measured = make_registration(similarity={"before": {"nmi": 1.01}, "after": {"gradient_ssim": 0.3, "nmi": 1.2}})
    rows = texts.similarity_rows(measured)
    assert [(row.before, row.after) for row in rows] == [(1.01, 1.2), (None, 0.3)]


@pytest.mark.parametrize("georeferenced", [True, False])
def test_a_shift_is_reported_from_the_prior_position(make_registration: Build, georeferenced: bool) -> None:
    grid = GROUND if georeferenced else Grid(200, 200)
    matrix = np.array([[1.0, 0, 3], [0, 1, -4], [0, 0, 1]])
    shift = texts.movement(make_registration(matrix=matrix, fixed_grid=grid, moving_grid=grid))[0]
    assert shift.value == "+3.00, -4.00 px"
    assert ("georeferences" in shift.note) == georeferenced == ("50.0 m in total" in shift.note)


# Charts


@given(n=st.integers(1, 60), seed=st.integers(0, 1000), spread=st.floats(0.01, 5))
def test_histograms_count_every_point_once(n: int, seed: int, spread: float) -> None:
    drawn = marks(n, seed, spread)
    found = SIMPLE[0]
    residuals, scores = residual_histogram(drawn, found), score_histogram(drawn)
    assert sum(bar.inliers + bar.others for bar in residuals.bins) + residuals.beyond == n
    assert sum(bar.inliers for bar in residuals.bins) <= drawn.inlier.sum()
    assert sum(bar.inliers + bar.others for bar in scores.bins) == n - drawn.n_unscored
    assert all(one.high == pytest.approx(next_.low) for one, next_ in zip(scores.bins, scores.bins[1:], strict=False))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_accepted_scenes_are_those_from_half_on(confidences: list[float]) -> None:
    bins = confidence_histogram(confidences).bins
    assert sum(bar.inliers for bar in bins) == sum(value >= 0.5 for value in confidences)
    assert sum(bar.others for bar in bins) == sum(value < 0.5 for value in confidences)


@given(n=st.integers(0, 60), seed=st.integers(0, 1000))
def test_the_map_counts_each_inlier_of_a_whole_overlap(n: int, seed: int) -> None:
    drawn = marks(n, seed)
    mapped = inlier_map(drawn, np.ones((100, 100), bool), 2.0, SIMPLE[0])
    assert sum(block.inliers or 0 for block in mapped.blocks) == drawn.inlier.sum()
    assert mapped.most >= 1
    assert mapped.empty == sum(block.inliers == 0 for block in mapped.blocks)


# Marks


@given(n=st.integers(0, 40), seed=st.integers(0, 1000), n_rejected=st.integers(0, 2500))
def test_rows_hold_every_tie_point_and_some_rejected_ones(n: int, seed: int, n_rejected: int) -> None:
    drawn = marks(n, seed, n_rejected=n_rejected)
    rows = drawn.rows(2.0)
    tied = [row for row in rows if row[4] != REJECTED]
    assert [row[4] for row in tied] == drawn.state.tolist()
    assert min(n_rejected, 500) <= len(rows) - n <= 1000
    assert all(len(row) == 6 and not any(isinstance(value, float) and np.isnan(value) for value in row) for row in rows)


@given(n=st.integers(1, 40), seed=st.integers(0, 1000))
def test_only_fitted_inliers_have_a_colour(n: int, seed: int) -> None:
    drawn = marks(n, seed)
    assert ((drawn.state >= 0) == (drawn.inlier & drawn.consistent)).all()
    assert ((drawn.state == OUTLIER) == ~drawn.inlier).all()
    assert drawn.state.max() < LEVELS
    assert drawn.n_inconsistent == (drawn.inlier & ~drawn.consistent).sum()


def test_a_registration_without_tie_points_has_marks_too(make_registration: Build) -> None:
    found = make_registration(tie_points=no_tie_points(), inlier=np.empty(0, bool), n_tie_points=0, n_inliers=0)
    assert tie_point_marks(found).rows(1.0) == []
    assert len(tie_point_marks(found).legend()) == LEVELS


# Inputs, rows, pictures


def test_the_public_names_are_those_of_the_inputs() -> None:
    assert (Case, read_case) == (ReportInput, read_report_input)


def test_kinds_are_those_of_the_result_or_else_of_the_settings(make_registration: Build) -> None:
    config = RegisterConfig(ReadConfig(fixed_kind=Kind.OPTICAL, moving_kind=Kind.SAR))
    assert ReportInput(*FILES, make_registration(), config).kinds == (Kind.OPTICAL, Kind.IR)
    assert ReportInput(*FILES, None, config).kinds == (Kind.OPTICAL, Kind.SAR)


def test_a_failure_has_its_reason_and_no_ground_size_without_a_result(make_registration: Build) -> None:
    started = ReportInput(*FILES, make_registration(status="failed", matrix=None, reason="dark", fixed_grid=GROUND))
    assert (started.ok, started.reason, started.fixed_metres) == (False, "dark", pytest.approx(10, rel=0.01))
    not_started = ReportInput(*FILES, None, failure="no file")
    assert (not_started.ok, not_started.reason, not_started.fixed_metres) == (False, "no file", None)


def test_the_worst_scenes_sort_first() -> None:
    def row(name: str, status: str, code: int = 0, **figures: float) -> Row:
        return Row(name, "", None, None, Outcome(name, status, "", code, figures=figures), "")

    ordered = [
        row("bug", FAILED, 1),
        row("image", FAILED, 3),
        row("rejected", FAILED, 4, confidence=0.2),
        row("doubtful", OK, confidence=0.6, check_rmse_px=0.4),
        row("no check", OK, confidence=0.9),
        row("coarse", OK, confidence=0.9, check_rmse_px=2.0),
        row("good", OK, confidence=0.9, check_rmse_px=0.3),
    ]
    shuffled = [ordered[i] for i in np.random.default_rng(0).permutation(len(ordered))]
    assert [one.id for one in sorted(shuffled, key=lambda one: one.sort_key)] == [one.id for one in ordered]


def test_a_batch_item_is_reported_under_its_own_settings() -> None:
    item = BatchItem("a", *FILES, RegisterConfig(ReadConfig(moving_bands=(2,))))
    assert ReportInput(item.fixed, item.moving, None, item.config).config.read.moving_bands == (2,)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_without_data_are_transparent_whatever_their_value(channels: int) -> None:
    levels = np.full((channels, 4, 5), 2.0, np.float32)
    valid = np.arange(20).reshape(4, 5) % 2 == 0
    pixels = Picture(levels, valid, 1.0).pixels
    assert (pixels[..., 3] == np.where(valid, 255, 0)).all()
    assert (pixels[..., :3] == 255).all()
    assert Picture(levels, valid, 1.0).size == (5, 4)


def test_a_large_complex_image_is_never_held_whole(
    make_raster: Callable[..., Path], make_registration: Build, rng: np.random.Generator
) -> None:
    side = 4096
    block = rng.gamma(1, 50, (64, 64)) * np.exp(1j * rng.uniform(0, 6.28, (64, 64)))
    radar = make_raster(np.tile(block.astype(np.complex64), (side // 64, side // 64)), "radar.tif", tiled=True)
    failed = make_registration(status="failed", matrix=None, reason="dark", fixed_kind="sar", moving_kind="sar")
    tracemalloc.start()
    pictures = read_pictures(ReportInput(radar, Path("gone.tif"), failed))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pictures.fixed is not None
    assert pictures.moving is None
    assert peak < radar.stat().st_size == pytest.approx(8 * side**2, rel=0.01)


@pytest.fixture(autouse=True)
def simple(make_registration: Build) -> None:
    """Keep a registration for the properties, which take no fixtures."""
    SIMPLE[:] = [replace(make_registration(), rmse_px=0.3)]


SIMPLE: list[Registration] = []

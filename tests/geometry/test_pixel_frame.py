"""Pixels of working images, which are reduced or cut out, and pixels of their files."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.geometry.displacement import Displacement, Transform
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.geometry.transforms import project
from rrl_register.geometry.window import Frame, Frames, Rectangle

MATRIX = np.array([[1.1, 0.2, -30], [-0.1, 0.9, 12], [1e-5, -2e-5, 1]])
PLACES = np.array([(10.0, 20.0), (300.0, 15.0), (120.0, 400.0)])
BEND = Displacement(
    1,
    np.array([(2.0, 1), (3, -1), (0, 2)]),
    np.empty((0, 2)),
    np.empty((0, 2)),
    np.array([200.0, 180.0]),
    300.0,
    np.array([(0.0, 0.0), (400.0, 10.0), (380.0, 420.0), (5.0, 400.0)]),
)

frames = st.builds(
    Frame, st.floats(1, 9), st.integers(0, 20_000).map(float), st.floats(0, 20_000, allow_subnormal=False)
)


@given(frames, frames)
def test_a_matrix_survives_the_way_through_working_pixels(fixed: Frame, moving: Frame) -> None:
    there = Frames(fixed, moving)
    back = there.to_files(Transform(there.from_files(MATRIX)))
    np.testing.assert_allclose(project(back.matrix, PLACES), project(MATRIX, PLACES), atol=1e-4)


@given(frames, frames)
def test_transforms_and_points_go_to_the_files_alike(fixed: Frame, moving: Frame) -> None:
    there = Frames(fixed, moving)
    in_files = there.to_files(Transform(MATRIX, BEND))
    expected = fixed.to_file(Transform(MATRIX, BEND).forward(PLACES))
    np.testing.assert_allclose(in_files.forward(moving.to_file(PLACES)), expected, atol=1e-4)


@given(frames)
def test_points_return_from_the_file(frame: Frame) -> None:
    np.testing.assert_allclose(frame.from_file(frame.to_file(PLACES)), PLACES, atol=1e-7)


@given(frames, st.floats(1, 9))
def test_finer_pixels_lie_in_the_same_part_of_the_file(frame: Frame, step: float) -> None:
    finer = Frames(frame, frame).finer(step)
    outline = np.array([(-0.5, -0.5), (99.5, 49.5)])
    np.testing.assert_allclose(frame.to_file(outline), finer.fixed.to_file((outline + 0.5) * step - 0.5), rtol=1e-9)
    assert finer.fixed == finer.moving


@given(frames)
def test_a_part_of_a_frame_shows_the_same_places(frame: Frame) -> None:
    part = Rectangle(7, 9, 40, 30)
    np.testing.assert_allclose(frame.of(part).to_file(PLACES), frame.to_file(PLACES + np.array((7, 9))), rtol=1e-9)
    left, top, width, height = frame.in_file(part)
    assert (width, height) == (40 * frame.factor, 30 * frame.factor)
    np.testing.assert_allclose(frame.of(part).to_file(np.array([(-0.5, -0.5)])), [(left - 0.5, top - 0.5)], rtol=1e-9)


@given(frames, frames)
def test_tie_points_keep_their_scores_and_their_errors_become_file_pixels(fixed: Frame, moving: Frame) -> None:
    points = TiePoints(PLACES, PLACES[::-1], np.array([0.5, 0.7, np.nan]), np.array([0.25, np.nan, 1.0]))
    found = Frames(fixed, moving).tie_points_to_files(points)
    np.testing.assert_array_equal(found.fixed, fixed.to_file(PLACES))
    np.testing.assert_array_equal(found.moving, moving.to_file(PLACES[::-1]))
    np.testing.assert_array_equal(found.score, points.score)
    np.testing.assert_allclose(found.agreement_px, np.array([0.25, np.nan, 1.0]) * fixed.factor)
    unchecked = Frames(fixed, moving).tie_points_to_files(TiePoints(PLACES, PLACES, points.score))
    assert unchecked.agreement_px is None


@given(frames)
def test_the_corner_of_a_working_image_is_where_it_was_cut_out(frame: Frame) -> None:
    """Pixel centres are whole numbers, so that the outer corner of the first pixel lies half a pixel before it."""
    corner = frame.to_file(np.array([(-0.5, -0.5)]))
    np.testing.assert_allclose(corner, [(frame.left - 0.5, frame.top - 0.5)], rtol=1e-12, atol=1e-9)


def test_lengths_are_rounded_and_unknown_ones_stay_unknown() -> None:
    there = Frames(Frame(3.0), Frame(1.0))
    assert there.in_file_px(0.12345) == 0.37
    assert there.in_file_px(float("nan")) is None
    assert there.in_file_px(float("inf")) is None
    assert there.in_file_px(None) is None

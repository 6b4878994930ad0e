"""Boxes of whole pixels, and rectangles in pixels of any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.geometry.window import Box, Rectangle

edges = st.integers(-30, 30)
boxes = st.builds(lambda t, h, x, w: Box(t, t + h, x, x + w), edges, st.integers(0, 40), edges, st.integers(0, 40))


def covered(parts: list[Box], whole: Box) -> np.ndarray:
    """Count the parts that hold each pixel of a box."""
    count = np.zeros(whole.shape, int)
    for part in parts:
        count[part.slices_from(whole)] += 1
    return count


@given(whole=boxes, size=st.integers(1, 50))
def test_blocks_strips_and_quarters_hold_each_pixel_once(whole: Box, size: int) -> None:
    for parts in (list(whole.blocks(size)), list(whole.strips(size)), list(whole.quarters())):
        assert (covered(parts, whole) == 1).all()
    assert all(max(block.shape) <= size and not block.empty for block in whole.blocks(size))
    assert all(strip.shape[1] == whole.shape[1] for strip in whole.strips(size))


@given(whole=boxes, n_pixels=st.integers(1, 2000))
def test_strips_hold_about_the_pixels_that_were_requested(whole: Box, n_pixels: int) -> None:
    for strip in whole.strips(n_pixels):
        assert strip.shape[0] == 1 or strip.shape[0] * strip.shape[1] <= n_pixels


def test_blocks_come_row_by_row_and_the_last_are_smaller() -> None:
    blocks = list(Box(0, 5, 10, 17).blocks(4))
    assert blocks == [Box(0, 4, 10, 14), Box(0, 4, 14, 17), Box(4, 5, 10, 14), Box(4, 5, 14, 17)]


def test_a_single_pixel_has_one_quarter() -> None:
    assert list(Box(3, 4, 5, 6).quarters()) == [Box(3, 4, 5, 6)]
    assert list(Box(3, 4, 5, 7).quarters()) == [Box(3, 4, 5, 6), Box(3, 4, 6, 7)]


@given(one=boxes, other=boxes)
def test_what_two_boxes_share_lies_in_both_and_they_lie_in_what_is_around_them(one: Box, other: Box) -> None:
    shared, around = one.within(other), one.around(other)
    if not shared.empty:
        assert shared.within(one) == shared == shared.within(other)
    assert one.within(around) == one
    assert other.within(around) == other
    assert around == other.around(one)


@given(one=boxes, other=boxes)
def test_boxes_share_exactly_their_common_pixels(one: Box, other: Box) -> None:
    def pixels(box: Box) -> set[tuple[int, int]]:
        return {(row, column) for row in range(box.top, box.bottom) for column in range(box.left, box.right)}

    shared = one.within(other)
    assert pixels(shared) == pixels(one) & pixels(other)
    assert min(shared.shape) >= 0


def test_boxes_apart_share_nothing() -> None:
    shared = Box(0, 5, 0, 5).within(Box(10, 20, 10, 20))
    assert shared.empty
    assert list(shared.blocks(3)) == list(shared.quarters()) == []


def test_a_box_as_rasterio_has_it() -> None:
    window = Box(12, 20, 30, 37).window(origin=(10, 25))
    assert (window.row_off, window.col_off, window.height, window.width) == (2, 5, 8, 7)
    assert Box.of_shape((3, 4)) == Box(0, 3, 0, 4)


def test_slices_cut_the_box_out_of_an_array_of_another() -> None:
    whole = Box(10, 20, 100, 130)
    array = np.arange(300).reshape(10, 30)
    assert array[Box(12, 14, 105, 108).slices_from(whole)].tolist() == [[65, 66, 67], [95, 96, 97]]


@given(st.lists(st.tuples(st.floats(-20, 120), st.floats(-20, 120)), min_size=1, max_size=8))
def test_a_rectangle_around_points_holds_those_of_the_image(points: list[tuple[float, float]]) -> None:
    places = np.array(points)
    found = Rectangle.around(places, (50, 80))
    if found is None:
        outside = (places.max(axis=0) <= -1).any() or (places.min(axis=0) >= (80, 50)).any()
        assert outside
        return
    assert found.left >= 0 and found.top >= 0
    assert found.left + found.width <= 80 and found.top + found.height <= 50
    in_image = places[((places >= 0) & (places <= (79, 49))).all(axis=1)]
    low, high = np.array(found[:2]), np.array(found[:2]) + np.array(found[2:]) - 1
    assert ((in_image >= low) & (in_image <= high)).all()


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(2.2, 3.0), (5.7, 4.1)], (2, 3, 5, 3)),
        ([(-9.0, 3.0), (500.0, 4.0)], (0, 3, 80, 2)),
        ([(90.0, 3.0), (95.0, 4.0)], None),
    ],
)
def test_rectangles_are_of_whole_pixels(points: list[tuple[float, float]], expected: tuple[int, ...] | None) -> None:
    assert Rectangle.around(np.array(points), (50, 80)) == expected


def test_corners_are_pixel_centres() -> None:
    assert Rectangle(3, 4, 10, 20).corners.tolist() == [[3, 4], [12, 4], [12, 23], [3, 23]]

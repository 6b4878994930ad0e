"""Rectangles of pixels."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.geometry.window import Box

edges = st.integers(-30, 30)
boxes = st.builds(lambda t, h, x, w: Box(t, t + h, x, x + w), edges, st.integers(0, 40), edges, st.integers(0, 40))


def covered(parts: list[Box], whole: Box) -> np.ndarray:
    """How often each pixel of a box is in one of its parts."""
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


@given(one=boxes, other=boxes)
def test_what_two_boxes_share_lies_in_both_and_they_lie_in_what_is_around_them(one: Box, other: Box) -> None:
    shared, around = one.within(other), one.around(other)
    if not shared.empty:
        assert shared.within(one) == shared == shared.within(other)
    assert one.within(around) == one
    assert other.within(around) == other


def test_a_box_as_rasterio_has_it() -> None:
    window = Box(12, 20, 30, 37).window(origin=(10, 25))
    assert (window.row_off, window.col_off, window.height, window.width) == (2, 5, 8, 7)
    assert Box.of_shape((3, 4)) == Box(0, 3, 0, 4)

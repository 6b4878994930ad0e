"""The way back from output pixels to the source."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.config import Resampling
from rrl_register.errors import UsageError
from rrl_register.geometry.transforms import project
from rrl_register.geometry.window import Box
from rrl_register.warping import inverse_map
from rrl_register.warping.interpolation import MARGIN, SamplePoints, as_dtype, interpolate
from rrl_register.warping.inverse_map import InverseMap, facing_forward

SOURCE = (90, 120)
TILTED = np.array([[0.94, 0.12, 5.3], [-0.1, 1.05, -3.7], [1e-4, -2e-4, 1]])
BLOCK = Box(8, 40, 16, 64)


def places_of(warp: InverseMap, box: Box) -> np.ndarray:
    """Where each pixel of a box looks, (h, w, 2), px of the source; NaN outside."""
    found = np.full((*box.shape, 2), np.nan)
    for patch in warp.patches(box):
        rows, columns = patch.box.slices_from(box)
        points = patch.points
        x = points.index % points.columns + patch.window.left + points.fx.astype(float)
        y = points.index // points.columns + patch.window.top + points.fy.astype(float)
        inside = np.ones(patch.box.shape, bool) if patch.inside is None else patch.inside
        found[rows, columns][inside] = np.column_stack([x, y])
    return found


@given(dx=st.floats(-60, 60), dy=st.floats(-60, 60), scale=st.floats(0.6, 4))
def test_pixels_look_where_the_inverse_leads_and_nowhere_outside(dx: float, dy: float, scale: float) -> None:
    matrix = np.array([[scale, 0, dx], [0, scale, dy], [0, 0, 1]]) @ TILTED
    found = places_of(InverseMap.onto(matrix, SOURCE, Resampling.CUBIC), BLOCK)
    rows, columns = np.mgrid[BLOCK.top : BLOCK.bottom, BLOCK.left : BLOCK.right]
    exact = project(np.linalg.inv(matrix), np.column_stack([columns.ravel(), rows.ravel()])).reshape(found.shape)
    known = np.isfinite(found).all(axis=2)
    assert np.abs(found - exact)[known].max(initial=0) < 2e-6
    inside = np.all((exact > -0.49) & (exact < (SOURCE[1] - 0.51, SOURCE[0] - 0.51)), axis=2)
    outside = np.any((exact < -0.51) | (exact > (SOURCE[1] - 0.49, SOURCE[0] - 0.49)), axis=2)
    assert known[inside].all() and not known[outside].any()


def test_a_block_that_needs_too_much_is_cut_and_looks_at_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    warp = InverseMap.onto(TILTED, SOURCE, Resampling.CUBIC)
    whole = places_of(warp, BLOCK)
    monkeypatch.setattr(inverse_map, "_MAX_WINDOW_PX", 400)
    assert len(list(warp.patches(BLOCK))) > 1
    assert np.array_equal(places_of(warp, BLOCK), whole, equal_nan=True)


@given(top=st.integers(-40, 120), left=st.integers(-40, 160), size=st.integers(1, 50))
def test_the_window_of_a_block_holds_every_pixel_that_a_kernel_reaches(top: int, left: int, size: int) -> None:
    warp, box = InverseMap.onto(TILTED, SOURCE, Resampling.CUBIC), Box(top, top + size, left, left + size)
    window, places = warp.window(box), places_of(warp, box)
    known = places[np.isfinite(places).all(axis=2)]
    if len(known) == 0:
        assert window.empty
        return
    low, high = np.floor(known).min(axis=0) - MARGIN[0], np.floor(known).max(axis=0) + MARGIN[1] + 1
    reach = Box(int(low[1]), int(high[1]), int(low[0]), int(high[0])).within(Box.of_shape(SOURCE))
    assert window.within(reach) == reach


def test_labels_are_not_averaged_and_images_are() -> None:
    smaller = np.diag([1 / 3, 1 / 3, 1.0])
    assert InverseMap.onto(smaller, SOURCE, Resampling.CUBIC).factor == 3
    assert InverseMap.onto(smaller, SOURCE, Resampling.NEAREST).factor == 1
    assert InverseMap.onto(np.diag([3.0, 3.0, 1.0]), SOURCE, Resampling.CUBIC).factor == 1


@given(gain=st.floats(0.01, 100), sign=st.sampled_from([-1, 1]))
def test_the_scale_of_a_matrix_does_not_matter(gain: float, sign: int) -> None:
    np.testing.assert_allclose(facing_forward(sign * gain * TILTED, SOURCE), facing_forward(TILTED, SOURCE), rtol=1e-9)


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.ones((3, 3)), np.eye(2), np.full((3, 3), np.nan)])
def test_a_matrix_without_inverse_is_refused_in_one_line(matrix: np.ndarray) -> None:
    with pytest.raises(UsageError, match="has no inverse") as caught:
        facing_forward(matrix, SOURCE)
    assert "\n" not in str(caught.value)


@given(
    value=st.floats(-1e20, 1e20),
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]),
    work=st.sampled_from(["float32", "float64"]),
)
def test_integers_are_rounded_and_never_wrap(value: float, dtype: str, work: str) -> None:
    limits, given = np.iinfo(dtype), np.array([value], work)
    found = int(as_dtype(given, dtype)[0])
    nearest = min(max(int(np.rint(given[0])), limits.min), limits.max)
    assert abs(found - nearest) <= (0 if abs(nearest) < 2**23 else np.spacing(given[0].dtype.type(abs(nearest))))


@given(x=st.floats(0, 1, exclude_max=True, width=32), y=st.floats(0, 1, exclude_max=True, width=32))
def test_planes_are_interpolated_exactly(x: float, y: float) -> None:
    rows, columns = np.mgrid[:6, :6].astype(np.float64)
    points = SamplePoints(6, np.array([2 * 6 + 2]), np.array([x], np.float32), np.array([y], np.float32))
    for method in (Resampling.BILINEAR, Resampling.CUBIC):
        values, known = interpolate(2 * columns - 3 * rows, None, points, method, np.float64)
        assert values[0] == pytest.approx(2 * (2 + x) - 3 * (2 + y), abs=1e-6)
        assert known[0]

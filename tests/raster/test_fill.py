"""Pixels without a measurement that no tag declares: borders, lines and blocks, and what must not be taken for them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rrl_register.raster.region import all_zero, black_border, bridge_lines, find_missing, missing_blocks, missing_lines

NO_BORDER = np.zeros((100, 100), bool)


def even(value: float = 50, bands: int = 1) -> np.ndarray:
    return np.full((bands, 100, 100), value, np.float32)


def test_dark_content_is_no_border() -> None:
    image = even()
    image[0, 40:60, 30:70] = 0
    assert not black_border(image).any()


def test_a_black_strip_along_an_edge_is_fill() -> None:
    image = even()
    image[0, :, :8] = 0
    fill = black_border(image, grow=2)
    assert fill[:, :10].all()
    assert not fill[:, 10:].any()


def test_fill_has_to_be_black_in_all_bands() -> None:
    image = even(bands=2)
    image[0, :, :8] = 0
    assert not black_border(image).any()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_ringing_belongs_to_the_border(rng: np.random.Generator, suffix: str) -> None:
    """Also in a file that was a JPEG once and says nothing of it."""
    image = rng.integers(60, 250, (200, 200), dtype=np.uint8)
    inside = cv2.fillConvexPoly(np.zeros_like(image), np.array([(100, 5), (195, 100), (100, 195), (5, 100)]), 1) > 0
    coded = cv2.imencode(".jpg", np.where(inside, image, 0).astype(np.uint8), (cv2.IMWRITE_JPEG_QUALITY, 85))[1]
    decoded = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    fill = black_border(decoded[None].astype(np.float32), tolerance=8, grow=4 if suffix == ".jpg" else 2)
    margin = cv2.dilate(inside.astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
    assert fill[~margin].all()
    assert fill[~inside].mean() > 0.95
    assert not fill[cv2.erode(inside.astype(np.uint8), np.ones((11, 11), np.uint8)) > 0].any()


def test_a_night_scene_is_not_fill(rng: np.random.Generator) -> None:
    night = rng.integers(1, 8, (1, 100, 100)).astype(np.float32)
    assert not black_border(night, tolerance=8).any()


def test_the_dark_between_lights_is_a_measurement(rng: np.random.Generator) -> None:
    """Streets of lamps, and 0 in between up to the corners of the image."""
    lights = np.zeros((200, 200), np.float32)
    for x, y in rng.integers(10, 190, (60, 2)):
        cv2.circle(lights, (int(x), int(y)), 3, 200.0, -1)
    assert black_border(lights[None]).any()
    assert not find_missing(lights[None]).any()


def test_the_frame_of_a_small_scene_is_missing_whatever_specks_lie_in_it(rng: np.random.Generator) -> None:
    image = np.zeros((200, 200), np.float32)
    inside = (
        cv2.fillConvexPoly(np.zeros(image.shape, np.uint8), np.array([(60, 40), (120, 60), (100, 120), (40, 100)]), 1)
        > 0
    )
    image[inside] = rng.integers(50, 200, np.count_nonzero(inside))
    image[tuple(rng.integers(0, 200, (2, 30)))] = 9
    missing = find_missing(image[None])
    assert missing[~inside].mean() > 0.99
    assert not missing[cv2.erode(inside.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0].any()


def test_of_a_night_scene_beside_fill_a_strip_is_lost_and_no_more(rng: np.random.Generator) -> None:
    night = rng.integers(1, 8, (1, 100, 100)).astype(np.float32)
    night[:, :, :20] = 0
    fill = black_border(night, tolerance=8)
    assert fill[:, :20].all()
    assert not fill[:, 40:].any()


def test_lost_lines_are_found_between_borders() -> None:
    image = even()
    border = np.zeros((100, 100), bool)
    border[:, :10] = True
    image[:, 30:33] = image[:, :, 70] = 0
    lines = missing_lines(all_zero(image) | border, border)
    assert np.array_equal(lines, (image[0] == 0) & ~border)


def test_a_dark_row_with_one_bright_pixel_is_no_lost_line() -> None:
    image = even()
    image[:, 30] = 0
    image[:, 30, 50] = 1
    assert not missing_lines(all_zero(image), NO_BORDER).any()


def test_lost_tiles_and_pieces_of_lines_are_found() -> None:
    image = even()
    image[:, 20:30, 40:56] = image[:, 60, 10:50] = 0
    missing = missing_blocks(all_zero(image), NO_BORDER)
    assert np.array_equal(missing, image[0] == 0)


def test_dark_content_is_no_lost_tile() -> None:
    image = even()
    image[:, cv2.circle(np.zeros((100, 100), np.uint8), (50, 50), 20, 1, -1) > 0] = 0
    image[:, 5:8, 5:8] = 0
    assert not missing_blocks(all_zero(image), NO_BORDER).any()


RAMPS = {
    "rows": np.tile(np.arange(1, 101, dtype=np.float32)[:, None], (2, 1, 100)),
    "columns": np.tile(np.arange(1, 101, dtype=np.float32), (2, 100, 1)),
}


@pytest.mark.parametrize("along", RAMPS)
def test_narrow_lines_are_interpolated_and_wide_ones_are_not(along: str) -> None:
    lines = np.zeros((100, 100), bool)
    lines[20:24] = lines[50:60] = lines[99] = True
    lines = lines if along == "rows" else lines.T
    image = np.where(lines, 0, RAMPS[along]).astype(np.float32)
    bridge_lines(image, ~NO_BORDER)
    kept = image if along == "rows" else image.swapaxes(1, 2)
    assert np.allclose(kept[:, 20:24], np.array([21, 22, 23, 24])[:, None])
    assert not kept[:, 50:60].any()
    assert not kept[:, 99].any()


def test_nothing_is_interpolated_from_what_is_not_valid() -> None:
    image = even()
    image[:, 30:32] = 0
    image[:, 29, :50] = -9999
    bridge_lines(image, image[0] != -9999)
    assert np.all(image[:, 30:32, 50:] == 50)
    assert not image[:, 30:32, :50].any()


def test_a_line_across_a_black_border_is_interpolated_between_the_borders_only() -> None:
    image = even()
    image[:, :, :10] = 0
    image[:, 30:33] = 0
    bridge_lines(image, ~NO_BORDER)
    assert np.all(image[:, :, 10:] == 50)
    assert not image[:, :, :10].any()

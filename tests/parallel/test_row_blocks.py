from __future__ import annotations

import numpy as np
import pytest

from rrl_register.parallel import BLOCK_ROWS, map_row_blocks


@pytest.mark.parametrize("height", [0, 1, BLOCK_ROWS, BLOCK_ROWS + 1, 5 * BLOCK_ROWS - 3])
def test_every_row_is_worked_on_once(height: int) -> None:
    counts = np.zeros(height, int)

    def work(rows: slice) -> None:
        assert 0 < rows.stop - rows.start <= BLOCK_ROWS
        counts[rows] += 1

    map_row_blocks(work, height)
    assert (counts == 1).all()


@pytest.mark.parametrize("height", [1, 3 * BLOCK_ROWS])
def test_what_goes_wrong_in_a_strip_is_raised(height: int) -> None:
    def work(rows: slice) -> None:
        raise ValueError(rows)

    with pytest.raises(ValueError, match="slice"):
        map_row_blocks(work, height)


def test_blocks_together_are_the_whole_image() -> None:
    image = np.random.default_rng(0).normal(size=(3 * BLOCK_ROWS + 7, 20))
    squared = np.empty_like(image)

    def work(rows: slice) -> None:
        np.square(image[rows], out=squared[rows])

    map_row_blocks(work, len(image))
    np.testing.assert_array_equal(squared, image**2)

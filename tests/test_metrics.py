"""FPR95 against an independent ROC curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve as independent_roc_curve

from rrl_register.training.metrics import fpr95, roc_curve

few_values = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8, 1.0])
labelled = st.lists(st.tuples(st.booleans(), few_values | st.floats(0, 1)), min_size=2, max_size=60).filter(
    lambda pairs: len({matches for matches, _ in pairs}) == 2
)


def independent_fpr95(labels: np.ndarray, scores: np.ndarray) -> float:
    false, true, _ = independent_roc_curve(labels, scores, drop_intermediate=False)
    # Of points of one recall the leftmost counts: no wrong pair has to be let in for it.
    recall, first = np.unique(true, return_index=True)
    return 100 * float(np.interp(0.95, recall, false[first] if 0.95 in recall else false[_last(true)]))


def _last(true: np.ndarray) -> np.ndarray:
    return np.searchsorted(true, np.unique(true), side="right") - 1


@given(labelled)
def test_the_curve_and_its_reading_are_those_of_scikit_learn(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    false, true = roc_curve(labels, scores)
    expected_false, expected_true, _ = independent_roc_curve(labels, scores, drop_intermediate=False)
    assert np.allclose(false, expected_false)
    assert np.allclose(true, expected_true)

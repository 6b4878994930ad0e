"""FPR95 and AUC against an independent ROC curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as independent_roc_curve

from rrl_register.training.validation import auc, fpr95, roc_curve

few_values = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8, 1.0])
labelled = st.lists(st.tuples(st.booleans(), few_values | st.floats(0, 1)), min_size=2, max_size=60).filter(
    lambda pairs: len({matches for matches, _ in pairs}) == 2
)


def independent_fpr95(labels: np.ndarray, scores: np.ndarray) -> float:
    false, true, _ = independent_roc_curve(labels, scores, drop_intermediate=False)
    exact = false[true == 0.95]
    return 100 * float(exact.min() if len(exact) else np.interp(0.95, true, false))


@given(labelled)
def test_the_curve_and_its_reading_are_those_of_scikit_learn(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    false, true = roc_curve(labels, scores)
    expected_false, expected_true, _ = independent_roc_curve(labels, scores, drop_intermediate=False)
    assert np.allclose(false, expected_false)
    assert np.allclose(true, expected_true)
    assert np.isclose(fpr95(labels, scores), independent_fpr95(labels, scores))


@given(labelled)
def test_the_area_is_that_of_scikit_learn(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    assert np.isclose(auc(labels, scores), roc_auc_score(labels, scores))


@given(labelled)
def test_the_order_of_the_pairs_does_not_matter(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = zip(*pairs, strict=True)
    assert fpr95(labels, scores) == fpr95(labels[::-1], scores[::-1])


@given(labelled, st.floats(0.1, 10), st.floats(-5, 5))
def test_only_the_order_of_the_scores_matters(pairs: list[tuple[bool, float]], gain: float, offset: float) -> None:
    labels = [matches for matches, _ in pairs]
    ranks = np.unique([score for _, score in pairs], return_inverse=True)[1]
    assert fpr95(labels, gain * ranks + offset) == fpr95(labels, [score for _, score in pairs])


def test_scores_that_part_the_classes_let_nothing_wrong_in() -> None:
    assert fpr95([1] * 40 + [0] * 40, np.r_[np.linspace(0.6, 1, 40), np.linspace(0, 0.5, 40)]) == 0
    assert fpr95([1] * 40 + [0] * 40, np.r_[np.linspace(0, 0.5, 40), np.linspace(0.6, 1, 40)]) == 100


def test_between_two_recalls_the_curve_is_a_line() -> None:
    """Ten matches: at recall 0.9 one of four wrong pairs is in, at recall 1, one score lower, all are."""
    labels = [1] * 9 + [0] + [1] + [0] * 3
    scores = [9.0] * 9 + [8.0] + [7.0] * 4
    assert fpr95(labels, scores) == pytest.approx(25 + 0.5 * 75)


def test_at_exactly_95_in_100_no_further_wrong_pair_counts() -> None:
    labels = [1] * 19 + [0] * 4 + [1]
    assert fpr95(labels, np.arange(24, 0, -1)) == 0


def test_one_score_for_all_is_no_better_than_chance() -> None:
    assert fpr95([1, 0, 1, 0, 0], [0.5] * 5) == pytest.approx(95)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_scores_are_ties_as_well(value: float) -> None:
    assert fpr95([1, 0, 1, 0], [value] * 4) == pytest.approx(95)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [0.1, 0.2], "2 of 2 pairs match"),
        ([0, 0], [0.1, 0.2], "0 of 2 pairs match"),
        ([], [], "both classes are needed"),
        ([1, 0], [0.1, np.nan], "NaN"),
        ([1, 0], [0.1, 0.2, 0.3], "one length"),
        ([[1, 0]], [[0.1, 0.2]], "two vectors"),
    ],
)
def test_what_makes_no_curve_is_refused(labels: list[int], scores: list[float], message: str) -> None:
    for measure in (fpr95, auc):
        with pytest.raises(ValueError, match=message):
            measure(labels, scores)

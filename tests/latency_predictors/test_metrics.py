"""Scores against values worked out by hand."""

import math

import numpy as np
import pytest

from latency_predictors.base import Prediction
from latency_predictors.metrics import Scores, scores


def test_scores_are_the_hand_made_values() -> None:
    mean = np.array([1.0, 2.1, 2.9, 5.2])
    measured = np.array([1.0, 2.0, 4.0, 3.0])
    found = scores(Prediction(mean, mean * 0.9, mean * 1.1), measured)
    assert found.rows == 4
    assert found.mape == pytest.approx((0 + 0.05 + 0.275 + 2.2 / 3) / 4)
    assert found.log_error == pytest.approx((0 + math.log(1.05) + math.log(4 / 2.9) + math.log(5.2 / 3)) / 4)
    assert found.within_10 == 0.5
    assert found.spearman == pytest.approx(1 - 6 * 2 / (4 * 15))  # two ranks swapped
    assert found.kendall == pytest.approx((5 - 1) / 6)
    assert found.coverage == 0.5
    assert found.interval_width == pytest.approx(0.2)


def test_constant_predictions_rank_nothing() -> None:
    mean = np.ones(3)
    found = scores(Prediction(mean, mean, mean), np.array([1.0, 2.0, 3.0]))
    assert (found.spearman, found.kendall) == (0, 0)


def test_the_mean_of_scores_keeps_the_number_of_rows() -> None:
    one, other = Scores(8, 0.1, 0.1, 1.0, 0.9, 0.8, 0.7, 0.6), Scores(8, 0.3, 0.3, 0.0, 0.7, 0.6, 0.5, 0.4)
    mean = Scores.mean([one, other])
    assert mean.rows == 8
    assert mean.mape == pytest.approx(0.2)
    assert mean.interval_width == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("measured", "message"),
    [([1.0], "a measured value for each prediction"), ([1.0, 0.0], "above zero"), ([1.0, math.nan], "finite")],
)
def test_measured_values_that_cannot_be_compared_are_refused(measured: list[float], message: str) -> None:
    mean = np.ones(2)
    with pytest.raises(ValueError, match=message):
        scores(Prediction(mean, mean, mean), np.array(measured))

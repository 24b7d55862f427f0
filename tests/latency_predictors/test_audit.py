"""The audit and the drift rule on a device of known truth."""

import numpy as np
import pytest

from latency_predictors.architecture_features import FEATURE_NAMES
from latency_predictors.audit import choose_rows, contradicted, judge
from latency_predictors.base import LatencyPredictor
from latency_predictors.drift import Drift, find_drift
from latency_predictors.features import network_features
from latency_predictors.linear import LinearPredictor
from tests.latency_predictors.roofline import roofline_ms, tiny_networks

NETWORKS = tiny_networks(1000, seed=3)
FEATURES, TRUE_MS = network_features(NETWORKS), roofline_ms(NETWORKS)


def audit(values: np.ndarray, seed: int) -> bool:
    rng = np.random.default_rng(seed)
    rows = choose_rows(FEATURES, values, None, FEATURE_NAMES, rng)
    assert len(set(rows)) == len(rows) == 30
    fresh = TRUE_MS[rows] * np.exp(rng.normal(0, 0.01, len(rows)))
    return judge(contradicted(values[rows], np.zeros(30), fresh, np.full(30, 0.02))).passed


def test_an_honest_set_passes_and_a_set_with_a_tenth_of_changed_rows_does_not() -> None:
    passed, caught = 0, 0
    for seed in range(20):
        honest = TRUE_MS * np.exp(np.random.default_rng(seed).normal(0, 0.01, len(TRUE_MS)))
        slowest = honest.copy()
        slowest[np.argsort(TRUE_MS)[-100:]] *= 0.7  # large networks look fast: a model can learn that
        passed += audit(honest, seed)
        caught += not audit(slowest, seed)
    assert passed == 20
    assert caught >= 19


def test_intervals_are_taken_into_account() -> None:
    stored, fresh = np.array([1.0, 1.0, 1.0]), np.array([1.04, 1.2, 1.2])
    halves = np.array([0.0, 0.0, 0.2])
    np.testing.assert_array_equal(contradicted(stored, halves, fresh, np.zeros(3)), [False, True, False])


@pytest.fixture(scope="module")
def predictor() -> LatencyPredictor:
    rng = np.random.default_rng(0)
    values = TRUE_MS[:100] * np.exp(rng.normal(0, 0.02, 100))
    return LinearPredictor("latency_ms", "d").fit_features(FEATURES[:100], values)


def _drift(predictor: LatencyPredictor, factor: float, seed: int, spread: float = 0.02) -> Drift:
    rng = np.random.default_rng(seed)
    rows = 100 + rng.choice(900, 15, replace=False)
    measured = factor * TRUE_MS[rows] * np.exp(rng.normal(0, spread, 15))
    return find_drift(predictor.predict_features(FEATURES[rows]), measured, 100)


def test_an_unchanged_device_rarely_drifts_and_a_changed_one_does(predictor: LatencyPredictor) -> None:
    assert sum(bool(_drift(predictor, 1.0, seed).reason) for seed in range(200)) <= 4
    slower = [_drift(predictor, 1.15, seed).reason for seed in range(50)]
    assert sum("above the predicted ones" in reason for reason in slower) >= 45
    assert sum("below the predicted ones" in _drift(predictor, 0.85, seed).reason for seed in range(50)) >= 45
    scattered = [_drift(predictor, 1.0, seed, spread=0.3).reason for seed in range(50)]
    assert sum("outside their 90 % interval" in reason for reason in scattered) >= 45


def test_few_rows_are_no_reason(predictor: LatencyPredictor) -> None:
    prediction = predictor.predict_features(FEATURES[100:102])
    found = find_drift(prediction, 0.97 * prediction.mean, 100)
    assert found.reason == ""
    assert (found.ratio_lower, found.ratio_upper) == (0.0, float("inf"))

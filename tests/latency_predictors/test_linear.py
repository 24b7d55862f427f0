"""Non-negative costs: recovered where they are the truth, and never below zero."""

import numpy as np

from latency_predictors.features import FEATURE_NAMES, network_features
from latency_predictors.linear import LinearPredictor
from tests.latency_predictors.roofline import CALL_MS, additive_ms, roofline_ms, tiny_networks

TRAIN, FRESH = tiny_networks(60, seed=1), tiny_networks(100, seed=2)


def test_additive_latencies_are_predicted_to_a_thousandth() -> None:
    predictor = LinearPredictor("latency_ms", "d").fit(TRAIN, additive_ms(TRAIN))
    np.testing.assert_allclose(predictor.predict(FRESH).mean, additive_ms(FRESH), rtol=2e-3)


def test_costs_are_above_zero_and_add_up_to_the_prediction() -> None:
    predictor = LinearPredictor("latency_ms", "d").fit(TRAIN, roofline_ms(TRAIN))
    costs = predictor.costs()
    assert all(cost > 0 for cost in costs.values())
    features = dict(zip(FEATURE_NAMES, network_features(FRESH[:1])[0], strict=True)) | {"constant": 1}
    total = sum(cost * features[name] for name, cost in costs.items())
    np.testing.assert_allclose(predictor.predict(FRESH[:1]).mean, total, rtol=1e-9)


def test_the_cost_of_a_call_is_found_where_calls_are_all_there_is() -> None:
    calls = network_features(TRAIN)[:, [name.endswith(".calls") and "level" not in name for name in FEATURE_NAMES]]
    predictor = LinearPredictor("latency_ms", "d").fit(TRAIN, CALL_MS * calls.sum(axis=1))
    fresh = network_features(FRESH)[:, [name.endswith(".calls") and "level" not in name for name in FEATURE_NAMES]]
    np.testing.assert_allclose(predictor.predict(FRESH).mean, CALL_MS * fresh.sum(axis=1), rtol=1e-3)
